/** The client against a service that breaks off, refuses, and holds. */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync } from "node:fs";
import { constants, type ServerHttp2Session, type ServerHttp2Stream } from "node:http2";
import { type AddressInfo, connect as connectTo, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { inspect } from "node:util";
import { ServerCredentials } from "@grpc/grpc-js";
import { CallError, Client, type ClientOptions, OnDisconnect, type TaskEvent } from "agent-service-client";
import { accept, answer, event, refuse, send, type ServerCall, Service } from "./service.js";

const TASK = { task: { id: "t1", output: "hello" } };

/** A client that ends with its `await using`. */
function connect(service: Service, options: ClientOptions = {}): Client {
  return new Client(service.target, options);
}

async function all(events: AsyncIterable<TaskEvent>): Promise<number[]> {
  const seen = [];
  for await (const { sequence } of events) seen.push(Number(sequence));
  return seen;
}

function refusal(code: string, reason = ""): (error: unknown) => boolean {
  return (error) => error instanceof CallError && error.code === code && error.reason === reason;
}

/** A promise, and how to keep it. */
function promised<T = void>(): { promise: Promise<T>; keep: (value: T) => void } {
  let keep!: (value: T) => void;
  const promise = new Promise<T>((resolve) => (keep = resolve));
  return { promise, keep };
}

/** What a call is on the wire; grpc-js has no door to it. */
function http2Stream(call: ServerCall): ServerHttp2Stream & { session: ServerHttp2Session } {
  return (call as any).call.stream;
}

/** Carries bytes to a port and back, until it swallows those of all connections that there are. */
class Network implements AsyncDisposable {
  readonly #server = createServer();
  readonly #ends: Socket[] = [];

  static async before(port: number): Promise<Network> {
    const network = new Network();
    network.#server.on("connection", (near) => {
      const far = connectTo(port, "127.0.0.1");
      network.#ends.push(near, far);
      for (const end of [near, far]) end.on("error", () => {});
      near.pipe(far).pipe(near);
    });
    await new Promise<void>((resolve) => network.#server.listen(0, "127.0.0.1", resolve));
    return network;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** Nobody is told; connections made from now on are carried again. */
  swallow(): void {
    for (const end of this.#ends) end.unpipe().resume();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const end of this.#ends) end.destroy();
    this.#server.close();
  }
}

// --- Breaks ---

test("a stream that breaks is taken up again, and every journaled event is seen once", async () => {
  const requests: string[] = [];
  await using service = await Service.with({
    streamTask(call) {
      requests.push(call.request.run.requestId);
      send(call, 1, requests.length + 1);
      if (requests.length < 4) return refuse(call, "UNAVAILABLE");
      call.end();
    },
  });
  await using client = connect(service);
  assert.deepEqual(await all(client.stream("go")), [1, 2, 3, 4, 5]);
  assert.equal(requests.length, 4);
  assert.equal(new Set(requests).size, 1, "the same requestId each time");
  assert.match(requests[0] ?? "", /^[0-9a-f-]{36}$/);
});

test("a stream goes on where a draining server sends it", async () => {
  let calls = 0;
  await using service = await Service.with({
    streamTask(call) {
      calls += 1;
      send(call, 1, 3);
      if (calls === 1) return refuse(call, "UNAVAILABLE", { reason: "DRAINING" });
      send(call, 4, 5);
      call.end();
    },
  });
  await using client = connect(service);
  assert.deepEqual(await all(client.stream("go")), [1, 2, 3, 4, 5]);
});

test("a stream that arrives while the server stops is opened again", async () => {
  let calls = 0;
  await using service = await Service.with({
    streamTask(call) {
      calls += 1;
      if (calls === 1) return refuse(call, "CANCELLED");
      send(call, 1, 3);
      if (calls === 2) return refuse(call, "CANCELLED");
      send(call, 4, 5);
      call.end();
    },
  });
  await using client = connect(service);
  assert.deepEqual(await all(client.stream("go")), [1, 2, 3, 4, 5]);
});

test("a call that arrives while the server stops is made again", async () => {
  let calls = 0;
  await using service = await Service.with({
    runTask(call) {
      calls += 1;
      if (calls === 1) refuse(call, "CANCELLED");
      else answer(call, TASK);
    },
  });
  await using client = connect(service);
  assert.equal((await client.run("go")).id, "t1");
});

test("a cancellation that the service answers is the last", async () => {
  let calls = 0;
  await using service = await Service.with({
    runTask(call) {
      calls += 1;
      refuse(call, "CANCELLED", { reason: "CALL_CANCELED" });
    },
  });
  await using client = connect(service);
  await assert.rejects(client.run("go"), refusal("CANCELLED", "CALL_CANCELED"));
  assert.equal(calls, 1);
});

test("a stream that a proxy cut is taken up again", async () => {
  let calls = 0;
  await using service = await Service.with({
    streamTask(call) {
      calls += 1;
      send(call, 1, 3);
      if (calls === 1) return void setImmediate(() => http2Stream(call).close(constants.NGHTTP2_INTERNAL_ERROR));
      send(call, 4, 5);
      call.end();
    },
  });
  await using client = connect(service);
  assert.deepEqual(await all(client.stream("go")), [1, 2, 3, 4, 5]);
});

test("live text, reasoning and waits pass, also when they come again", async () => {
  let calls = 0;
  await using service = await Service.with({
    streamTask(call) {
      calls += 1;
      send(call, 1, 3);
      call.write({ event: event(3, "reasoningDelta", { text: "hm" }) });
      call.write({ event: event(3, "textDelta", { text: "hel" }) });
      call.write({ event: event(3, "waiting", {}) });
      if (calls === 1) return refuse(call, "UNAVAILABLE");
      send(call, 4, 5);
      call.end();
    },
  });
  await using client = connect(service);
  assert.deepEqual(await all(client.stream("go")), [1, 2, 3, 3, 3, 3, 3, 3, 3, 4, 5]);
});

test("a watcher goes on behind the last event that it has seen", async () => {
  const asked: bigint[] = [];
  await using service = await Service.with({
    watchTask(call) {
      asked.push(call.request.afterSequence);
      send(call, Number(call.request.afterSequence) + 1, asked.length === 1 ? 3 : 5);
      if (asked.length === 1) return refuse(call, "UNAVAILABLE");
      call.end();
    },
  });
  await using client = connect(service);
  assert.deepEqual(await all(client.watch("t1", { afterSequence: 1 })), [2, 3, 4, 5]);
  assert.deepEqual(asked, [1n, 3n]);
});

test("a run that breaks off is asked for again under the same requestId", async () => {
  const requests: string[] = [];
  await using service = await Service.with({
    runTask(call) {
      requests.push(call.request.requestId);
      if (requests.length < 3) return refuse(call, "UNAVAILABLE");
      answer(call, TASK);
    },
  });
  await using client = connect(service);
  assert.equal((await client.run("go")).output, "hello");
  assert.equal(requests.length, 3);
  assert.equal(new Set(requests).size, 1);
});

test("a server that is gone and comes back is found again", async () => {
  const accepted = promised<ServerCall>();
  const first = await Service.with({
    runTask(call) {
      accept(call);
      accepted.keep(call);
    },
  });
  await using client = connect(first);
  const running = client.run("go");
  http2Stream(await accepted.promise).session.destroy();
  await first[Symbol.asyncDispose]();
  await using _ = await Service.with({ runTask: (call) => answer(call, TASK) }, undefined, first.port);
  assert.equal((await running).output, "hello");
});

test("a silent network is noticed, and the answer fetched by another connection", async () => {
  const accepted = promised();
  let calls = 0;
  await using service = await Service.with({
    runTask(call) {
      calls += 1;
      accept(call);
      accepted.keep();
      if (calls === 2) answer(call, TASK);
    },
  });
  await using network = await Network.before(service.port);
  const soon = { "grpc.keepalive_time_ms": 100, "grpc.keepalive_timeout_ms": 300 };
  await using client = new Client(`127.0.0.1:${network.port}`, { channelOptions: soon });
  const running = client.run("go");
  await accepted.promise;
  network.swallow();
  assert.equal((await running).output, "hello");
});

test("where nobody listens, a call fails at once", async () => {
  const port = await new Promise<number>((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address() as AddressInfo;
      server.close(() => resolve(port));
    });
  });
  await using client = new Client(`127.0.0.1:${port}`);
  // Where it waited, it would wait until the deadline.
  const running = client.run("go", { deadlineMs: 5000 });
  await assert.rejects(running, (error) => error instanceof CallError && error.isUnreachable);
});

