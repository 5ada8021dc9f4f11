package dev.agentservice.check;

import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.Message;
import com.google.protobuf.MessageOrBuilder;
import com.google.protobuf.Struct;
import com.google.protobuf.util.JsonFormat;
import dev.agentservice.check.Matching.Mismatch;
import dev.agentservice.client.AgentServiceClient;
import dev.agentservice.client.AgentServiceException;
import dev.agentservice.client.Values;
import dev.agentservice.v1.Budget;
import dev.agentservice.v1.GetUsageRequest;
import dev.agentservice.v1.InputAnswer;
import dev.agentservice.v1.ListTasksRequest;
import dev.agentservice.v1.OnDisconnect;
import dev.agentservice.v1.RunTaskRequest;
import dev.agentservice.v1.TaskState;
import dev.agentservice.v1.TaskView;
import dev.agentservice.v1.ToolInvokeRequest;
import dev.agentservice.v1.UsageGroup;
import java.io.IOException;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import org.yaml.snakeyaml.Yaml;

/** The calls of the scenario through the client: what each is named there, and how its result looks. */
final class Caller implements AutoCloseable {
    private final AgentServiceClient client;

    Caller(String name) {
        var environment = System.getenv();
        var builder = AgentServiceClient.builder(environment.get("AGENT_SERVICE_TARGET"))
                .apiKey(environment.getOrDefault("SCENARIO_KEY_" + name.toUpperCase(Locale.ROOT), ""));
        String trusted = environment.getOrDefault("AGENT_SERVICE_CA_FILE", "");
        try {
            this.client = (trusted.isEmpty() ? builder : builder.tls(Path.of(trusted))).build();
        } catch (IOException unreadable) {
            throw new Mismatch("AGENT_SERVICE_CA_FILE: " + unreadable.getMessage());
        }
    }

    @Override
    public void close() {
        client.close();
    }

    /** Call, and tell the result as the scenario sees it. */
    Map<String, Object> result(String method, Map<String, Object> given, String until) {
        var with = new Arguments(given);
        var calling = with.seconds("deadline_s").map(client::withDeadline).orElse(client);
        Map<String, Object> result = result(calling, method, with, until);
        with.mustBeUsedUp();
        return result;
    }

    private static Map<String, Object> result(
            AgentServiceClient client, String method, Arguments with, String until) {
        return switch (method) {
            case "run" -> json(client.run(runRequest(with)));
            case "submit" -> json(client.submit(runRequest(with)));
            case "stream" -> StreamSum.of(client.stream(runRequest(with)), until);
            case "watch" -> StreamSum.of(
                    client.watch(with.text("task_id"), with.number("after_sequence").longValue()), until);
            case "get_task" -> json(client.getTask(with.text("task_id")));
            case "cancel" -> json(client.cancel(with.text("task_id")));
            case "resume" -> json(client.resume(
                    with.text("task_id"),
                    with.text("input_id"),
                    parsed(with.map("answer"), InputAnswer.newBuilder()).build()));
            case "list_tasks" -> json(client.listTasks(listRequest(with)));
            case "delete_task" -> {
                client.deleteTask(with.text("task_id"));
                yield Map.of();
            }
            case "delete_session" -> Map.of("tasks_deleted", client.deleteSession(with.text("session_id")));
            case "invoke_tool" -> json(client.invokeTool(toolRequest(with)));
            case "list_agents" -> Map.of("agents", jsons(client.listAgents()));
            case "list_tools" -> Map.of("tools", jsons(client.listTools()));
            case "get_usage" -> Map.of("rows", jsons(client.getUsage(usageRequest(with))));
            case "health" -> Map.of("status", client.health(with.text("service")).name());
            default -> throw new Mismatch("unknown method " + method);
        };
    }

