/**
 * Plays the scenario (clients/scenario.md) through the client, or runs the examples; prints TAP.
 *
 * usage: check.js [examples]
 */

import { spawn } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { basename } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { parse } from "yaml";
import { Caller, errorOf } from "./caller.js";
import { filled, found, type Mapping, match, Mismatch, type Value } from "./matching.js";

const CLIENT = new URL("../../", import.meta.url);
const ACTION_MS = 30_000;
const CALL_KEYS = ["call", "as", "with", "until", "meanwhile", "give_up", "expect", "error", "save"];

interface Action {
  call?: string;
  as?: string;
  with?: Mapping;
  until?: string;
  meanwhile?: Action[];
  give_up?: true;
  expect?: Mapping;
  error?: Mapping;
  save?: Record<string, string>;
  wait_s?: string | number;
  restart?: true;
}

interface Test {
  name: string;
  run: () => Promise<void>;
}

/** The step cannot be played here. */
class Skipped extends Error {}

/** The conversation so far. */
class Scenario {
  readonly #callers = new Map<string, Caller>();
  readonly #variables = new Map([["run", Math.random().toString(36).slice(2).padEnd(8, "0").slice(0, 8)]]);

  async play(actions: Action[]): Promise<void> {
    if (!process.env.SCENARIO_RESTART && restarts(actions)) throw new Skipped("SCENARIO_RESTART is not set");
    await this.#takeAll(actions);
  }

  close(): void {
    for (const caller of this.#callers.values()) caller.close();
  }

  async #takeAll(actions: Action[] = []): Promise<void> {
    for (const action of actions) {
      const name = action.call ?? Object.keys(action)[0];
      const late = new AbortController();
      const tooLate = sleep(ACTION_MS, undefined, { signal: late.signal }).then(() => {
        throw new Mismatch(`took more than ${ACTION_MS / 1000} s`);
      });
      try {
        await Promise.race([this.#take(action, late.signal), tooLate]);
      } catch (error) {
        throw error instanceof Mismatch ? new Mismatch(`${name}: ${error.message}`) : error;
      } finally {
        tooLate.catch(() => {});
        late.abort();
      }
    }
  }

  async #take(action: Action, late: AbortSignal): Promise<void> {
    const keys = Object.keys(action);
    const unknown = keys.filter((key) => !CALL_KEYS.includes(key));
    if (action.call !== undefined && unknown.length === 0) return this.#call(action, action.call, late);
    if (keys.join() === "wait_s") return sleep(Number(filled(action.wait_s, this.#variables)) * 1000);
    if (keys.join() === "restart") {
      const { code } = await ended("sh", ["-c", process.env.SCENARIO_RESTART ?? ""]);
      if (code !== 0) throw new Mismatch("the server was not restarted");
      return;
    }
    throw new Mismatch(`unknown keys: ${unknown}`);
  }

  async #call(action: Action, method: string, late: AbortSignal): Promise<void> {
    const given = filled(action.with ?? {}, this.#variables) as Mapping;
    const giveUp = new AbortController();
    late.addEventListener("abort", () => giveUp.abort());
    // A client that cannot be made is an error of its first call.
    const call = (async () => this.#caller(action.as ?? "alice").result(method, given, action.until, giveUp.signal))();
    call.catch(() => {}); // It is awaited below, if nothing fails before.
    try {
      await this.#takeAll(action.meanwhile);
      if (action.give_up) giveUp.abort();
      const told = await this.#outcome(call, action);
      for (const [name, place] of Object.entries(action.save ?? {})) this.#variables.set(name, found(place, told));
    } finally {
      giveUp.abort();
    }
  }

  /** The result or the error, which is as expected. */
  async #outcome(call: Promise<Value>, action: Action): Promise<Value> {
    let result: Value;
    try {
      result = await call;
    } catch (error) {
      if (error instanceof Mismatch) throw error;
      const told = errorOf(error);
      if (!action.error) throw new Mismatch(`expected no error, got ${error}`);
      match(filled(action.error, this.#variables), told, "error");
      return told;
    }
    if (action.error) throw new Mismatch(`expected an error, got ${JSON.stringify(result)}`);
    if (action.expect) match(filled(action.expect, this.#variables), result, "expect");
    return result;
  }

  #caller(name: string): Caller {
    let caller = this.#callers.get(name);
    if (!caller) this.#callers.set(name, (caller = new Caller(name)));
    return caller;
  }
}

function restarts(actions: Action[] = []): boolean {
  return actions.some((action) => action.restart || restarts(action.meanwhile));
}

/** Run a program to its end; what it prints goes to stderr, or with `isKept` is returned. */
function ended(program: string, args: string[], isKept = false): Promise<{ code: number | null; told: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { stdio: ["ignore", isKept ? "pipe" : 2, isKept ? "pipe" : 2] });
    let told = "";
    for (const stream of [child.stdout, child.stderr]) stream?.on("data", (some) => (told += some));
    child.on("error", reject);
    child.on("close", (code) => resolve({ code, told }));
  });
}

/** Run them in order and print TAP; whether all of them hold. */
async function report(tests: Test[]): Promise<boolean> {
  const inCi = !["", "0", "false"].includes((process.env.CI ?? "").toLowerCase());
  console.log(`TAP version 13\n1..${tests.length}`);
  let allHold = true;
  for (const [index, { name, run }] of tests.entries()) {
    let problem: string | undefined;
    let skipped = "";
    try {
      await run();
    } catch (error) {
      if (error instanceof Skipped && !inCi) skipped = ` # SKIP ${error.message}`;
      else problem = error instanceof Mismatch || error instanceof Skipped ? error.message : String(error);
    }
    console.log(`${problem === undefined ? "ok" : "not ok"} ${index + 1} - ${name}${skipped}`);
    if (problem !== undefined) console.log(`  ---\n  message: ${JSON.stringify(problem)}\n  ...`);
    allHold &&= problem === undefined;
  }
  return allHold;
}

async function playScenario(): Promise<boolean> {
  const steps: { step: string; tries?: number; do: Action[] }[] = parse(
    readFileSync(new URL("../scenario.yaml", CLIENT), "utf8"),
  );
  const scenario = new Scenario();
  try {
    return await report(
      steps.map(({ step, tries = 1, do: actions, ...unknown }) => ({
        name: step,
        run: async () => {
          if (Object.keys(unknown).length) throw new Mismatch(`unknown keys: ${Object.keys(unknown)}`);
          for (let left = tries; ; left--) {
            try {
              return await scenario.play(actions);
            } catch (error) {
              if (left <= 1 || !(error instanceof Mismatch)) throw error;
            }
          }
        },
      })),
    );
  } finally {
    scenario.close();
  }
}

function runExamples(): Promise<boolean> {
  const folder = new URL("examples/", CLIENT);
  const files = readdirSync(folder).filter((file) => file.endsWith(".mjs"));
  return report(
    files.sort().map((file) => ({
      name: basename(file, ".mjs"),
      run: async () => {
        const { code, told } = await ended(process.execPath, [fileURLToPath(new URL(file, folder))], true);
        if (code !== 0) throw new Mismatch(told);
      },
    })),
  );
}

process.exit((await (process.argv.includes("examples") ? runExamples() : playScenario())) ? 0 : 1);
