/** The calls of the scenario through the client: what each is named there, and how its result looks. */

import { readFileSync } from "node:fs";
import { type DescMessage, fromJson, type MessageShape, toJson } from "@bufbuild/protobuf";
import {
  AgentSchema,
  CallError,
  Client,
  FailureSchema,
  InputAnswerSchema,
  ListTasksResponseSchema,
  type RunOptions,
  type TaskEvent,
  TaskEventSchema,
  TaskSchema,
  TaskState,
  TaskView,
  ToolSchema,
  UsageGroup,
  UsageRowSchema,
} from "agent-service-client";
import { type Mapping, Mismatch, type Value } from "./matching.js";

// How an argument of the scenario is given to the client; those that need no change are only renamed.
const OPTIONS: Record<string, (value: never) => object> = {
  agent: (agent: string) => ({ agent }),
  session_id: (sessionId: string) => ({ sessionId }),
  request_id: (requestId: string) => ({ requestId }),
  labels: (labels: Record<string, string>) => ({ labels }),
  submitted_by: (submittedBy: string) => ({ submittedBy }),
  detached: (detached: boolean) => ({ detached }),
  output_schema: (outputSchema: object) => ({ outputSchema }),
  timeout_s: (seconds: number) => ({ timeoutMs: seconds * 1000 }),
  deadline_s: (seconds: number) => ({ deadlineMs: seconds * 1000 }),
  tokens_max: (tokens: number) => ({ budget: { tokens: BigInt(tokens) } }),
  cost_nanos_max: (nanos: number) => ({ budget: { costNanos: BigInt(nanos) } }),
  after_sequence: (sequence: string | number) => ({ afterSequence: BigInt(sequence) }),
  states: (names: string[]) => ({ states: names.map((name) => TaskState[bare(name, "TASK_STATE_", TaskState)]) }),
  full: (full: boolean) => ({ view: full ? TaskView.FULL : TaskView.BASIC }),
  page_size: (pageSize: string | number) => ({ pageSize: Number(pageSize) }),
  page_token: (pageToken: string) => ({ pageToken }),
  by: (names: string[]) => ({ groupBy: names.map((name) => UsageGroup[bare(name.toUpperCase(), "", UsageGroup)]) }),
};

/** One of the scenario's callers: a client with a key. */
export class Caller {
  readonly #client: Client;

  constructor(name: string) {
    const ca = process.env.AGENT_SERVICE_CA_FILE;
    this.#client = new Client(process.env.AGENT_SERVICE_TARGET ?? "localhost:9000", {
      apiKey: process.env[`SCENARIO_KEY_${name.toUpperCase()}`] ?? "",
      tls: ca ? { ca: readFileSync(ca) } : false,
    });
  }

  close(): void {
    this.#client.close();
  }

  /** Call, and tell the result as the scenario sees it. */
  async result(method: string, given: Mapping, until: string | undefined, signal: AbortSignal): Promise<Value> {
    const client = this.#client;
    const {
      task = "",
      task_id = "",
      input_id = "",
      name = "",
      service = "",
      inputs = {},
      answer = {},
      ...rest
    } = given;
    const options = { ...optionsOf(rest), signal };
    switch (method) {
      case "run":
        return json(TaskSchema, await client.run(task as string, options));
      case "submit":
        return json(TaskSchema, await client.submit(task as string, options));
      case "stream":
        return summedUp(client.stream(task as string, options), until);
      case "watch":
        return summedUp(client.watch(task_id as string, options), until);
      case "get_task":
        return json(TaskSchema, await client.getTask(task_id as string, options));
      case "cancel":
        return json(TaskSchema, await client.cancel(task_id as string, options));
      case "resume": {
        const told = fromJson(InputAnswerSchema, answer as Record<string, string>);
        return json(TaskSchema, await client.resume(task_id as string, input_id as string, told, options));
      }
      case "list_tasks":
        return json(ListTasksResponseSchema, await client.listTasks(options));
      case "delete_task":
        await client.deleteTask(task_id as string, options);
        return {};
      case "delete_session":
        return { tasks_deleted: await client.deleteSession(options.sessionId ?? "", options) };
      case "invoke_tool": {
        const { taskId, durationMs, truncated, output, error } = await client.invokeTool(
          name as string,
          inputs as Record<string, string>,
          options,
        );
        const told = error ? { error: json(FailureSchema, error) } : { output };
        return { ...told, task_id: taskId, duration: `${durationMs / 1000}s`, truncated };
      }
      case "list_agents":
        return { agents: (await client.listAgents(options)).map((agent) => json(AgentSchema, agent)) };
      case "list_tools":
        return { tools: (await client.listTools(options)).map((tool) => json(ToolSchema, tool)) };
      case "get_usage":
        return { rows: (await client.getUsage(options)).map((row) => json(UsageRowSchema, row)) };
      case "health":
        return { status: await client.health(service as string, options) };
      default:
        throw new Mismatch(`there is no method ${method}`);
    }
  }
}

