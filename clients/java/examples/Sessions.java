import dev.agentservice.client.AgentServiceClient;
import dev.agentservice.v1.ListTasksRequest;
import dev.agentservice.v1.ListTasksResponse;
import dev.agentservice.v1.RunTaskRequest;
import java.util.UUID;

public class Sessions {
    public static void main(String... arguments) throws Exception {
        String target = System.getenv().getOrDefault("AGENT_SERVICE_TARGET", "localhost:9000");
        String key = System.getenv("API_KEY");
        try (var client = AgentServiceClient.connect(target, key)) {
            var talk = RunTaskRequest.newBuilder().setSessionId("trip-" + UUID.randomUUID());
            client.run(talk.setTask("I am going to Tokyo.").build());
            System.out.println(client.run(talk.setTask("Where am I going?").build()).getOutput());

            var wanted = ListTasksRequest.newBuilder().setSessionId(talk.getSessionId()).setPageSize(1);
            ListTasksResponse page;
            do {
                page = client.listTasks(wanted.build());
                page.getTasksList().forEach(task -> System.out.println(task.getId() + " " + task.getState()));
                wanted.setPageToken(page.getNextPageToken());
            } while (!page.getNextPageToken().isEmpty());
            System.out.println(client.deleteSession(talk.getSessionId()) + " tasks erased");
        }
    }
}
