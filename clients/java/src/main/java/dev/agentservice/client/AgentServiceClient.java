package dev.agentservice.client;

import dev.agentservice.client.Connection.Call;
import dev.agentservice.client.Connection.Lane;
import dev.agentservice.v1.Agent;
import dev.agentservice.v1.AgentServiceGrpc;
import dev.agentservice.v1.CancelTaskRequest;
import dev.agentservice.v1.CancelTaskResponse;
import dev.agentservice.v1.DeleteSessionRequest;
import dev.agentservice.v1.DeleteSessionResponse;
import dev.agentservice.v1.DeleteTaskRequest;
import dev.agentservice.v1.GetTaskRequest;
import dev.agentservice.v1.GetTaskResponse;
import dev.agentservice.v1.GetUsageRequest;
import dev.agentservice.v1.GetUsageResponse;
import dev.agentservice.v1.InputAnswer;
import dev.agentservice.v1.ListAgentsRequest;
import dev.agentservice.v1.ListAgentsResponse;
import dev.agentservice.v1.ListTasksRequest;
import dev.agentservice.v1.ListTasksResponse;
import dev.agentservice.v1.ListToolsRequest;
import dev.agentservice.v1.ListToolsResponse;
import dev.agentservice.v1.OnDisconnect;
import dev.agentservice.v1.ResumeTaskRequest;
import dev.agentservice.v1.ResumeTaskResponse;
import dev.agentservice.v1.RunTaskRequest;
import dev.agentservice.v1.RunTaskResponse;
import dev.agentservice.v1.StreamTaskRequest;
import dev.agentservice.v1.StreamTaskResponse;
import dev.agentservice.v1.SubmitTaskRequest;
import dev.agentservice.v1.SubmitTaskResponse;
import dev.agentservice.v1.Task;
import dev.agentservice.v1.Tool;
import dev.agentservice.v1.ToolInvokeRequest;
import dev.agentservice.v1.ToolInvokeResponse;
import dev.agentservice.v1.UsageRow;
import dev.agentservice.v1.WatchTaskRequest;
import dev.agentservice.v1.WatchTaskResponse;
import io.grpc.ChannelCredentials;
import io.grpc.Deadline;
import io.grpc.InsecureChannelCredentials;
import io.grpc.MethodDescriptor;
import io.grpc.TlsChannelCredentials;
import io.grpc.health.v1.HealthCheckRequest;
import io.grpc.health.v1.HealthCheckResponse;
import io.grpc.health.v1.HealthCheckResponse.ServingStatus;
import io.grpc.health.v1.HealthGrpc;
import java.io.IOException;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.UUID;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.function.Function;
import java.util.regex.Pattern;

/**
 * Talks to one agent-service. Safe for many threads; one is enough for a program.
 *
 * <pre>{@code
 * try (var client = AgentServiceClient.connect("localhost:9000", key)) {
 *     System.out.println(client.run("What is 17.5% of 2340?").getOutput());
 * }
 * }</pre>
 *
 * <p>Calls wait for their answer and throw {@link AgentServiceException}. A thread that is interrupted meanwhile, a
 * future that is canceled, a stream that is closed, each cancels its task, unless that is detached.
 *
 * <p>A call whose server shuts down, or is away after it has been there, is made again for up to a minute, under the
 * same {@code request_id}: nothing is run twice, no event is seen twice. A refusal of new work, such as
 * RATE_LIMITED_CALLS or OVERLOADED, is thrown at once, with {@link AgentServiceException#retryAfter}.
 */
public final class AgentServiceClient implements AutoCloseable {
    private final String target;
    private final Connection connection;
    private final Optional<Duration> deadline;

    private AgentServiceClient(String target, Connection connection, Optional<Duration> deadline) {
        this.target = target;
        this.connection = connection;
        this.deadline = deadline;
    }

    /** A client without TLS. Connections are made when they are needed. */
    public static AgentServiceClient connect(String target, String apiKey) {
        return builder(target).apiKey(apiKey).build();
    }

    /** A client of {@code host:port}, or of any other target that grpc knows, such as {@code dns:///host:port}. */
    public static Builder builder(String target) {
        return new Builder(target);
    }

    /**
     * This client, on the same connections, whose calls each end by then: as DEADLINE_EXCEEDED, if nothing has before.
     * A task that is not detached ends a little earlier, so that its caller sees how.
     */
    public AgentServiceClient withDeadline(Duration deadline) {
        return new AgentServiceClient(target, connection, Optional.of(deadline));
    }

    /** Run a task until it has ended or waits for input. */
    public Task run(String task) {
        return run(RunTaskRequest.newBuilder().setTask(task).build());
    }

    /** As {@link #run(String)}, with all that can be said about a task. */
    public Task run(RunTaskRequest request) {
        return Connection.join(runAsync(request));
    }

