import { Client } from "agent-service-client";

const client = new Client(process.env.AGENT_SERVICE_TARGET ?? "localhost:9000", { apiKey: process.env.API_KEY });

// The task's own time: the task ends as FAILED.
const task = await client.run("say hello", { timeoutMs: 30_000 });
console.log(task.output);

// The caller's time, repetitions included: the call ends as DEADLINE_EXCEEDED.
await client.run("say hello", { deadlineMs: 30_000 });

// Anything else: an aborted call cancels its task and rejects with the signal's reason.
const stop = new AbortController();
setTimeout(() => stop.abort(new Error("nobody waits any more")), 500);
try {
  await client.run("think without end", { signal: stop.signal });
} catch (error) {
  console.log(error instanceof Error && error.message);
}

client.close();
