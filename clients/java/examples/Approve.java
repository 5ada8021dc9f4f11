import dev.agentservice.client.AgentServiceClient;
import dev.agentservice.client.Answers;
import dev.agentservice.v1.PendingInput;
import dev.agentservice.v1.RunTaskRequest;
import dev.agentservice.v1.Task;
import dev.agentservice.v1.TaskEvent;

public class Approve {
    public static void main(String... arguments) throws Exception {
        String target = System.getenv().getOrDefault("AGENT_SERVICE_TARGET", "localhost:9000");
        String key = System.getenv("API_KEY");
        try (var client = AgentServiceClient.connect(target, key)) {
            Task task = client.run(RunTaskRequest.newBuilder()
                    .setAgent("cashier")
                    .setTask("pay 5 to ann")
                    .build());
            for (PendingInput input : task.getPendingInputsList()) {
                boolean isKnown = input.getToolCall().getArgumentsJson().contains("ann");
                client.resume(
                        task.getId(),
                        input.getInputId(),
                        isKnown ? Answers.approve() : Answers.deny("ask the manager"));
            }
            try (var events = client.watch(task.getId(), task.getLastSequence())) {
                for (TaskEvent event : events) {
                    if (event.hasCompleted()) {
                        System.out.println(event.getCompleted().getOutput());
                    }
                }
            }
        }
    }
}
