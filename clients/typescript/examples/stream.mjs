import { Client } from "agent-service-client";

const client = new Client(process.env.AGENT_SERVICE_TARGET ?? "localhost:9000", { apiKey: process.env.API_KEY });

for await (const { sequence, event } of client.stream("What is 17.5% of 2340?")) {
  switch (event.case) {
    case "toolStarted":
      console.log(sequence, "calls", event.value.name);
      break;
    case "modelReplied":
      console.log(sequence, "says", event.value.text);
      break;
    case "completed":
      console.log(sequence, "took", event.value.usage?.outputTokens, "tokens");
      break;
    case "failed":
      console.log(sequence, "failed:", event.value.failure?.message);
      break;
  }
}

client.close();
