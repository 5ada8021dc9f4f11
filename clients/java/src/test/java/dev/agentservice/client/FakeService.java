package dev.agentservice.client;

import com.google.protobuf.Any;
import com.google.protobuf.Message;
import com.google.rpc.ErrorInfo;
import com.google.rpc.Status;
import dev.agentservice.v1.AgentServiceGrpc;
import dev.agentservice.v1.CancelTaskRequest;
import dev.agentservice.v1.CancelTaskResponse;
import dev.agentservice.v1.GetTaskRequest;
import dev.agentservice.v1.GetTaskResponse;
import dev.agentservice.v1.RunTaskRequest;
import dev.agentservice.v1.RunTaskResponse;
import dev.agentservice.v1.StreamTaskRequest;
import dev.agentservice.v1.StreamTaskResponse;
import dev.agentservice.v1.TaskEvent;
import dev.agentservice.v1.WatchTaskRequest;
import dev.agentservice.v1.WatchTaskResponse;
import io.grpc.ForwardingServerCall.SimpleForwardingServerCall;
import io.grpc.Grpc;
import io.grpc.InsecureServerCredentials;
import io.grpc.Metadata;
import io.grpc.Server;
import io.grpc.ServerCall;
import io.grpc.ServerCallHandler;
import io.grpc.ServerCredentials;
import io.grpc.ServerInterceptor;
import io.grpc.health.v1.HealthCheckResponse.ServingStatus;
import io.grpc.protobuf.StatusProto;
import io.grpc.protobuf.services.HealthStatusManager;
import io.grpc.stub.StreamObserver;
import java.io.IOException;
import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.function.BiConsumer;
import java.util.stream.Stream;

/** A server at a free port whose answers a test sets, each for one call, in order; the last one stays. */
final class FakeService extends AgentServiceGrpc.AgentServiceImplBase implements AutoCloseable {
    static final String TASK_ID = "task-1";

    /** The requests that came, and the keys that they came with. */
    final List<Message> requests = new CopyOnWriteArrayList<>();

    final BlockingQueue<String> keys = new LinkedBlockingQueue<>();
    /** The tasks that were canceled. */
    final BlockingQueue<String> canceled = new LinkedBlockingQueue<>();
    /** The tasks of which the caller has heard. */
    final BlockingQueue<String> begun = new LinkedBlockingQueue<>();
    /** Whether calls are refused before there is a task. */
    volatile boolean refuses;

    private final BlockingQueue<BiConsumer<Message, StreamObserver<Message>>> answers = new LinkedBlockingQueue<>();
    private final HealthStatusManager health = new HealthStatusManager();
    private final Server server;

    FakeService() throws IOException {
        this(InsecureServerCredentials.create());
    }

    FakeService(ServerCredentials credentials) throws IOException {
        server = Grpc.newServerBuilderForPort(0, credentials)
                .addService(this)
                .addService(health.getHealthService())
                .intercept(new Headers())
                .build()
                .start();
        serve(true);
    }

    String target() {
        return "localhost:" + server.getPort();
    }

    void serve(boolean isReady) {
        var status = isReady ? ServingStatus.SERVING : ServingStatus.NOT_SERVING;
        health.setStatus("agent_service.v1.AgentService", status);
    }

    FakeService answer(BiConsumer<Message, StreamObserver<Message>> answer) {
        answers.add(answer);
        return this;
    }

    /** Answer with messages, then end well. */
    FakeService answer(Message... messages) {
        return answer((request, observer) -> {
            Stream.of(messages).forEach(observer::onNext);
            observer.onCompleted();
        });
    }

    /** Answer with messages, then break. */
    FakeService fail(RuntimeException error, Message... messages) {
        return answer((request, observer) -> {
            Stream.of(messages).forEach(observer::onNext);
            observer.onError(error);
        });
    }

    /** An error as the service tells it. */
    static RuntimeException error(io.grpc.Status.Code code, String reason, Message... details) {
        var status = Status.newBuilder().setCode(code.value()).setMessage("no");
        status.addDetails(Any.pack(ErrorInfo.newBuilder()
                .setReason(reason)
                .setDomain("agent-service")
                .putMetadata("rule", "default")
                .build()));
        Stream.of(details).map(Any::pack).forEach(status::addDetails);
        return StatusProto.toStatusRuntimeException(status.build());
    }

    static StreamTaskResponse event(TaskEvent.Builder event, long sequence) {
        return StreamTaskResponse.newBuilder()
                .setEvent(event.setTaskId(TASK_ID).setSequence(sequence))
                .build();
    }

    @Override
    public void close() {
        server.shutdownNow();
    }

    @Override
    public void runTask(RunTaskRequest request, StreamObserver<RunTaskResponse> observer) {
        take(request, observer);
    }

    @Override
    public void streamTask(StreamTaskRequest request, StreamObserver<StreamTaskResponse> observer) {
        take(request, observer);
    }

    @Override
    public void watchTask(WatchTaskRequest request, StreamObserver<WatchTaskResponse> observer) {
        take(request, observer);
    }

    @Override
    public void getTask(GetTaskRequest request, StreamObserver<GetTaskResponse> observer) {
        take(request, observer);
    }

    @Override
    public void cancelTask(CancelTaskRequest request, StreamObserver<CancelTaskResponse> observer) {
        canceled.add(request.getTaskId());
        observer.onNext(CancelTaskResponse.getDefaultInstance());
        observer.onCompleted();
    }

    @SuppressWarnings("unchecked")
    private void take(Message request, StreamObserver<?> observer) {
        requests.add(request);
        var answer = answers.size() > 1 ? answers.remove() : answers.element();
        answer.accept(request, (StreamObserver<Message>) observer);
    }

    /** Sends the task's id before anything else, as the service does once the task is stored. */
    private final class Headers implements ServerInterceptor {
        private static final Metadata.Key<String> KEY =
                Metadata.Key.of("x-api-key", Metadata.ASCII_STRING_MARSHALLER);

        @Override
        public <Q, W> ServerCall.Listener<Q> interceptCall(
                ServerCall<Q, W> call, Metadata headers, ServerCallHandler<Q, W> next) {
            String method = call.getMethodDescriptor().getBareMethodName();
            if (method.equals("RunTask") || method.equals("StreamTask")) {
                keys.add(String.valueOf(headers.get(KEY)));
                return next.startCall(new Named<>(call), headers);
            }
            return next.startCall(call, headers);
        }
    }

    /** A call whose headers name the task, unless it is refused at once. */
    private final class Named<Q, W> extends SimpleForwardingServerCall<Q, W> {
        private boolean isNamed;

        Named(ServerCall<Q, W> call) {
            super(call);
        }

        @Override
        public void request(int number) {
            super.request(number);
            if (!isNamed && !refuses) {
                isNamed = true;
                var headers = new Metadata();
                headers.put(Attempt.TASK_ID, TASK_ID);
                super.sendHeaders(headers);
                begun.add(TASK_ID);
            }
        }

        @Override
        public void sendHeaders(Metadata headers) {
            if (!isNamed) {
                super.sendHeaders(headers);
            }
        }
    }
}
