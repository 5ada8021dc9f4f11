/** A connection to a server, and calls on it. Knows the wire; what calls mean is the client's. */

import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import type { DescMessage, DescMethod, MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import { MethodOptions_IdempotencyLevel } from "@bufbuild/protobuf/wkt";
import {
  type ChannelOptions,
  type ClientReadableStream,
  Client as GrpcClient,
  credentials,
  Metadata,
  type ServiceError,
} from "@grpc/grpc-js";
import { AgentService } from "./generated/agent_service/v1/agent_service_pb.js";
import { callError, refusedKey, text } from "./errors.js";

const LOOPBACK = /^(dns:)?(\/\/\/)?(localhost|127\.|\[::1\])/;
const MESSAGE_BYTES_MAX = 16 * 1024 * 1024;
// A server that does not answer a ping in time is gone, however its machine went.
const PING_EVERY_MS = 30_000;
const PING_TIMEOUT_MS = 10_000;

/** The methods that have the same effect when they are called again, by the contract's `idempotency_level`. */
const REPEATABLE = AgentService.methods.filter(
  ({ idempotency }) => idempotency !== MethodOptions_IdempotencyLevel.IDEMPOTENCY_UNKNOWN,
);

// grpc-js has no health checking of its own: what a draining server refuses, the client takes to another connection.
const SERVICE_CONFIG = {
  loadBalancingConfig: [{ round_robin: {} }],
  methodConfig: [
    {
      name: REPEATABLE.map(({ name }) => ({ service: AgentService.typeName, method: name })),
      retryPolicy: {
        maxAttempts: 3,
        initialBackoff: "0.1s",
        maxBackoff: "1s",
        backoffMultiplier: 2,
        retryableStatusCodes: ["UNAVAILABLE"],
      },
    },
  ],
  retryThrottling: { maxTokens: 10, tokenRatio: 0.1 },
};

/** How to prove who is who. Texts and buffers are PEM. */
export interface TlsOptions {
  /** The certificates to trust; the system's where it is not given. */
  ca?: string | Buffer;
  /** This client's own certificate and its key, for a server that asks for one. */
  cert?: string | Buffer;
  key?: string | Buffer;
  /** The name in the server's certificate, where it is not that of the target. */
  serverName?: string;
}

/** How to connect. */
export interface ConnectionOptions {
  /** White space around it is dropped; one that no header can carry is refused with a CallError, API_KEY_INVALID. */
  apiKey?: string | undefined;
  /** `true` trusts the system's certificates; without it the connection is in plain text. */
  tls?: boolean | TlsOptions;
  /** Channel arguments of grpc-js, beside or instead of ours. */
  channelOptions?: ChannelOptions;
}

/** A method with the types of its messages. */
export type Method<I extends DescMessage, O extends DescMessage> = DescMethod & { input: I; output: O };

/** One HTTP/2 connection to each server behind the target, made when it is needed. */
export class Connection {
  readonly #grpc: GrpcClient;
  readonly #metadata = new Metadata();
  readonly #calls = new Set<Call<unknown>>();

  constructor(target: string, options: ConnectionOptions) {
    // What files and secret stores leave around a key. Any other character may be part of a mistake.
    const apiKey = options.apiKey?.replace(/^[ \t\r\n\v\f]+|[ \t\r\n\v\f]+$/g, "");
    if (apiKey) {
      // Metadata's own error would show the key.
      if (!/^[\x21-\x7e]+$/.test(apiKey)) throw refusedKey();
      this.#metadata.set("x-api-key", apiKey);
    }
    this.#grpc = new GrpcClient(target, channelCredentials(options.tls), {
      "grpc.service_config": JSON.stringify(SERVICE_CONFIG),
      // The defaults above are ours, not those of whoever keeps the name.
      "grpc.service_config_disable_resolution": 1,
      "grpc.max_receive_message_length": MESSAGE_BYTES_MAX,
      // A connection of its own: a server admits so many calls at once on each.
      "grpc.use_local_subchannel_pool": 1,
      "grpc.keepalive_time_ms": PING_EVERY_MS,
      "grpc.keepalive_timeout_ms": PING_TIMEOUT_MS,
      "grpc.initial_reconnect_backoff_ms": 100,
      "grpc.max_reconnect_backoff_ms": 1000,
      // An http_proxy of the environment is not meant for this machine.
      ...(LOOPBACK.test(target) && { "grpc.enable_http_proxy": 0 }),
      ...(typeof options.tls === "object" &&
        options.tls.serverName && { "grpc.ssl_target_name_override": options.tls.serverName }),
      ...options.channelOptions,
    });
  }

  /** Begin a call. Of a unary method it is read as a stream of one: on the wire there is no difference. */
  start<I extends DescMessage, O extends DescMessage>(
    method: Method<I, O>,
    request: MessageInitShape<I>,
    deadline: Date | undefined,
  ): Call<MessageShape<O>> {
    const stream = this.#grpc.makeServerStreamRequest(
      `/${method.parent.typeName}/${method.name}`,
      (message: MessageShape<I>) => Buffer.from(toBinary(method.input, message)),
      (bytes: Buffer) => fromBinary(method.output, bytes),
      create(method.input, request),
      this.#metadata,
      deadline ? { deadline } : {},
    );
    const call = new Call(stream);
    this.#calls.add(call);
    stream.once("status", () => this.#calls.delete(call));
    return call;
  }

  /** End the calls under way, and let go. */
  close(): void {
    for (const call of this.#calls) call.cancel();
    this.#grpc.close();
  }
}

/** A call under way: what it answers, one by one. Throws CallError. */
export class Call<T> {
  /** The task that it begun; empty where it ended before it told. */
  readonly taskId: Promise<string>;
  readonly #stream: ClientReadableStream<T>;
  #headers: Metadata | undefined;
  #isCanceled = false;

  constructor(stream: ClientReadableStream<T>) {
    this.#stream = stream;
    stream.on("error", () => {}); // Of a call that nobody reads any more.
    this.taskId = new Promise((resolve) => {
      stream.once("metadata", (headers) => {
        this.#headers = headers;
        resolve(text(headers, "x-task-id"));
      });
      stream.once("status", () => resolve(""));
    });
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<T, void, undefined> {
    try {
      yield* this.#stream as AsyncIterable<T>;
    } catch (error) {
      throw callError(error as ServiceError, this.#headers, this.#isCanceled);
    }
  }

  cancel(): void {
    this.#isCanceled = true;
    this.#stream.cancel();
  }
}

function channelCredentials(tls: boolean | TlsOptions | undefined) {
  if (!tls) return credentials.createInsecure();
  if (tls === true) return credentials.createSsl();
  const [ca, key, cert] = [tls.ca, tls.key, tls.cert].map((pem) => (pem === undefined ? null : Buffer.from(pem)));
  return credentials.createSsl(ca, key, cert);
}