/** The error as the scenario sees it. */
export function errorOf(error: unknown): Mapping {
  if (!(error instanceof CallError)) {
    if (error instanceof DOMException && error.name === "AbortError") return { code: "CANCELLED" };
    throw error;
  }
  return {
    code: error.code,
    reason: error.reason,
    message: error.message,
    request_id: error.requestId,
    task_id: error.taskId,
    ...(error.retryAfterMs !== undefined && { retry_after_s: error.retryAfterMs / 1000 }),
    violations: error.violations.map(({ field, description }) => ({ field, description })),
    metadata: error.metadata,
  };
}

function optionsOf(given: Mapping): RunOptions {
  const options = Object.entries(given).map(([name, value]) => {
    const option = OPTIONS[name];
    if (!option) throw new Mismatch(`there is no argument ${name}`);
    return option(value as never);
  });
  return Object.assign({}, ...options);
}

async function summedUp(events: AsyncIterable<TaskEvent>, until: string | undefined): Promise<Mapping> {
  const journaled: TaskEvent[] = [];
  let [text, reasoning, deltas] = ["", "", 0];
  let last: TaskEvent | undefined;
  let isThere = until === undefined;
  for await (const event of events) {
    const one = event.event;
    if (one.case !== "heartbeat") last = event;
    if (one.case === "textDelta") {
      deltas += 1;
      text = joined(text, one.value);
    } else if (one.case === "reasoningDelta") {
      reasoning = joined(reasoning, one.value);
    } else if (one.case !== "heartbeat" && one.case !== "waiting") {
      journaled.push(event);
    }
    if (until !== undefined && armOf(event) === until) {
      isThere = true;
      break;
    }
  }
  if (!isThere) throw new Mismatch(`until: the stream ended without ${until}`);
  return {
    arms: journaled.map(armOf),
    sequences: journaled.map((event) => Number(event.sequence)),
    events: journaled.map((event) => json(TaskEventSchema, event)),
    deltas,
    text,
    reasoning,
    last: last && json(TaskEventSchema, last),
  };
}

function joined(text: string, delta: { offset: bigint; text: string }): string {
  if (delta.offset === 0n) return delta.text;
  return delta.offset === BigInt(Buffer.byteLength(text)) ? text + delta.text : "(gap)";
}

/** The name of an event's arm, as the proto has it. */
function armOf(event: TaskEvent): string {
  return TaskEventSchema.oneofs[0]?.fields.find(({ localName }) => localName === event.event.case)?.name ?? "";
}

function json<D extends DescMessage>(schema: D, message: MessageShape<D>): Value {
  return toJson(schema, message, { useProtoFieldName: true }) as Value;
}

function bare<E extends object>(name: string, prefix: string, names: E): keyof E {
  const key = name.replace(prefix, "");
  if (!(key in names)) throw new Mismatch(`there is no ${name}`);
  return key as keyof E;
}
