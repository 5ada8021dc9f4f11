import { Client } from "agent-service-client";

const client = new Client(process.env.AGENT_SERVICE_TARGET ?? "localhost:9000", { apiKey: process.env.API_KEY });

const task = await client.run("What is 17.5% of 2340?");
console.log(task.output);

client.close();
