import dev.agentservice.client.AgentServiceClient;
import dev.agentservice.client.Values;
import dev.agentservice.v1.ToolInvokeResponse;
import java.util.Map;

public class Tools {
    public static void main(String... arguments) throws Exception {
        String target = System.getenv().getOrDefault("AGENT_SERVICE_TARGET", "localhost:9000");
        String key = System.getenv("API_KEY");
        try (var client = AgentServiceClient.connect(target, key)) {
            client.listTools().forEach(tool -> System.out.println(tool.getName() + " - " + tool.getDescription()));

            ToolInvokeResponse told = client.invokeTool("calculator", Map.of("expression", "17.5% of 2340"));
            System.out.println(told.hasError() ? told.getError().getMessage() : Values.object(told.getOutput()));
        }
    }
}
