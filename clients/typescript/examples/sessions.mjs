import { Client } from "agent-service-client";

const client = new Client(process.env.AGENT_SERVICE_TARGET ?? "localhost:9000", { apiKey: process.env.API_KEY });

const sessionId = `trip-${Date.now()}`;
await client.run("I am going to Tokyo.", { sessionId });
console.log((await client.run("Where am I going?", { sessionId })).output);

let pageToken = "";
do {
  const page = await client.listTasks({ sessionId, pageSize: 1, pageToken });
  for (const task of page.tasks) console.log(task.id, task.usage?.inputTokens);
  pageToken = page.nextPageToken;
} while (pageToken);
console.log(await client.deleteSession(sessionId), "tasks erased");

client.close();
