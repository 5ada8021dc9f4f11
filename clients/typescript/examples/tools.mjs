import { Client } from "agent-service-client";

const client = new Client(process.env.AGENT_SERVICE_TARGET ?? "localhost:9000", { apiKey: process.env.API_KEY });

for (const tool of await client.listTools()) console.log(tool.name, "-", tool.description);

const { output, error } = await client.invokeTool("calculator", { expression: "17.5% of 2340" });
console.log(error ? error.message : output);

client.close();
