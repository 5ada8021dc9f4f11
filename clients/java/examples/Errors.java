import dev.agentservice.client.AgentServiceClient;
import dev.agentservice.client.AgentServiceException;
import dev.agentservice.v1.Budget;
import dev.agentservice.v1.RunTaskRequest;
import dev.agentservice.v1.Task;
import dev.agentservice.v1.TaskState;

public class Errors {
    public static void main(String... arguments) throws Exception {
        String target = System.getenv().getOrDefault("AGENT_SERVICE_TARGET", "localhost:9000");
        String key = System.getenv("API_KEY");
        try (var client = AgentServiceClient.connect(target, key)) {
            try {
                client.run("");
            } catch (AgentServiceException error) {
                System.out.println(error.code() + " " + error.reason()); // INVALID_ARGUMENT FIELD_INVALID
                error.violations().forEach(wrong -> System.out.println(wrong.field() + " " + wrong.description()));
                error.retryAfter().ifPresent(delay -> System.out.println("may succeed in " + delay));
            }

            // A task that ran and failed is an answer.
            Task task = client.run(RunTaskRequest.newBuilder()
                    .setTask("say hello")
                    .setBudget(Budget.newBuilder().setTokens(1))
                    .build());
            if (task.getState() == TaskState.TASK_STATE_FAILED) {
                System.out.println(task.getFailure().getReason() + " " + task.getFailure().getMessage());
            }
        }
    }
}
