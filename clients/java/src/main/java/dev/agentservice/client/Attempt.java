package dev.agentservice.client;

import io.grpc.ClientCall;
import io.grpc.Context;
import io.grpc.Metadata;
import io.grpc.Status;
import java.util.Optional;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.function.Consumer;
import java.util.function.Function;

/**
 * One call on the wire, of one request and any number of responses, of which it knows the task before its end.
 *
 * @param <W> the response as it comes
 * @param <R> what it wraps
 */
final class Attempt<W, R> extends ClientCall.Listener<W> {
    static final Metadata.Key<String> TASK_ID = Metadata.Key.of("x-task-id", Metadata.ASCII_STRING_MARSHALLER);

    /** How many responses may lie here unread. The server holds back the rest. */
    private static final int AHEAD_MAX = 16;

    private static final Object END = new Object();

    private final ClientCall<?, W> call;
    private final Function<W, R> unwrap;
    private final Consumer<Boolean> heard;
    private final String server;
    private final BlockingQueue<Object> responses = new LinkedBlockingQueue<>();
    private final CompletableFuture<String> taskId = new CompletableFuture<>();
    private final CompletableFuture<Void> end = new CompletableFuture<>();
    /** Canceled, it ends the call. */
    private final Context context = Context.current();

    private volatile boolean isLeft;

    /** {@code heard} is told at every sign whether there was a server; {@code server} is its address. */
    private Attempt(ClientCall<?, W> call, Function<W, R> unwrap, Consumer<Boolean> heard, String server) {
        this.call = call;
        this.unwrap = unwrap;
        this.heard = heard;
        this.server = server;
    }

    static <Q, W, R> Attempt<W, R> start(
            ClientCall<Q, W> call, Q request, Function<W, R> unwrap, Consumer<Boolean> heard, String server) {
        var attempt = new Attempt<>(call, unwrap, heard, server);
        call.start(attempt, new Metadata());
        call.request(AHEAD_MAX);
        call.sendMessage(request);
        call.halfClose();
        return attempt;
    }

    /** The next response; empty once there are no more. Throws how the call ended, if that was not well. */
    Optional<R> next() throws InterruptedException {
        Object response = responses.take();
        if (response == END) {
            responses.add(END);
            Connection.join(end);
            return Optional.empty();
        }
        call.request(1);
        @SuppressWarnings("unchecked")
        R unwrapped = (R) response;
        return Optional.of(unwrapped);
    }

    /** The response of a call that has one. */
    @SuppressWarnings("unchecked")
    CompletableFuture<R> only() {
        return end.thenApply(nothing -> (R) responses.poll());
    }

    /** The task that the call is about, as soon as the server says so; empty where it ends without a word. */
    CompletableFuture<String> taskId() {
        return taskId.copy();
    }

    void cancel() {
        isLeft = true;
        call.cancel("left by its caller", null);
    }

    @Override
    public void onHeaders(Metadata headers) {
        heard.accept(true);
        taskId.complete(Optional.ofNullable(headers.get(TASK_ID)).orElse(""));
    }

    @Override
    public void onMessage(W response) {
        responses.add(unwrap.apply(response));
    }

    @Override
    public void onClose(Status status, Metadata trailers) {
        if (status.isOk()) {
            heard.accept(true);
            end.complete(null);
        } else {
            var headersTaskId = Optional.ofNullable(taskId.getNow(null));
            boolean isCallersEnd = isLeft || context.isCancelled();
            var error = AgentServiceException.of(status, trailers, headersTaskId, server, isCallersEnd);
            heard.accept(error.reached());
            end.completeExceptionally(error);
        }
        taskId.complete("");
        responses.add(END);
    }
}
