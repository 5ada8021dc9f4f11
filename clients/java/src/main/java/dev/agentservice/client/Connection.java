package dev.agentservice.client;

import dev.agentservice.v1.AgentServiceGrpc;
import dev.agentservice.v1.CancelTaskRequest;
import dev.agentservice.v1.CancelTaskResponse;
import io.grpc.CallOptions;
import io.grpc.Channel;
import io.grpc.ClientInterceptors;
import io.grpc.Deadline;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.stub.MetadataUtils;
import java.time.Duration;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.CancellationException;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.function.Function;

/** The way to one service: two connections, of which one is never full of calls that wait for tasks. */
final class Connection implements AutoCloseable {
    /** What is asked, of which method, and what its response wraps. */
    record Call<Q, W, R>(MethodDescriptor<Q, W> method, Q request, Function<W, R> unwrap) {}

    /** Which of the connections. */
    enum Lane {
        WORK,
        CONTROL
    }

    private static final Metadata.Key<String> API_KEY =
            Metadata.Key.of("x-api-key", Metadata.ASCII_STRING_MARSHALLER);

    /** How long a task that is left is given to hear of it. */
    private static final long LEAVE_S = 2;

    private final ManagedChannel work;
    private final ManagedChannel control;
    private final Metadata headers = new Metadata();
    private final Duration patience;
    private final Set<AutoCloseable> open = ConcurrentHashMap.newKeySet();
    private final Set<CompletableFuture<Void>> leaving = ConcurrentHashMap.newKeySet();
    private volatile boolean wasThere;

    Connection(ManagedChannel work, ManagedChannel control, String apiKey, Duration patience) {
        this.work = work;
        this.control = control;
        this.patience = patience;
        if (!apiKey.isEmpty()) {
            headers.put(API_KEY, apiKey);
        }
    }

    /** A server that was never reached is not there, rather than away for a while. */
    Patience patience() {
        return new Patience(patience, () -> wasThere);
    }

    /** Make the call, once. */
    <Q, W, R> Attempt<W, R> attempt(Lane lane, Call<Q, W, R> call, Optional<Deadline> deadline) {
        ManagedChannel channel = lane == Lane.WORK ? work : control;
        // After a failure grpc would wait for a second and, soon, for two minutes.
        channel.resetConnectBackoff();
        Channel keyed = ClientInterceptors.intercept(channel, MetadataUtils.newAttachHeadersInterceptor(headers));
        var options = deadline.map(CallOptions.DEFAULT::withDeadline).orElse(CallOptions.DEFAULT);
        return Attempt.start(
                keyed.newCall(call.method(), options),
                call.request(),
                call.unwrap(),
                reached -> wasThere = wasThere || reached,
                channel.authority());
    }

    /** Nobody waits for the call's task any more: tell it. The server finds out by itself too, a little later. */
    CompletableFuture<Void> leave(Attempt<?, ?> attempt) {
        CompletableFuture<Void> left = attempt.taskId()
                .completeOnTimeout("", LEAVE_S, TimeUnit.SECONDS)
                .thenCompose(this::cancelTask)
                .handle((nothing, failed) -> {
                    attempt.cancel();
                    return null;
                });
        leaving.add(left);
        left.thenRun(() -> leaving.remove(left));
        return left;
    }

    /** To be closed with this one. */
    void opened(AutoCloseable one) {
        open.add(one);
    }

    /** Has ended by itself. */
    void ended(AutoCloseable one) {
        open.remove(one);
    }

    /** End what is under way, and its tasks. */
    @Override
    public void close() {
        for (AutoCloseable one : open) {
            try {
                one.close();
            } catch (Exception neverThrown) {
                throw new AssertionError(neverThrown);
            }
        }
        awaitLeft(CompletableFuture.allOf(leaving.toArray(CompletableFuture<?>[]::new)));
        work.shutdownNow();
        control.shutdownNow();
    }

    /** Wait until a task has heard that it was left; not for ever, and not at all in a hurry. */
    static void awaitLeft(CompletableFuture<Void> left) {
        try {
            left.get(LEAVE_S, TimeUnit.SECONDS);
        } catch (InterruptedException hurry) {
            Thread.currentThread().interrupt();
        } catch (ExecutionException | TimeoutException late) {
            // The server finds out by itself.
        }
    }

    /** What comes of it. Interrupted, it is canceled. */
    static <R> R join(CompletableFuture<R> future) {
        try {
            return future.get();
        } catch (InterruptedException interrupted) {
            future.cancel(true);
            Thread.currentThread().interrupt();
            throw AgentServiceException.canceled("the thread was interrupted");
        } catch (CancellationException closed) {
            throw AgentServiceException.canceled("the client was closed");
        } catch (ExecutionException failed) {
            if (failed.getCause() instanceof AgentServiceException refused) {
                // Callers look for the line where they made the call, not for one of grpc's threads.
                refused.fillInStackTrace();
                throw refused;
            }
            throw new IllegalStateException(failed.getCause());
        }
    }

    private CompletableFuture<?> cancelTask(String taskId) {
        if (taskId.isEmpty()) {
            return CompletableFuture.completedFuture(null);
        }
        var request = CancelTaskRequest.newBuilder().setTaskId(taskId).build();
        var call = new Call<>(AgentServiceGrpc.getCancelTaskMethod(), request, CancelTaskResponse::getTask);
        return attempt(Lane.CONTROL, call, Optional.of(Deadline.after(LEAVE_S, TimeUnit.SECONDS)))
                .only();
    }
}
