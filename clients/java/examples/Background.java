import dev.agentservice.client.AgentServiceClient;
import dev.agentservice.v1.RunTaskRequest;
import dev.agentservice.v1.Task;
import dev.agentservice.v1.TaskEvent;

public class Background {
    public static void main(String... arguments) throws Exception {
        String target = System.getenv().getOrDefault("AGENT_SERVICE_TARGET", "localhost:9000");
        String key = System.getenv("API_KEY");
        try (var client = AgentServiceClient.connect(target, key)) {
            Task task = client.submit(RunTaskRequest.newBuilder()
                    .setTask("What is 12 * 12?")
                    .putLabels("team", "billing")
                    .build());
            long seen;
            try (var events = client.watch(task.getId())) {
                seen = events.next().getSequence(); // Leaving changes nothing: the task runs on.
            }
            try (var events = client.watch(task.getId(), seen)) {
                for (TaskEvent event : events) {
                    System.out.println(event.getSequence() + " " + event.getEventCase());
                }
            }
            System.out.println(client.getTask(task.getId()).getOutput());
        }
    }
}
