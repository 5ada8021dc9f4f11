import { approve, Client, deny, TaskState } from "agent-service-client";

const client = new Client(process.env.AGENT_SERVICE_TARGET ?? "localhost:9000", { apiKey: process.env.API_KEY });

const task = await client.run("pay 5 to ann", { agent: "cashier" });
if (task.state === TaskState.INPUT_REQUIRED) {
  for (const { inputId, toolCall } of task.pendingInputs) {
    const isSmall = JSON.parse(toolCall?.argumentsJson ?? "{}").amount < 10;
    await client.resume(task.id, inputId, isSmall ? approve() : deny("ask the manager"));
  }
}
for await (const { event } of client.watch(task.id, { afterSequence: task.lastSequence })) {
  if (event.case === "completed") console.log(event.value.output);
}

client.close();