    /** The error as the scenario sees it. */
    static Map<String, Object> error(AgentServiceException error) {
        var told = new LinkedHashMap<String, Object>();
        told.put("code", error.code().name());
        told.put("reason", error.reason());
        told.put("message", error.getMessage());
        told.put("request_id", error.requestId());
        told.put("task_id", error.taskId());
        told.put("metadata", error.metadata());
        told.put("violations", error.violations().stream()
                .map(one -> Map.of("field", one.field(), "description", one.description()))
                .toList());
        error.retryAfter().ifPresent(delay -> told.put("retry_after_s", delay.toNanos() / 1e9));
        return told;
    }

    /** A message as protobuf JSON with the names of the protos. */
    static Map<String, Object> json(MessageOrBuilder message) {
        try {
            return new Yaml().load(JsonFormat.printer().preservingProtoFieldNames().print(message));
        } catch (InvalidProtocolBufferException impossible) {
            throw new AssertionError(impossible);
        }
    }

    private static List<Map<String, Object>> jsons(List<? extends MessageOrBuilder> messages) {
        return messages.stream().map(Caller::json).toList();
    }

    private static RunTaskRequest runRequest(Arguments with) {
        var request = RunTaskRequest.newBuilder()
                .setTask(with.text("task"))
                .setAgent(with.text("agent"))
                .setSessionId(with.text("session_id"))
                .setRequestId(with.text("request_id"))
                .putAllLabels(with.labels());
        with.seconds("timeout_s").map(Values::duration).ifPresent(request::setTimeout);
        with.ifGiven("detached", yes -> request.setOnDisconnect(OnDisconnect.ON_DISCONNECT_DETACH));
        with.ifGiven("tokens_max", most -> budget(request).setTokens(((Number) most).longValue()));
        with.ifGiven("cost_nanos_max", most -> budget(request).setCostNanos(((Number) most).longValue()));
        with.ifGiven("output_schema", schema -> request.setOutputSchema(struct(schema)));
        return request.build();
    }

    private static Budget.Builder budget(RunTaskRequest.Builder request) {
        return request.getBudgetBuilder();
    }

    private static ListTasksRequest listRequest(Arguments with) {
        var request = ListTasksRequest.newBuilder()
                .setAgent(with.text("agent"))
                .setSessionId(with.text("session_id"))
                .putAllLabels(with.labels())
                .setSubmittedBy(with.text("submitted_by"))
                .setPageSize(with.number("page_size").intValue())
                .setPageToken(with.text("page_token"));
        with.ifGiven("full", yes -> request.setView(TaskView.TASK_VIEW_FULL));
        with.ifGiven("states", states ->
                ((List<?>) states).forEach(state -> request.addStates(TaskState.valueOf((String) state))));
        return request.build();
    }

    private static ToolInvokeRequest toolRequest(Arguments with) {
        var request = ToolInvokeRequest.newBuilder()
                .setToolName(with.text("name"))
                .setRequestId(with.text("request_id"));
        with.seconds("timeout_s").map(Values::duration).ifPresent(request::setTimeout);
        with.ifGiven("inputs", inputs -> request.setInputs(struct(inputs)));
        return request.build();
    }

    private static GetUsageRequest usageRequest(Arguments with) {
        var request = GetUsageRequest.newBuilder().setAgent(with.text("agent"));
        with.ifGiven("by", groups -> ((List<?>) groups).forEach(group ->
                request.addGroupBy(UsageGroup.valueOf("USAGE_GROUP_" + ((String) group).toUpperCase(Locale.ROOT)))));
        return request.build();
    }

    @SuppressWarnings("unchecked")
    private static Struct struct(Object value) {
        return Values.struct((Map<String, ?>) value);
    }

    private static <B extends Message.Builder> B parsed(Map<String, Object> value, B builder) {
        try {
            JsonFormat.parser().merge(JsonFormat.printer().print(struct(value)), builder);
            return builder;
        } catch (InvalidProtocolBufferException wrong) {
            throw new Mismatch(wrong.getMessage());
        }
    }
}
