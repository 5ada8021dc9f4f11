/** Calls that survive a server's restart: the same request again, under the same requestId, until it is answered. */

import { setTimeout as sleep } from "node:timers/promises";
import { CallError } from "./errors.js";
import type { TaskEvent } from "./generated/agent_service/v1/task_event_pb.js";

const WAIT_MS = 100;
const WAIT_MAX_MS = 1000;

/** When a call must be over. */
export interface Limits {
  signal?: AbortSignal | undefined;
  deadline?: Date | undefined;
}

/**
 * How long to go back to a server: `patienceMs` from the first failure since its last sign of life; 0 not at all.
 *
 * `isAway` says whether a server that cannot be reached was there before. A task that gave a sign of life was accepted:
 * the way back to it waits for room too, where new work would be refused. Whether to wait with new work is the caller's
 * to decide, who is told `retryAfterMs`.
 */
export class Patience {
  readonly #patienceMs: number;
  readonly #isAway: () => boolean;
  readonly #limits: Limits;
  readonly #clock: Clock;
  #waitMs = WAIT_MS;
  #until: number | undefined;
  #isAccepted = false;

  constructor(patienceMs: number, isAway: () => boolean, limits: Limits = {}, clock: Clock = CLOCK) {
    this.#patienceMs = patienceMs;
    this.#isAway = isAway;
    this.#limits = limits;
    this.#clock = clock;
  }

  /** The task gave a sign of life. */
  renew(): void {
    this.#waitMs = WAIT_MS;
    this.#until = undefined;
    this.#isAccepted = true;
  }

  /** Wait before the next try. Throws what it is given, where another try is no use or it would be too late. */
  async wait(error: unknown): Promise<void> {
    if (!(error instanceof CallError)) throw error;
    const now = this.#clock.now();
    this.#until ??= now + this.#patienceMs;
    let waitMs = this.#waitMs * (0.5 + Math.random() / 2);
    let isUseful: boolean;
    if (error.isInterruption) {
      isUseful = (error.reason !== "" || this.#isAway()) && now < this.#until;
    } else {
      waitMs = Math.max(waitMs, error.retryAfterMs ?? 0);
      isUseful = this.#isAccepted && error.retryAfterMs !== undefined && now + waitMs <= this.#until;
    }
    if (!isUseful) throw error;
    this.#waitMs = Math.min(2 * this.#waitMs, WAIT_MAX_MS);
    const { signal, deadline } = this.#limits;
    await this.#clock.sleep(deadline ? Math.min(waitMs, deadline.getTime() - now) : waitMs, signal);
  }
}

/** Time, for tests to stand in for. */
export interface Clock {
  now(): number;
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
}

const CLOCK: Clock = {
  now: Date.now,
  async sleep(ms, signal) {
    await sleep(ms, undefined, { signal }).catch(() => {});
    signal?.throwIfAborted();
  },
};

/** What a call that may be repeated returns. Throws CallError: it was refused, or interrupted for too long. */
export async function answered<T>(call: () => Promise<T>, patience: Patience): Promise<T> {
  for (;;) {
    try {
      return await call();
    } catch (error) {
      if (error instanceof CallError && error.taskId) patience.renew();
      await patience.wait(error);
    }
  }
}

/**
 * The events of a stream that may be opened again behind the last sequence seen; each journaled one once.
 * Throws CallError: it was refused, or interrupted for too long.
 */
export async function* followed(
  open: (after: bigint) => AsyncIterable<TaskEvent>,
  after: bigint,
  patience: Patience,
): AsyncGenerator<TaskEvent, void, undefined> {
  let seen = after;
  for (;;) {
    try {
      for await (const event of open(seen)) {
        patience.renew();
        if (isJournaled(event)) {
          if (event.sequence <= seen) continue;
          seen = event.sequence;
        }
        yield event;
      }
      return;
    } catch (error) {
      await patience.wait(error);
    }
  }
}

/** Whether the event is one of the numbered ones. */
export function isJournaled({ event }: TaskEvent): boolean {
  return !["textDelta", "reasoningDelta", "waiting", "heartbeat"].includes(event.case ?? "");
}

/** Whether the task has ended with it, or waits for input. */
export function settles({ event }: TaskEvent): boolean {
  return ["completed", "failed", "canceled", "rejected", "inputRequired"].includes(event.case ?? "");
}
