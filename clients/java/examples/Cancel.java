import dev.agentservice.client.AgentServiceClient;
import dev.agentservice.client.Values;
import dev.agentservice.v1.RunTaskRequest;
import dev.agentservice.v1.Task;
import java.time.Duration;
import java.util.concurrent.CompletableFuture;

public class Cancel {
    public static void main(String... arguments) throws Exception {
        String target = System.getenv().getOrDefault("AGENT_SERVICE_TARGET", "localhost:9000");
        String key = System.getenv("API_KEY");
        try (var client = AgentServiceClient.connect(target, key)) {
            // The task's own time: the task ends as FAILED.
            client.run(RunTaskRequest.newBuilder()
                    .setTask("say hello")
                    .setTimeout(Values.duration(Duration.ofSeconds(30)))
                    .build());

            // The caller's time, repetitions included: the call ends as DEADLINE_EXCEEDED.
            client.withDeadline(Duration.ofSeconds(30)).run("say hello");

            // To cancel the future cancels the task. So does interrupting the thread that waits in `run`.
            var request = RunTaskRequest.newBuilder().setTask("think without end").build();
            CompletableFuture<Task> future = client.runAsync(request);
            future.cancel(true);
        }
    }
}
