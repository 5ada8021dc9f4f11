/** What the scenario expects against what is there (clients/scenario.md, "Matching"). Knows no client. */

export type Value = string | number | boolean | null | undefined | Value[] | { [key: string]: Value };
export type Mapping = { [key: string]: Value };

/** Something is not as the scenario says. */
export class Mismatch extends Error {}

/** The value with variables in place of their names. */
export function filled(value: Value, variables: ReadonlyMap<string, string>): Value {
  if (typeof value === "string") {
    return value.replace(/\$\{(\w+)\}/g, (written, name: string) => {
      const saved = variables.get(name);
      if (saved === undefined) throw new Mismatch(`${written} was never saved`);
      return saved;
    });
  }
  if (Array.isArray(value)) return value.map((item) => filled(item, variables));
  if (isMapping(value)) {
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, filled(item, variables)]));
  }
  return value;
}

/** The scalar at a dotted place, as text. */
export function found(place: string, value: Value): string {
  for (const name of place.split(".")) {
    value = Array.isArray(value) ? value[Number(name)] : isMapping(value) ? value[name] : undefined;
    if (value === undefined) throw new Mismatch(`save.${place}: there is none`);
  }
  return String(value);
}

/** Compare; a Mismatch names the first place where they differ. */
export function match(expected: Value, actual: Value, place: string): void {
  if (!matches(expected, actual, place)) {
    throw new Mismatch(`${place}: expected ${told(expected)}, got ${told(actual)}`);
  }
}

function matches(expected: Value, actual: Value, place: string): boolean {
  if (Array.isArray(expected)) {
    const there = actual ?? [];
    if (!Array.isArray(there) || there.length !== expected.length) return false;
    expected.forEach((item, index) => match(item, there[index], `${place}.${index}`));
    return true;
  }
  if (isMapping(expected)) {
    if (Array.isArray(expected.between)) {
      const [low, high] = expected.between.map(number);
      const there = number(actual);
      return low !== undefined && high !== undefined && there !== undefined && low < there && there <= high;
    }
    if (!isMapping(actual)) return false;
    for (const [key, item] of Object.entries(expected)) match(item, actual[key], `${place}.${key}`);
    return true;
  }
  const text = String(expected);
  if (text === "*") return !isNothing(actual);
  if (text === "") return isNothing(actual);
  if (actual === undefined || actual === null || typeof actual === "object") return false;
  if (text.startsWith("~")) return String(actual).includes(text.slice(1));
  const wanted = number(text);
  return text === String(actual) || (wanted !== undefined && wanted === number(actual));
}

function isMapping(value: Value): value is Mapping {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isNothing(value: Value): boolean {
  return (
    value === undefined || value === null || value === "" || (typeof value === "object" && !Object.keys(value).length)
  );
}

function number(value: Value): number | undefined {
  const isOne = typeof value === "number" || (typeof value === "string" && value.trim() !== "");
  const read = isOne ? Number(value) : NaN;
  return Number.isNaN(read) ? undefined : read;
}

function told(value: Value): string {
  return value === undefined ? "nothing" : typeof value === "string" ? value : JSON.stringify(value);
}