test("without patience the first break is the last", async () => {
  let calls = 0;
  await using service = await Service.with({
    runTask(call) {
      calls += 1;
      refuse(call, "UNAVAILABLE");
    },
  });
  await using client = connect(service, { patienceMs: 0 });
  await assert.rejects(client.run("go"), refusal("UNAVAILABLE"));
  assert.equal(calls, 1);
});

// --- Refusals ---

test("a refusal of new work is the caller's to wait for, who is told how long", async () => {
  let calls = 0;
  await using service = await Service.with({
    runTask(call) {
      calls += 1;
      refuse(call, "UNAVAILABLE", { reason: "OVERLOADED", retryAfterMs: 1500 });
    },
  });
  await using client = connect(service);
  await assert.rejects(client.run("go"), (error) => error instanceof CallError && error.retryAfterMs === 1500);
  assert.equal(calls, 1);
});

test("the way back to an accepted task waits for room", async () => {
  let calls = 0;
  await using service = await Service.with({
    runTask(call) {
      calls += 1;
      if (calls === 1) {
        accept(call);
        return refuse(call, "UNAVAILABLE", { reason: "DRAINING" });
      }
      if (calls === 2) return refuse(call, "RESOURCE_EXHAUSTED", { reason: "RATE_LIMITED_CALLS", retryAfterMs: 10 });
      answer(call, TASK);
    },
  });
  await using client = connect(service);
  assert.equal((await client.run("go")).output, "hello");
  assert.equal(calls, 3);
});

