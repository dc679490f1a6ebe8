// How the metrics of chunks become the metrics of a call: a name is `name:reduction`.

import { BadOutputError } from "./errors.mjs";

const total = (values) => values.reduce((sum, value) => sum + value, 0);

function average(values, outputs) {
  if (total(outputs) === 0) throw new BadOutputError("a mean over no outputs");
  return total(values.map((value, chunk) => value * outputs[chunk])) / total(outputs);
}

const REDUCTIONS = {
  sum: total,
  mean: average,
  min: (values) => Math.min(...values),
  max: (values) => Math.max(...values),
  slack: (values, outputs) => Math.max(...values) - average(values, outputs),
  hash_unordered: (values) =>
    hashOfTuple(values.map(whole).sort((one, other) => (one < other ? -1 : Number(one > other)))),
};

function whole(value) {
  if (!Number.isFinite(value)) throw new BadOutputError(`${value} has no whole part`);
  return BigInt(Math.trunc(value));
}

// As CPython hashes a tuple of integers: xxHash's mixing over 64 bits, each integer modulo 2^61 - 1.
function hashOfTuple(values) {
  const [P1, P2, P5] = [11400714785074694791n, 14029467366897019727n, 2870177450012600261n];
  let mixed = P5;
  for (const value of values) {
    const magnitude = (value < 0n ? -value : value) % (2n ** 61n - 1n);
    const signed = value < 0n ? -magnitude : magnitude;
    const lane = BigInt.asUintN(64, signed === -1n ? -2n : signed);
    mixed = BigInt.asUintN(64, mixed + lane * P2);
    mixed = BigInt.asUintN(64, ((mixed << 31n) | (mixed >> 33n)) * P1);
  }
  mixed = BigInt.asUintN(64, mixed + (BigInt(values.length) ^ (P5 ^ 3527539n)));
  return Number(mixed === 2n ** 64n - 1n ? 1546275796n : BigInt.asIntN(64, mixed));
}

// `chunks` has the metrics of each chunk, `outputs` their numbers of outputs. The names of the first chunk count.
export function reduceMetrics(chunks, outputs) {
  const combined = {};
  for (const key of Object.keys(chunks[0] ?? {})) {
    const [, reduction, ...more] = key.split(":");
    if (reduction === undefined || more.length > 0)
      throw new BadOutputError(`the metric ${JSON.stringify(key)} is not called name:reduction`);
    if (!chunks.every((chunk) => Object.hasOwn(chunk, key))) continue;
    const values = chunks.map((chunk) => chunk[key]);
    if (reduction === "unique")
      values.forEach((value, index) => (combined[index === 0 ? key : `${key}_${index}`] = value));
    else if (Object.hasOwn(REDUCTIONS, reduction)) combined[key] = REDUCTIONS[reduction](values, outputs);
  }
  return combined;
}
