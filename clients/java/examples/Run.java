import dev.agentservice.client.AgentServiceClient;

public class Run {
    public static void main(String... arguments) throws Exception {
        String target = System.getenv().getOrDefault("AGENT_SERVICE_TARGET", "localhost:9000");
        String key = System.getenv("API_KEY");
        try (var client = AgentServiceClient.connect(target, key)) {
            System.out.println(client.run("What is 17.5% of 2340?").getOutput());
        }
    }
}