test("what only reads is asked for again, what erases is not", async () => {
  const calls = { get: 0, delete: 0 };
  await using service = await Service.with({
    getTask(call) {
      calls.get += 1;
      if (calls.get < 3) return refuse(call, "UNAVAILABLE", { reason: "STORE_UNAVAILABLE" });
      answer(call, TASK);
    },
    deleteTask(call) {
      calls.delete += 1;
      refuse(call, "UNAVAILABLE");
    },
  });
  await using client = connect(service);
  assert.equal((await client.getTask("t1")).id, "t1");
  await assert.rejects(client.deleteTask("t1"), refusal("UNAVAILABLE"));
  assert.deepEqual(calls, { get: 3, delete: 1 });
});

test("an error carries what the service told", async () => {
  const violations = [{ field: "task", description: "must not be empty" }];
  await using service = await Service.with({
    runTask: (call) => refuse(call, "INVALID_ARGUMENT", { reason: "FIELD_INVALID", violations }),
  });
  await using client = connect(service);
  await assert.rejects(client.run(""), (error) => {
    assert(error instanceof CallError);
    assert.deepEqual([error.code, error.reason, error.violations], ["INVALID_ARGUMENT", "FIELD_INVALID", violations]);
    assert.equal(String(error), "CallError: INVALID_ARGUMENT FIELD_INVALID: told INVALID_ARGUMENT");
    assert.deepEqual(
      error.details.map(({ $typeName }) => $typeName),
      ["google.rpc.ErrorInfo", "google.rpc.BadRequest"],
    );
    return true;
  });
});

// --- Leaving ---

test("a run that is aborted cancels its task, and rejects with the reason", async () => {
  const [accepted, canceled] = [promised(), promised<string>()];
  await using service = await Service.with({
    runTask(call) {
      accept(call);
      accepted.keep();
    },
    cancelTask(call) {
      canceled.keep(call.request.taskId);
      answer(call, TASK);
    },
  });
  await using client = connect(service);
  const abort = new AbortController();
  const running = client.run("go", { signal: abort.signal });
  await accepted.promise;
  abort.abort(new Error("enough"));
  await assert.rejects(running, { message: "enough" });
  assert.equal(await canceled.promise, "t1");
});

