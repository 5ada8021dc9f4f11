/** Requests out of plain values. */

import { randomUUID } from "node:crypto";
import { create, type DescMessage, type JsonObject, type JsonValue, type MessageInitShape } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import type {
  GetUsageRequestSchema,
  ListTasksRequestSchema,
  RunTaskRequestSchema,
  ToolInvokeRequestSchema,
} from "./generated/agent_service/v1/agent_service_pb.js";
import { type InputAnswer, InputAnswerSchema, OnDisconnect } from "./generated/agent_service/v1/task_pb.js";

/** When to stop waiting for a call. */
export interface CallOptions {
  /** Aborted, the call rejects with the signal's reason, and its task is canceled unless it is `detached`. */
  signal?: AbortSignal | undefined;
  /** How long the call may take, repetitions included; then it ends as DEADLINE_EXCEEDED. */
  deadlineMs?: number | undefined;
}

// The fields of a request as they may be given, without what is only in a message that was made.
type Fields<D extends DescMessage, K extends keyof MessageInitShape<D>> = {
  [P in Exclude<keyof MessageInitShape<D>, K | "$typeName" | "$unknown">]?: MessageInitShape<D>[P];
};

/** How to run a task: the fields of `RunTaskRequest`, with a `requestId` made where none is given. */
export interface RunOptions
  extends CallOptions, Fields<typeof RunTaskRequestSchema, "task" | "timeout" | "onDisconnect"> {
  /** The task's own time; where it is over the task fails. */
  timeoutMs?: number;
  /** Let the task run on when its caller goes away. */
  detached?: boolean;
}

/** How to run a tool, with a `requestId` made where none is given. */
export interface ToolOptions extends CallOptions {
  /** The tool's own time. */
  timeoutMs?: number;
  requestId?: string;
}

/** From where to follow a task: the last sequence that was seen. */
export interface WatchOptions extends CallOptions {
  afterSequence?: bigint | number;
}

/** Which tasks: the fields of `ListTasksRequest`. */
export interface ListOptions extends CallOptions, Fields<typeof ListTasksRequestSchema, never> {}

/** Which usage, summed up how: the fields of `GetUsageRequest`. */
export interface UsageOptions extends CallOptions, Fields<typeof GetUsageRequestSchema, never> {}

/** A task to run. */
export function runRequest(task: string, options: RunOptions): MessageInitShape<typeof RunTaskRequestSchema> {
  const { timeoutMs, detached, signal: _, deadlineMs: __, ...fields } = options;
  return {
    ...fields,
    task,
    requestId: options.requestId || newRequestId(),
    onDisconnect: detached ? OnDisconnect.DETACH : OnDisconnect.CANCEL,
    timeout: timeoutMs === undefined ? undefined : durationFromMs(timeoutMs),
  };
}

/** A tool call. */
export function toolRequest(
  toolName: string,
  inputs: JsonObject | string,
  { requestId, timeoutMs }: ToolOptions,
): MessageInitShape<typeof ToolInvokeRequestSchema> {
  return {
    toolName,
    arguments: { case: "inputsJson", value: typeof inputs === "string" ? inputs : JSON.stringify(inputs) },
    requestId: requestId || newRequestId(),
    timeout: timeoutMs === undefined ? undefined : durationFromMs(timeoutMs),
  };
}

/** A requestId that nobody else has. */
function newRequestId(): string {
  return randomUUID();
}

/** The tool call may run. */
export function approve(): InputAnswer {
  return create(InputAnswerSchema, { answer: { case: "approve", value: {} } });
}

/** The tool call must not run; the model reads the comment. */
export function deny(comment = ""): InputAnswer {
  return create(InputAnswerSchema, { answer: { case: "deny", value: { comment } } });
}

/** Run the interrupted call once more. */
export function runAgain(): InputAnswer {
  return create(InputAnswerSchema, { answer: { case: "runAgain", value: {} } });
}

/** The interrupted call took effect; this is its result. */
export function result(output: JsonValue): InputAnswer {
  return create(InputAnswerSchema, { answer: { case: "outputJson", value: JSON.stringify(output) } });
}

/** The interrupted call took no effect; the model reads why. */
export function failure(message: string): InputAnswer {
  return create(InputAnswerSchema, { answer: { case: "errorMessage", value: message } });
}

/** An answer to the agent's question. */
export function reply(message: string): InputAnswer {
  return create(InputAnswerSchema, { answer: { case: "message", value: message } });
}
