/** A service that a test tells what to say, on a real port. */

import { create, type DescMessage, fromBinary, type Message, toBinary } from "@bufbuild/protobuf";
import { anyPack, durationFromMs } from "@bufbuild/protobuf/wkt";
import {
  type handleUnaryCall,
  Metadata,
  Server,
  ServerCredentials,
  type ServerWritableStream,
  status,
} from "@grpc/grpc-js";
import { AgentService, type TaskEvent, TaskEventSchema } from "agent-service-client";
import * as rpc from "../src/generated/google/rpc/error_details_pb.js";
import { StatusSchema } from "../src/generated/google/rpc/status_pb.js";

/** One call as the service sees it. */
export type ServerCall = ServerWritableStream<any, any>;
type Methods = { [name in keyof typeof AgentService.method]?: (call: ServerCall) => void | Promise<void> };

/** A service with these methods; it ends with its `await using`. */
export class Service implements AsyncDisposable {
  readonly #server: Server;
  #port = 0;

  private constructor(methods: Methods) {
    this.#server = new Server();
    const definition = AgentService.methods.map((method) => [
      method.localName,
      {
        path: `/${AgentService.typeName}/${method.name}`,
        requestStream: false,
        responseStream: true, // also of unary ones: no difference on the wire
        requestDeserialize: (bytes: Buffer) => fromBinary(method.input, bytes),
        responseSerialize: (message: Message) => encoded(method.output, message),
        requestSerialize: (message: Message) => encoded(method.input, message),
        responseDeserialize: (bytes: Buffer) => fromBinary(method.output, bytes),
      },
    ]);
    this.#server.addService(Object.fromEntries(definition), methods as Record<string, handleUnaryCall<any, any>>);
  }

  static async with(methods: Methods, credentials = ServerCredentials.createInsecure(), port = 0): Promise<Service> {
    const service = new Service(methods);
    service.#port = await new Promise((resolve, reject) =>
      service.#server.bindAsync(`127.0.0.1:${port}`, credentials, (error, bound) =>
        error ? reject(error) : resolve(bound),
      ),
    );
    return service;
  }

  get port(): number {
    return this.#port;
  }

  get target(): string {
    return `127.0.0.1:${this.#port}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.forceShutdown();
  }
}

/** Answer, and end the call. */
export function answer(call: ServerCall, response: object): void {
  call.write(response);
  call.end();
}

/** Tell the task's id, as the service does once the task is stored. */
export function accept(call: ServerCall, taskId = "t1"): void {
  const headers = new Metadata();
  headers.set("x-task-id", taskId);
  call.sendMetadata(headers);
}

/** Send events of a task, numbered, up to `last`: the way of one that is `completed` by the fifth. */
export function send(call: ServerCall, first: number, last: number): void {
  const arms = ["submitted", "attemptStarted", "modelStarted", "modelReplied", "completed"];
  for (let sequence = first; sequence <= last; sequence++) {
    call.write({ event: event(sequence, arms[sequence - 1] ?? "") });
  }
}

/** One event. */
export function event(sequence: number, arm: string, value: object = {}): TaskEvent {
  return create(TaskEventSchema, { taskId: "t1", sequence: BigInt(sequence), event: { case: arm, value } as any });
}

/** Refuse with a status and its details. */
export function refuse(
  call: ServerCall,
  code: keyof typeof status,
  told: { reason?: string; retryAfterMs?: number; violations?: { field: string; description: string }[] } = {},
): void {
  const details = [
    ...(told.reason ? [anyPack(rpc.ErrorInfoSchema, create(rpc.ErrorInfoSchema, { reason: told.reason }))] : []),
    ...(told.retryAfterMs
      ? [anyPack(rpc.RetryInfoSchema, create(rpc.RetryInfoSchema, { retryDelay: durationFromMs(told.retryAfterMs) }))]
      : []),
    ...(told.violations
      ? [anyPack(rpc.BadRequestSchema, create(rpc.BadRequestSchema, { fieldViolations: told.violations }))]
      : []),
  ];
  const metadata = new Metadata();
  const encodedStatus = toBinary(StatusSchema, create(StatusSchema, { code: status[code], details }));
  if (details.length) metadata.set("grpc-status-details-bin", Buffer.from(encodedStatus));
  call.emit("error", { code: status[code], details: `told ${code}`, metadata });
}

function encoded(schema: DescMessage, message: Message): Buffer {
  return Buffer.from(toBinary(schema, create(schema, message as never)));
}