    /** As {@link #run(RunTaskRequest)}. To cancel the future, this very one, cancels the task. */
    public CompletableFuture<Task> runAsync(RunTaskRequest request) {
        var call = new Call<>(AgentServiceGrpc.getRunTaskMethod(), identified(request), RunTaskResponse::getTask);
        return repeated(Lane.WORK, call, isAttended(request));
    }

    /** Run a task and follow it, event by event. */
    public TaskEvents stream(String task) {
        return stream(RunTaskRequest.newBuilder().setTask(task).build());
    }

    /** As {@link #stream(String)}, with all that can be said about a task. */
    public TaskEvents stream(RunTaskRequest request) {
        var run = StreamTaskRequest.newBuilder().setRun(identified(request)).build();
        var call = new Call<>(AgentServiceGrpc.getStreamTaskMethod(), run, StreamTaskResponse::getEvent);
        var until = until();
        // From the start each time: what was seen comes again, and is left out. Only so is the task attended.
        return new TaskEvents(
                connection, seen -> connection.attempt(Lane.WORK, call, until), 0, isAttended(request));
    }

    /** Have a task accepted, to run by itself. */
    public Task submit(String task) {
        return submit(RunTaskRequest.newBuilder().setTask(task).build());
    }

    /** As {@link #submit(String)}, with all that can be said about a task. */
    public Task submit(RunTaskRequest request) {
        var run = SubmitTaskRequest.newBuilder().setRun(identified(request)).build();
        return quick(AgentServiceGrpc.getSubmitTaskMethod(), run, SubmitTaskResponse::getTask);
    }

    /** Follow a task from its first event on, until it has ended or waits for input. Leaving changes nothing. */
    public TaskEvents watch(String taskId) {
        return watch(taskId, 0);
    }

    /** As {@link #watch(String)}, from the event behind this sequence on. */
    public TaskEvents watch(String taskId, long afterSequence) {
        var until = until();
        return new TaskEvents(
                connection,
                seen -> {
                    var request = WatchTaskRequest.newBuilder().setTaskId(taskId).setAfterSequence(seen).build();
                    var method = AgentServiceGrpc.getWatchTaskMethod();
                    var call = new Call<>(method, request, WatchTaskResponse::getEvent);
                    return connection.attempt(Lane.WORK, call, until);
                },
                afterSequence,
                false);
    }

    /** A task as it stands. */
    public Task getTask(String taskId) {
        var request = GetTaskRequest.newBuilder().setTaskId(taskId).build();
        return quick(AgentServiceGrpc.getGetTaskMethod(), request, GetTaskResponse::getTask);
    }

    /** A page of tasks, newest first. {@code next_page_token} leads to the next page. */
    public ListTasksResponse listTasks(ListTasksRequest request) {
        return quick(AgentServiceGrpc.getListTasksMethod(), request, Function.identity());
    }

    /** Stop a task for good. */
    public Task cancel(String taskId) {
        var request = CancelTaskRequest.newBuilder().setTaskId(taskId).build();
        return quick(AgentServiceGrpc.getCancelTaskMethod(), request, CancelTaskResponse::getTask);
    }

    /** Answer one of a task's pending inputs, with one of {@link Answers}. */
    public Task resume(String taskId, String inputId, InputAnswer answer) {
        var request = ResumeTaskRequest.newBuilder()
                .setTaskId(taskId)
                .setInputId(inputId)
                .setAnswer(answer)
                .build();
        return quick(AgentServiceGrpc.getResumeTaskMethod(), request, ResumeTaskResponse::getTask);
    }

    /** Erase a task that has ended. */
    public void deleteTask(String taskId) {
        var request = DeleteTaskRequest.newBuilder().setTaskId(taskId).build();
        once(new Call<>(AgentServiceGrpc.getDeleteTaskMethod(), request, Function.identity()));
    }

    /** Erase a session with all of its tasks; how many. */
    public int deleteSession(String sessionId) {
        var request = DeleteSessionRequest.newBuilder().setSessionId(sessionId).build();
        var method = AgentServiceGrpc.getDeleteSessionMethod();
        return once(new Call<>(method, request, DeleteSessionResponse::getTasksDeleted));
    }

    /** Run one tool. A tool that ran and failed is a response with {@code error} set. */
    public ToolInvokeResponse invokeTool(String name, Map<String, ?> inputs) {
        return invokeTool(ToolInvokeRequest.newBuilder()
                .setToolName(name)
                .setInputs(Values.struct(inputs))
                .build());
    }

    /** As {@link #invokeTool(String, Map)}, with all that can be said about a tool call. */
    public ToolInvokeResponse invokeTool(ToolInvokeRequest request) {
        return Connection.join(invokeToolAsync(request));
    }

    /** As {@link #invokeTool(ToolInvokeRequest)}. To cancel the future, this very one, cancels the tool call. */
    public CompletableFuture<ToolInvokeResponse> invokeToolAsync(ToolInvokeRequest request) {
        var named = request.toBuilder().setRequestId(orNew(request.getRequestId())).build();
        var method = AgentServiceGrpc.getToolInvokeMethod();
        return repeated(Lane.WORK, new Call<>(method, named, Function.identity()), true);
    }