test("a stream that is aborted before it told its task cancels it all the same", async () => {
  const [asked, canceled] = [promised<ServerCall>(), promised<string>()];
  await using service = await Service.with({
    streamTask: (call) => asked.keep(call),
    cancelTask(call) {
      canceled.keep(call.request.taskId);
      answer(call, TASK);
    },
  });
  await using client = connect(service);
  const abort = new AbortController();
  const reading = client.stream("go", { signal: abort.signal }).next();
  const call = await asked.promise;
  abort.abort();
  accept(call);
  await assert.rejects(reading, { name: "AbortError" });
  assert.equal(await canceled.promise, "t1");
});

test("a stream that is left cancels its task, unless it is detached or has settled", async () => {
  const canceled: string[] = [];
  await using service = await Service.with({
    streamTask(call) {
      accept(call, call.request.run.task);
      send(call, 1, 2);
      call.write({ event: event(3, "inputRequired") });
    },
    cancelTask(call) {
      canceled.push(call.request.taskId);
      answer(call, TASK);
    },
  });
  await using client = connect(service);
  for await (const { sequence } of client.stream("left")) if (sequence === 2n) break;
  for await (const { sequence } of client.stream("waits")) if (sequence === 3n) break;
  for await (const { sequence } of client.stream("detached", { detached: true })) if (sequence === 2n) break;
  assert.deepEqual(canceled, ["left"]);
});

test("a detached run that is aborted leaves its task alone", async () => {
  const [accepted, gone] = [promised(), promised()];
  await using service = await Service.with({
    runTask(call) {
      assert.equal(call.request.onDisconnect, OnDisconnect.DETACH);
      call.on("cancelled", () => gone.keep());
      accept(call);
      accepted.keep();
    },
    cancelTask: () => assert.fail("was canceled"),
  });
  await using client = connect(service);
  const abort = new AbortController();
  const running = client.run("go", { detached: true, signal: abort.signal });
  await accepted.promise;
  abort.abort();
  await assert.rejects(running, { name: "AbortError" });
  await gone.promise;
});

test("one signal serves many calls", async (t) => {
  const warned: Error[] = [];
  const listen = (warning: Error) => void warned.push(warning);
  process.on("warning", listen);
  t.after(() => process.off("warning", listen));
  await using service = await Service.with({ runTask: (call) => answer(call, TASK) });
  await using client = connect(service);
  const { signal } = new AbortController();
  await Promise.all(Array.from({ length: 50 }, () => client.run("go", { signal })));
  assert.deepEqual(warned, []);
});

test("a wait between two tries can be aborted", async () => {
  const refused = promised();
  await using service = await Service.with({
    runTask(call) {
      accept(call);
      refuse(call, "RESOURCE_EXHAUSTED", { reason: "RATE_LIMITED_CALLS", retryAfterMs: 50_000 });
      setImmediate(refused.keep);
    },
  });
  await using client = connect(service);
  const abort = new AbortController();
  const running = client.run("go", { signal: abort.signal });
  await refused.promise;
  abort.abort();
  await assert.rejects(running, { name: "AbortError" });
});

// --- Deadlines ---

test("the service is told the deadline, and repetitions do not stretch it", async () => {
  const deadlines: number[] = [];
  await using service = await Service.with({
    runTask(call) {
      deadlines.push(new Date(call.getDeadline()).getTime());
      if (deadlines.length === 1) refuse(call, "UNAVAILABLE");
    },
  });
  await using client = connect(service);
  await assert.rejects(client.run("go", { deadlineMs: 800 }), refusal("DEADLINE_EXCEEDED"));
  assert.equal(deadlines.length, 2);
  assert(Math.abs((deadlines[1] ?? 0) - (deadlines[0] ?? 0)) < 100, String(deadlines));
});

// --- Connections ---

