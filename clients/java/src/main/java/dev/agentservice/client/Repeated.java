package dev.agentservice.client;

import io.grpc.Context;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.TimeUnit;
import java.util.function.Supplier;

/** The answer to a call that is made again, as it is, until the server is back. Canceled, its task is too. */
final class Repeated<R> extends CompletableFuture<R> implements AutoCloseable {
    private final Connection connection;
    private final Supplier<Attempt<?, R>> open;
    private final boolean attends;
    private final Patience patience;
    private final Context context = Context.current();
    private Attempt<?, R> attempt;

    private Repeated(Connection connection, Supplier<Attempt<?, R>> open, boolean attends) {
        this.connection = connection;
        this.open = open;
        this.attends = attends;
        this.patience = connection.patience();
    }

    /** Begin. {@code attends} says whether a task is canceled with the call. */
    static <R> Repeated<R> call(Connection connection, Supplier<Attempt<?, R>> open, boolean attends) {
        var repeated = new Repeated<>(connection, open, attends);
        connection.opened(repeated);
        repeated.whenComplete((answer, failed) -> connection.ended(repeated));
        repeated.begin();
        return repeated;
    }

    @Override
    public boolean cancel(boolean mayInterruptIfRunning) {
        boolean canceled = super.cancel(mayInterruptIfRunning);
        if (canceled) {
            leave();
        }
        return canceled;
    }

    @Override
    public void close() {
        cancel(true);
    }

    private void begin() {
        CompletableFuture<R> answer;
        synchronized (this) {
            if (isDone()) {
                return;
            }
            attempt = open.get();
            answer = attempt.only();
        }
        answer.whenComplete((value, failed) -> {
            if (failed == null) {
                complete(value);
            } else {
                beginAgain(failed instanceof CompletionException wrapped ? wrapped.getCause() : failed);
            }
        });
    }

    private void beginAgain(Throwable failed) {
        if (!(failed instanceof AgentServiceException error)) {
            completeExceptionally(failed);
            return;
        }
        if (!error.taskId().isEmpty()) {
            patience.renew();
        }
        patience.waitAfter(error)
                .ifPresentOrElse(
                        wait -> delayedExecutor(wait.toNanos(), TimeUnit.NANOSECONDS)
                                .execute(context.wrap(this::begin)),
                        () -> completeExceptionally(error));
    }

    private synchronized void leave() {
        if (attempt != null && attends) {
            connection.leave(attempt);
        } else if (attempt != null) {
            attempt.cancel();
        }
    }
}
