import dev.agentservice.client.AgentServiceClient;
import dev.agentservice.v1.TaskEvent;

public class Stream {
    public static void main(String... arguments) throws Exception {
        String target = System.getenv().getOrDefault("AGENT_SERVICE_TARGET", "localhost:9000");
        String key = System.getenv("API_KEY");
        try (var client = AgentServiceClient.connect(target, key);
                var events = client.stream("What is 17.5% of 2340?")) {
            for (TaskEvent event : events) {
                switch (event.getEventCase()) {
                    case TOOL_STARTED -> System.out.println("calls " + event.getToolStarted().getName());
                    case MODEL_REPLIED -> System.out.println("says " + event.getModelReplied().getText());
                    case FAILED -> System.out.println("failed: " + event.getFailed().getFailure().getMessage());
                    default -> {} // others, and those of a newer server
                }
            }
        }
    }
}