    /** The agents that the key may use. */
    public List<Agent> listAgents() {
        var request = ListAgentsRequest.getDefaultInstance();
        return quick(AgentServiceGrpc.getListAgentsMethod(), request, ListAgentsResponse::getAgentsList);
    }

    /** The tools that the key may use. */
    public List<Tool> listTools() {
        var request = ListToolsRequest.getDefaultInstance();
        return quick(AgentServiceGrpc.getListToolsMethod(), request, ListToolsResponse::getToolsList);
    }

    /** What was used, summed up. */
    public List<UsageRow> getUsage(GetUsageRequest request) {
        return quick(AgentServiceGrpc.getGetUsageMethod(), request, GetUsageResponse::getRowsList);
    }

    /** The status of a name of the health service; of the whole server where it is empty. */
    public ServingStatus health(String service) {
        var request = HealthCheckRequest.newBuilder().setService(service).build();
        return once(new Call<>(HealthGrpc.getCheckMethod(), request, HealthCheckResponse::getStatus));
    }

    /** Close the connections. Calls under way end as CANCELLED, and their tasks are canceled as when they are left. */
    @Override
    public void close() {
        connection.close();
    }

    @Override
    public String toString() {
        return "AgentServiceClient[" + target + "]";
    }

    /** A call that does the same when it is made again. */
    private <Q, W, R> R quick(MethodDescriptor<Q, W> method, Q request, Function<W, R> unwrap) {
        return Connection.join(repeated(Lane.CONTROL, new Call<>(method, request, unwrap), false));
    }

    private <Q, W, R> R once(Call<Q, W, R> call) {
        return Connection.join(connection.attempt(Lane.CONTROL, call, until()).only());
    }

    private <Q, W, R> CompletableFuture<R> repeated(Lane lane, Call<Q, W, R> call, boolean attends) {
        var until = until();
        return Repeated.call(connection, () -> connection.attempt(lane, call, until), attends);
    }

    private Optional<Deadline> until() {
        return deadline.map(time -> Deadline.after(time.toNanos(), TimeUnit.NANOSECONDS));
    }

    private static RunTaskRequest identified(RunTaskRequest request) {
        return request.toBuilder().setRequestId(orNew(request.getRequestId())).build();
    }

    private static String orNew(String requestId) {
        return requestId.isEmpty() ? UUID.randomUUID().toString() : requestId;
    }

    private static boolean isAttended(RunTaskRequest request) {
        return request.getOnDisconnect() != OnDisconnect.ON_DISCONNECT_DETACH;
    }

    /** How to connect. */
    public static final class Builder {
        /** What files and secret stores leave around a key. Any other character may be part of a mistake. */
        private static final Pattern AROUND = Pattern.compile("^[ \\t\\r\\n\\x0B\\f]+|[ \\t\\r\\n\\x0B\\f]+\\z");

        private final String target;
        private String apiKey = "";
        private ChannelCredentials credentials = InsecureChannelCredentials.create();
        private Duration patience = Duration.ofSeconds(60);

        private Builder(String target) {
            this.target = target;
        }

        /**
         * The key that every call carries. White space around it is dropped; {@link #build} refuses one that no header
         * can carry, with the reason API_KEY_INVALID.
         */
        public Builder apiKey(String apiKey) {
            this.apiKey = AROUND.matcher(apiKey).replaceAll("");
            return this;
        }

        /** TLS, trusting whom Java trusts. */
        public Builder tls() {
            return credentials(TlsChannelCredentials.create());
        }

        /** TLS, trusting the certificates of a PEM file. */
        public Builder tls(Path trusted) throws IOException {
            return credentials(TlsChannelCredentials.newBuilder()
                    .trustManager(trusted.toFile())
                    .build());
        }

        /** Mutual TLS: trusting the certificates of a PEM file, showing a certificate of our own, with its key. */
        public Builder mutualTls(Path trusted, Path certificate, Path privateKey) throws IOException {
            return credentials(TlsChannelCredentials.newBuilder()
                    .trustManager(trusted.toFile())
                    .keyManager(certificate.toFile(), privateKey.toFile())
                    .build());
        }

        /** Any other way to connect safely, as grpc takes it. */
        public Builder credentials(ChannelCredentials credentials) {
            this.credentials = credentials;
            return this;
        }

        /** How long a call is made again while its server is away. Unset: 60 s. Zero: not at all. */
        public Builder patience(Duration patience) {
            this.patience = patience;
            return this;
        }

        /** The client. Connections are made when they are needed. */
        public AgentServiceClient build() {
            // grpc would send question marks in place of what no header can carry.
            if (!apiKey.chars().allMatch(character -> '!' <= character && character <= '~')) {
                throw AgentServiceException.refusedKey();
            }
            var work = Channels.work(target, credentials);
            var control = Channels.control(target, credentials);
            return new AgentServiceClient(
                    target, new Connection(work, control, apiKey, patience), Optional.empty());
        }
    }
}
