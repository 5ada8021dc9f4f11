/** How long the client goes back to a server, and for what. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { CallError } from "../src/errors.js";
import { answered, type Clock, Patience } from "../src/following.js";

const GONE = new CallError({ code: "UNAVAILABLE", message: "Connection dropped" });
const GONE_FROM_A_TASK = new CallError({ code: "UNAVAILABLE", message: "Connection dropped", taskId: "t" });
const FULL = new CallError({
  code: "RESOURCE_EXHAUSTED",
  message: "full",
  reason: "RATE_LIMITED_CALLS",
  retryAfterMs: 3000,
});

/** Time that passes where somebody sleeps, and where a test says so. */
class StoodStill implements Clock {
  ms = 1_000_000;

  now = () => this.ms;

  async sleep(ms: number): Promise<void> {
    this.ms += ms;
  }

  patience(ms: number, { isAway = true, deadline }: { isAway?: boolean; deadline?: Date } = {}): Patience {
    return new Patience(ms, () => isAway, { deadline }, this);
  }

  /** A call that takes so long and then fails, or is answered; the last one again and again. */
  server(...lives: [number, CallError | string][]): () => Promise<string> {
    return async () => {
      const [ms, outcome] = (lives.length > 1 ? lives.shift() : lives[0]) ?? [0, ""];
      this.ms += ms;
      if (outcome instanceof CallError) throw outcome;
      return outcome;
    };
  }
}

test("a call that was answered for longer than its patience is still taken up", async () => {
  const clock = new StoodStill();
  const lives: [number, CallError | string][] = [
    [600_000, GONE_FROM_A_TASK],
    [0, GONE],
    [600_000, GONE_FROM_A_TASK],
    [5000, "done"],
  ];
  assert.equal(await answered(clock.server(...lives), clock.patience(10_000)), "done");
});

test("a server that stays away is given up when patience ends", async () => {
  const clock = new StoodStill();
  const began = clock.ms;
  await assert.rejects(answered(clock.server([0, GONE]), clock.patience(10_000)), GONE);
  assert(clock.ms - began >= 10_000 && clock.ms - began < 11_100, String(clock.ms - began));
});

test("a server that was never there is not waited for", async () => {
  const clock = new StoodStill();
  const began = clock.ms;
  await assert.rejects(answered(clock.server([0, GONE]), clock.patience(10_000, { isAway: false })), GONE);
  assert.equal(clock.ms, began);
});

test("the way back to an accepted task waits for room, new work does not", async () => {
  const clock = new StoodStill();
  const began = clock.ms;
  const back = clock.server([0, GONE_FROM_A_TASK], [0, FULL], [0, "done"]);
  assert.equal(await answered(back, clock.patience(60_000)), "done");
  assert(clock.ms - began >= 3000);
  await assert.rejects(answered(clock.server([0, FULL], [0, "done"]), clock.patience(60_000)), FULL);
});

test("it does not wait for room that comes after its patience", async () => {
  const clock = new StoodStill();
  const began = clock.ms;
  await assert.rejects(answered(clock.server([0, GONE_FROM_A_TASK], [0, FULL]), clock.patience(2000)), FULL);
  assert(clock.ms - began < 1000);
});

test("the last try is made at the deadline, and tells of it", async () => {
  const clock = new StoodStill();
  const deadline = new Date(clock.ms + 7);
  const over = new CallError({ code: "DEADLINE_EXCEEDED", message: "over" });
  await assert.rejects(answered(clock.server([0, GONE], [0, over]), clock.patience(10_000, { deadline })), over);
  assert.equal(clock.ms, deadline.getTime());
});
