/** What grpc-js repeats by itself. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { status } from "@grpc/grpc-js";
import { AgentService } from "agent-service-client";
import { Connection } from "../src/connection.js";
import { type ServerCall, Service } from "./service.js";

/** How often a call is made that a server refuses once because it is away. */
async function attempts(method: (typeof AgentService.methods)[number]): Promise<number> {
  let made = 0;
  const refuse = (call: ServerCall) => {
    made += 1;
    call.emit("error", { code: made === 1 ? status.UNAVAILABLE : status.INVALID_ARGUMENT, details: "no" });
  };
  await using service = await Service.with({ [method.localName]: refuse });
  const connection = new Connection(service.target, {});
  try {
    await assert.rejects(async () => {
      for await (const _ of connection.start(method, {}, undefined));
    });
  } finally {
    connection.close();
  }
  return made;
}

test("those calls are repeated that the contract names", async () => {
  const named = readFileSync(new URL("../../../repeatable.txt", import.meta.url), "utf8")
    .trim()
    .split("\n");
  const repeated = [];
  for (const method of AgentService.methods) {
    if ((await attempts(method)) === 2) repeated.push(method.name);
  }
  assert.deepEqual(repeated.sort(), named);
});