test("a cancel does not stand in line behind calls that wait for tasks", async () => {
  const held = promised<ServerCall>();
  const peers: string[] = [];
  await using service = await Service.with({
    runTask(call) {
      peers.push(call.getPeer());
      held.keep(call);
    },
    cancelTask(call) {
      peers.push(call.getPeer());
      answer(call, TASK);
    },
  });
  await using client = connect(service);
  const running = client.run("go");
  await held.promise;
  await client.cancel("t1");
  assert.equal(new Set(peers).size, 2, String(peers));
  answer(await held.promise, TASK);
  await running;
});

test("closing ends the calls under way", async () => {
  const accepted = promised();
  await using service = await Service.with({
    runTask(call) {
      accept(call);
      accepted.keep();
    },
  });
  const client = connect(service);
  const running = client.run("go");
  await accepted.promise;
  client.close();
  await assert.rejects(running, refusal("CANCELLED"));
});

test("the key travels with every call, and is shown nowhere", async () => {
  const apiKey = "very-secret-key";
  const seen: unknown[] = [];
  await using service = await Service.with({
    runTask(call) {
      seen.push(call.metadata.get("x-api-key")[0]);
      refuse(call, "UNAUTHENTICATED", { reason: "API_KEY_INVALID" });
    },
  });
  await using client = connect(service, { apiKey });
  const error: unknown = await client.run("go").catch((error: unknown) => error);
  assert.deepEqual(seen, [apiKey]);
  const options = { depth: Infinity, showHidden: true };
  const shown = [
    inspect(client, options),
    JSON.stringify(client),
    String(client),
    inspect(error, options),
    String(error),
  ];
  assert(!shown.join().includes(apiKey), shown.join());
  assert.throws(
    () => connect(service, { apiKey: `${apiKey}\n${apiKey}` }),
    (refused) => refusal("UNAUTHENTICATED", "API_KEY_INVALID")(refused) && !inspect(refused, options).includes(apiKey),
  );
});

test("a key is sent without the white space around it, and one that no header can carry not at all", async () => {
  const seen: unknown[] = [];
  await using service = await Service.with({
    listAgents(call) {
      seen.push(call.metadata.get("x-api-key")[0]);
      refuse(call, "UNAUTHENTICATED", { reason: "API_KEY_INVALID" });
    },
  });
  for (const apiKey of ["key\n", "\r\n key\t", "\n"]) {
    await using client = connect(service, { apiKey });
    await assert.rejects(client.listAgents());
  }
  assert.deepEqual(seen, ["key", "key", undefined]);
  for (const apiKey of ["k\u00fc", "a b", "a\nb", "\ufeffkey", "a\0", "\u{1f600}"])
    assert.throws(() => connect(service, { apiKey }), refusal("UNAUTHENTICATED", "API_KEY_INVALID"));
});

test("a server that is not there is told with what to look at", async () => {
  await using client = new Client("127.0.0.1:1");
  await assert.rejects(
    client.run("go"),
    /is a server running at 127\.0\.0\.1:1\? AGENT_SERVICE_TARGET names the address/,
  );
});

test("over TLS both sides prove who they are", async () => {
  const folder = mkdtempSync(join(tmpdir(), "agent-service-client-"));
  const [keyFile, certFile] = [join(folder, "key.pem"), join(folder, "cert.pem")];
  const wanted = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=inner"];
  const name = ["-addext", "subjectAltName=DNS:inner"];
  execFileSync("openssl", ["req", ...wanted, ...name, "-keyout", keyFile, "-out", certFile], { stdio: "ignore" });
  const [key, cert] = [readFileSync(keyFile), readFileSync(certFile)];
  const credentials = ServerCredentials.createSsl(cert, [{ private_key: key, cert_chain: cert }], true);
  await using service = await Service.with({ runTask: (call) => answer(call, TASK) }, credentials);
  const proven = { ca: cert, key, cert, serverName: "inner" };
  await using client = connect(service, { tls: proven });
  assert.equal((await client.run("go")).output, "hello");

  for (const tls of [
    { serverName: "inner" },
    { ...proven, serverName: "outer" },
    { ...proven, key: undefined, cert: undefined },
  ]) {
    await using stranger = connect(service, { tls, patienceMs: 0 });
    await assert.rejects(stranger.run("go"), refusal("UNAVAILABLE"));
  }
});
