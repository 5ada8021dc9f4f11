/** The client. */

import { setMaxListeners } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { type DescMessage, type JsonObject, type JsonValue, toJson } from "@bufbuild/protobuf";
import type { MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import { durationMs, ValueSchema } from "@bufbuild/protobuf/wkt";
import { Connection, type ConnectionOptions, type Method } from "./connection.js";
import { CallError } from "./errors.js";
import { answered, followed, Patience, settles } from "./following.js";
import type { Agent } from "./generated/agent_service/v1/agent_pb.js";
import { AgentService, type ListTasksResponse, type UsageRow } from "./generated/agent_service/v1/agent_service_pb.js";
import type { TaskEvent } from "./generated/agent_service/v1/task_event_pb.js";
import type { Failure, InputAnswer, Task } from "./generated/agent_service/v1/task_pb.js";
import type { Tool } from "./generated/agent_service/v1/tool_pb.js";
import { Health, HealthCheckResponse_ServingStatus as ServingStatus } from "./generated/grpc_health/v1/health_pb.js";
import {
  type CallOptions,
  type ListOptions,
  type RunOptions,
  runRequest,
  type ToolOptions,
  toolRequest,
  type UsageOptions,
  type WatchOptions,
} from "./requests.js";

const { method } = AgentService;
// How long a call is tried again while the server cannot be reached or restarts.
const PATIENCE_MS = 60_000;
// How long a task that is left is given to hear of it.
const LEAVE_MS = 2000;

/** How to connect, and how long to go back to a server. */
export interface ClientOptions extends ConnectionOptions {
  /** How long a call is tried again while its server is away; 0 not at all. One minute by default. */
  patienceMs?: number;
}

/** What a tool answered: its output, or why it failed. */
export type ToolResult = { taskId: string; durationMs: number; truncated: boolean } & (
  { output: JsonValue; error?: undefined } | { output?: undefined; error: Failure }
);

// How to make a call, and what bounds it together with its repetitions.
interface Attempt {
  signal: AbortSignal | undefined;
  deadline: Date | undefined;
  /** Whether a task depends on it: left, the call takes its task with it. */
  attends: boolean;
}

/**
 * Talks to one service.
 *
 *     const client = new Client("localhost:9000", { apiKey });
 *     const task = await client.run("What is 17.5% of 2340?");
 *
 * A client has two connections, made when they are needed: one for calls that wait for tasks, of which the server
 * admits 250 at once (more wait for their turn), and one for the rest, so that a cancel never waits behind them. All
 * calls reject with CallError. Aborting a call, or leaving a stream, cancels its task unless it is `detached`.
 *
 * A task or tool call that is interrupted because its server shuts down, or is away after it has been there, is taken
 * up again for up to `patienceMs`, under the same requestId: nothing is run twice, no event is seen twice. A refusal of
 * new work, such as RATE_LIMITED_CALLS or OVERLOADED, is thrown at once, with `retryAfterMs`.
 */
export class Client {
  readonly target: string;
  readonly #work: Connection;
  readonly #control: Connection;
  readonly #patienceMs: number;
  #wasThere = false;

  constructor(target: string, { patienceMs = PATIENCE_MS, ...connection }: ClientOptions = {}) {
    this.target = target;
    this.#work = new Connection(target, connection);
    this.#control = new Connection(target, connection);
    this.#patienceMs = patienceMs;
  }

  /** Close the connections; calls under way are canceled. */
  close(): void {
    this.#work.close();
    this.#control.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
  }

  /** Run a task until it has ended or waits for input. */
  async run(task: string, options: RunOptions = {}): Promise<Task> {
    const request = runRequest(task, options);
    return there((await this.#safe(this.#work, method.runTask, request, options, !options.detached)).task);
  }

  /** Run a task and follow it, event by event. Leaving the loop early cancels the task. */
  async *stream(task: string, options: RunOptions = {}): AsyncGenerator<TaskEvent, void, undefined> {
    const request = { run: runRequest(task, options) };
    const attempt = bounded(options, !options.detached);
    // What was seen before comes again, and is left out.
    const open = () => events(this.#responses(this.#work, method.streamTask, request, attempt));
    yield* followed(open, 0n, this.#patience(attempt));
  }

  /** Have a task accepted, to run by itself. */
  async submit(task: string, options: RunOptions = {}): Promise<Task> {
    const request = { run: runRequest(task, options) };
    return there((await this.#safe(this.#control, method.submitTask, request, options)).task);
  }

  /** Follow a task from anywhere in it, until it has ended or waits for input. Leaving changes nothing. */
  async *watch(taskId: string, options: WatchOptions = {}): AsyncGenerator<TaskEvent, void, undefined> {
    const attempt = bounded(options);
    const open = (afterSequence: bigint) =>
      events(this.#responses(this.#work, method.watchTask, { taskId, afterSequence }, attempt));
    yield* followed(open, BigInt(options.afterSequence ?? 0), this.#patience(attempt));
  }

  /** A task as it stands. */
  async getTask(taskId: string, options: CallOptions = {}): Promise<Task> {
    return there((await this.#safe(this.#control, method.getTask, { taskId }, options)).task);
  }

  /** A page of tasks, newest first; with `view: TaskView.FULL` the texts too. `nextPageToken` leads to the next one. */
  async listTasks(options: ListOptions = {}): Promise<ListTasksResponse> {
    return this.#safe(this.#control, method.listTasks, options, options);
  }

  /** Stop a task for good. */
  async cancel(taskId: string, options: CallOptions = {}): Promise<Task> {
    return there((await this.#safe(this.#control, method.cancelTask, { taskId }, options)).task);
  }

  /** Answer one of a task's pending inputs: with `approve()`, `deny()`, `runAgain()`, `result()`, `failure()`, `reply()`. */
  async resume(taskId: string, inputId: string, answer: InputAnswer, options: CallOptions = {}): Promise<Task> {
    const request = { taskId, inputId, answer };
    return there((await this.#safe(this.#control, method.resumeTask, request, options)).task);
  }

  /** Erase a task that has ended. */
  async deleteTask(taskId: string, options: CallOptions = {}): Promise<void> {
    await this.#once(this.#control, method.deleteTask, { taskId }, bounded(options));
  }

  /** Erase a session with all of its tasks; how many. */
  async deleteSession(sessionId: string, options: CallOptions = {}): Promise<number> {
    return (await this.#once(this.#control, method.deleteSession, { sessionId }, bounded(options))).tasksDeleted;
  }

  /** Run one tool. `inputs` is an object, or the text of one in JSON. */
  async invokeTool(name: string, inputs: JsonObject | string = {}, options: ToolOptions = {}): Promise<ToolResult> {
    const request = toolRequest(name, inputs, options);
    const response = await this.#safe(this.#work, method.toolInvoke, request, options, true);
    const { taskId, duration, truncated, outcome } = response;
    const told = { taskId, durationMs: duration ? durationMs(duration) : 0, truncated };
    if (outcome.case === "error") return { ...told, error: outcome.value };
    return { ...told, output: outcome.value ? toJson(ValueSchema, outcome.value) : null };
  }

  /** The agents that the key may use. */
  async listAgents(options: CallOptions = {}): Promise<Agent[]> {
    return (await this.#safe(this.#control, method.listAgents, {}, options)).agents;
  }

  /** The tools that the key may use. */
  async listTools(options: CallOptions = {}): Promise<Tool[]> {
    return (await this.#safe(this.#control, method.listTools, {}, options)).tools;
  }

  /** What was used, summed up by time and `groupBy`; of the key's own tenant where none is named. */
  async getUsage(options: UsageOptions = {}): Promise<UsageRow[]> {
    return (await this.#safe(this.#control, method.getUsage, options, options)).rows;
  }

  /** The status of a name of the health service, as it is now. */
  async health(service = "", options: CallOptions = { deadlineMs: 5000 }): Promise<keyof typeof ServingStatus> {
    const response = await this.#once(this.#control, Health.method.check, { service }, bounded(options));
    return ServingStatus[response.status] as keyof typeof ServingStatus;
  }

  /** A call that does the same when it is made again. */
  #safe<I extends DescMessage, O extends DescMessage>(
    connection: Connection,
    method: Method<I, O>,
    request: MessageInitShape<I>,
    options: CallOptions,
    attends = false,
  ): Promise<MessageShape<O>> {
    const attempt = bounded(options, attends);
    return answered(() => this.#once(connection, method, request, attempt), this.#patience(attempt));
  }

  async #once<I extends DescMessage, O extends DescMessage>(
    connection: Connection,
    method: Method<I, O>,
    request: MessageInitShape<I>,
    attempt: Attempt,
  ): Promise<MessageShape<O>> {
    let answer: MessageShape<O> | undefined;
    for await (const response of this.#responses(connection, method, request, attempt)) answer = response;
    return there(answer);
  }

  async *#responses<I extends DescMessage, O extends DescMessage>(
    connection: Connection,
    method: Method<I, O>,
    request: MessageInitShape<I>,
    { signal, deadline, attends }: Attempt,
  ): AsyncGenerator<MessageShape<O>, void, undefined> {
    signal?.throwIfAborted();
    const call = connection.start(method, request, deadline);
    let isOver = false;
    let left: Promise<void> | undefined;
    const leave = () => (left ??= this.#leave(call, attends && !isOver));
    signal?.addEventListener("abort", leave, { once: true });
    try {
      for await (const response of call) {
        signal?.throwIfAborted();
        this.#wasThere = true;
        isOver = isLast(response);
        yield response;
      }
      isOver = true;
    } catch (error) {
      signal?.throwIfAborted();
      isOver = true;
      if (error instanceof CallError && error.isUnreachable) error.message += hint(this.target);
      else this.#wasThere ||= error instanceof CallError;
      throw error;
    } finally {
      await leave();
      signal?.removeEventListener("abort", leave);
    }
  }

  /** Nobody waits for the call any more. The server finds out by itself too, a little later. */
  async #leave(call: { taskId: Promise<string>; cancel(): void }, takesItsTask: boolean): Promise<void> {
    const taskId = takesItsTask ? await Promise.race([call.taskId, sleep(LEAVE_MS, "", { ref: false })]) : "";
    if (taskId)
      await this.#once(this.#control, method.cancelTask, { taskId }, bounded({ deadlineMs: LEAVE_MS })).catch(() => {});
    call.cancel();
  }

  /** A server that was never reached is not there, rather than away for a while. */
  #patience(attempt: Attempt): Patience {
    return new Patience(this.#patienceMs, () => this.#wasThere, attempt);
  }
}

/** What to look at where no connection could be made: the same words in every client. */
function hint(target: string): string {
  return ` (is a server running at ${target}? AGENT_SERVICE_TARGET names the address that commands and examples call)`;
}

/** Options as a call takes them. */
function bounded({ signal, deadlineMs }: CallOptions, attends = false): Attempt {
  if (signal) setMaxListeners(0, signal); // One of a program for all of its calls is no leak.
  const deadline = deadlineMs === undefined ? undefined : new Date(Date.now() + deadlineMs);
  return { signal, deadline, attends };
}

async function* events(responses: AsyncIterable<{ event?: TaskEvent }>): AsyncGenerator<TaskEvent, void, undefined> {
  for await (const { event } of responses) yield there(event);
}

/** Whether nobody needs to hear of it any more when the call is left behind this response. */
function isLast(response: object): boolean {
  return !("event" in response) || settles(response.event as TaskEvent);
}

function there<T>(value: T | undefined): T {
  if (value === undefined) throw new CallError({ code: "INTERNAL", message: "an answer without what it is for" });
  return value;
}
