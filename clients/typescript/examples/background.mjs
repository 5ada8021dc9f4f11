import { Client } from "agent-service-client";

const client = new Client(process.env.AGENT_SERVICE_TARGET ?? "localhost:9000", { apiKey: process.env.API_KEY });

const { id } = await client.submit("What is 12 * 12?", { labels: { team: "billing" } });

let seen = 0n;
for await (const { sequence, event } of client.watch(id)) {
  seen = sequence;
  if (event.case === "modelStarted") break; // Leaving changes nothing: the task runs on.
}
for await (const { sequence, event } of client.watch(id, { afterSequence: seen })) console.log(sequence, event.case);
console.log((await client.getTask(id)).output);

client.close();
