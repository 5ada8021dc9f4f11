/** A call that was refused or broke, as data. */

import { createRegistry, fromBinary, type Message } from "@bufbuild/protobuf";
import { anyUnpack, type Duration } from "@bufbuild/protobuf/wkt";
import { type Metadata, type ServiceError, status } from "@grpc/grpc-js";
import type { ErrorReason } from "./generated/agent_service/v1/error_reason_pb.js";
import * as rpc from "./generated/google/rpc/error_details_pb.js";
import { StatusSchema } from "./generated/google/rpc/status_pb.js";

const DETAILS = createRegistry(rpc.file_google_rpc_error_details);
// grpc-js says it in words alone.
const UNREACHABLE = /No connection established|Name resolution failed/;
// So says grpc-js of a stream that a proxy cut; the service's own INTERNAL has a reason.
const CUT = /^Received RST_STREAM with code/;

/** A gRPC code's name, such as `NOT_FOUND`. */
export type Code = keyof typeof status;

/** What is wrong with one field of a request; `field` is its path. */
export interface Violation {
  readonly field: string;
  readonly description: string;
}

type Fields = Pick<CallError, "code" | "message"> & Partial<Omit<CallError, keyof Error>> & { isCallersEnd?: boolean };

/** What the status of a call says. */
export class CallError extends Error {
  override readonly name = "CallError";
  readonly code: Code;
  /** The service's own reason (`API_KEY_INVALID`), empty where the service itself did not answer. */
  readonly reason: keyof typeof ErrorReason | (string & {});
  /** What to look for in the service's log. */
  readonly requestId: string;
  /** The task that the call had begun, which may go on: `watch` shows it. */
  readonly taskId: string;
  /** After which time the same call may succeed; undefined where the service did not say. */
  readonly retryAfterMs: number | undefined;
  readonly violations: readonly Violation[];
  /** What the reason is about: `{ agent: "asistant" }`. */
  readonly metadata: Readonly<Record<string, string>>;
  readonly #details: readonly Message[];
  readonly #isCallersEnd: boolean;

  constructor(fields: Fields) {
    super(fields.message);
    this.code = fields.code;
    this.reason = fields.reason ?? "";
    this.requestId = fields.requestId ?? "";
    this.taskId = fields.taskId ?? "";
    this.retryAfterMs = fields.retryAfterMs;
    this.violations = fields.violations ?? [];
    this.metadata = fields.metadata ?? {};
    this.#details = fields.details ?? [];
    this.#isCallersEnd = fields.isCallersEnd ?? false;
  }

  /** All messages of `google/rpc/error_details.proto` that came with the status. */
  get details(): readonly Message[] {
    return this.#details;
  }

  /** Whether the server went away, or is about to: the same call again finds it back, or another one. */
  get isInterruption(): boolean {
    // So grpc ends what arrives while a server stops. The service's own has a reason.
    if (this.code === "CANCELLED") return this.reason === "" && !this.#isCallersEnd;
    if (this.code === "UNAVAILABLE") return this.reason === "" || this.reason === "DRAINING";
    return this.code === "INTERNAL" && this.reason === "" && CUT.test(this.message);
  }

  /** Whether no connection could be made, as to an address where nobody listens. */
  get isUnreachable(): boolean {
    return this.code === "UNAVAILABLE" && this.reason === "" && UNREACHABLE.test(this.message);
  }

  override toString(): string {
    const told = `${this.name}: ${[this.code, this.reason].filter(Boolean).join(" ")}: ${this.message}`;
    return this.requestId ? `${told} (request ${this.requestId})` : told;
  }
}

/** A key that no header can carry: the service would refuse it too, if it could be sent. */
export function refusedKey(): CallError {
  const message = "the API key has a character that cannot be sent: keys have visible ASCII characters only";
  return new CallError({ code: "UNAUTHENTICATED", message, reason: "API_KEY_INVALID" });
}

/**
 * Read an error of grpc-js: its code, its text, and the details that came with it. `isCallersEnd` says whether the caller
 * had ended the call before.
 */
export function callError(error: ServiceError, headers: Metadata | undefined, isCallersEnd: boolean): CallError {
  const encoded = error.metadata.get("grpc-status-details-bin")[0];
  const details = Buffer.isBuffer(encoded) ? unpacked(encoded) : [];
  const find = <T extends Message>(typeName: T["$typeName"]) =>
    details.find((detail): detail is T => detail.$typeName === typeName);
  const info = find<rpc.ErrorInfo>("google.rpc.ErrorInfo");
  const delay = find<rpc.RetryInfo>("google.rpc.RetryInfo")?.retryDelay;
  const bad = find<rpc.BadRequest>("google.rpc.BadRequest");
  return new CallError({
    code: status[error.code] as Code,
    message: error.details,
    reason: info?.reason,
    requestId: find<rpc.RequestInfo>("google.rpc.RequestInfo")?.requestId,
    taskId: text(headers, "x-task-id") || text(error.metadata, "x-task-id"),
    retryAfterMs: delay && wholeMs(delay),
    violations: bad?.fieldViolations.map(({ field, description }) => ({ field, description })),
    metadata: info?.metadata,
    details,
    isCallersEnd,
  });
}

/** The first value of a key that is a text; empty without one. */
export function text(metadata: Metadata | undefined, key: string): string {
  return metadata?.get(key)[0]?.toString() ?? "";
}

/** Rounded up: earlier is too early. */
function wholeMs({ seconds, nanos }: Duration): number {
  return Number(seconds) * 1000 + Math.ceil(nanos / 1e6);
}

function unpacked(encoded: Uint8Array): Message[] {
  try {
    const all = fromBinary(StatusSchema, encoded).details.map((packed) => anyUnpack(packed, DETAILS));
    return all.filter((detail) => detail !== undefined);
  } catch {
    return []; // Something between us and the service wrote it.
  }
}
