import { CallError, Client, ErrorReason, TaskState } from "agent-service-client";

const client = new Client(process.env.AGENT_SERVICE_TARGET ?? "localhost:9000", { apiKey: process.env.API_KEY });

try {
  await client.run("", { agent: "no such agent" });
} catch (error) {
  if (!(error instanceof CallError)) throw error;
  console.log(error.code, error.reason); // INVALID_ARGUMENT FIELD_INVALID
  for (const { field, description } of error.violations) console.log(field, description);
  if (error.retryAfterMs !== undefined) console.log("may succeed in", error.retryAfterMs, "ms");
}

// A task that ran and failed is an answer.
const { state, failure } = await client.run("say hello", { budget: { tokens: 1n } });
if (state === TaskState.FAILED && failure) console.log(ErrorReason[failure.reason], failure.message);

client.close();
