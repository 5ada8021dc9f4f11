/** A page that runs a task and shows its events as they come, by gRPC-Web through a proxy (deploy/mesh/envoy.yaml). */

import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";

import { AgentService } from "../src/generated/agent_service/v1/agent_service_pb.js";
import { ErrorInfoSchema } from "../src/generated/google/rpc/error_details_pb.js";

const input = (id: string) => document.querySelector<HTMLInputElement>(`#${id}`)!;
const form = document.querySelector<HTMLFormElement>("#ask")!;
const stop = document.querySelector<HTMLButtonElement>("#stop")!;
const says = document.querySelector<HTMLElement>("#says")!;
const events = document.querySelector<HTMLElement>("#events")!;
const ended = document.querySelector<HTMLElement>("#ended")!;

async function run(task: string, signal: AbortSignal): Promise<string> {
  const client = createClient(AgentService, createGrpcWebTransport({ baseUrl: input("proxy").value }));
  const headers = { authorization: `Bearer ${input("token").value}` };
  // The request_id lets a repetition of this call find the task instead of starting another.
  const request = { run: { task, requestId: crypto.randomUUID() } };
  let taskId = "";
  let last = "";
  try {
    for await (const { event } of client.streamTask(request, { headers, signal })) {
      if (!event || ["heartbeat", "reasoningDelta", "waiting"].includes(event.event.case ?? "")) continue;
      taskId = event.taskId;
      if (event.event.case === "textDelta") {
        const { offset, text } = event.event.value;
        says.textContent = offset === 0n ? text : says.textContent + text;
        continue;
      }
      last = event.event.case ?? "new";
      events.append(Object.assign(document.createElement("li"), { textContent: last }));
      if (event.event.case === "completed") says.textContent = event.event.value.output;
      if (event.event.case === "failed") last += `: ${event.event.value.failure?.message}`;
    }
  } finally {
    // Nobody waits for it any more. The server finds out by itself too, ten seconds later.
    if (signal.aborted && taskId) await client.cancelTask({ taskId }, { headers }).catch(() => {});
  }
  return last;
}

function told(error: unknown): string {
  const refused = ConnectError.from(error);
  if (refused.code === Code.Canceled) return "stopped";
  const [info] = refused.findDetails(ErrorInfoSchema);
  return `refused: ${info?.reason ?? Code[refused.code]}`;
}

form.addEventListener("submit", async (submitted) => {
  submitted.preventDefault();
  const stopping = new AbortController();
  stop.onclick = () => stopping.abort();
  stop.disabled = false;
  says.textContent = ended.textContent = "";
  events.replaceChildren();
  ended.textContent = await run(input("task").value, stopping.signal).catch(told);
  stop.disabled = true;
});
