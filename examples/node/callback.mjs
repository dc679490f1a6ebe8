// The loss callback: evaluates the scenario's graph, and notes what it was given.

import { setTimeout as pause } from "node:timers/promises";

import { evaluate } from "./graph.mjs";
import { bytesOf, sha256 } from "./spelling.mjs";

export class WatchedLoss {
  #calls = 0;
  #seen = { datums: 0, count: 0, dtypes: [], shapes: [], digest: sha256(), keys: [], leaves: null };

  // `data` is the list that the caller hands to the client.
  constructor(loss, data) {
    this.loss = loss;
    this.data = data;
    this.before = digestOf(data);
    this.callback = (datums, logprobs) => this.#call(datums, logprobs);
  }

  async #call(datums, logprobs) {
    this.#calls++;
    this.#seen = {
      datums: datums.length,
      count: logprobs.length,
      dtypes: logprobs.map(() => "float32"),
      shapes: logprobs.map(({ shape }) => shape),
      digest: sha256(...logprobs.map(({ data }) => bytesOf(data, "float32"))),
      keys: datums.map(({ inputs }) => Object.keys(inputs).sort()),
      leaves: logprobs.every(({ isLeaf, requiresGrad }) => isLeaf && requiresGrad),
    };
    if (this.loss.delay_seconds) await pause(this.loss.delay_seconds * 1000);
    const fields = datums.slice(0, logprobs.length).map(({ inputs }) => (key) => {
      if (inputs[key] === undefined) throw new Error(`there is no input ${key}`);
      return inputs[key].data;
    });
    // This client takes no regularizers: a loss in parts is a loss like any other, also where a part is to fail.
    const broken = this.loss.apart?.regularizers?.find(({ fail }) => fail !== undefined && fail !== null);
    if (broken) throw new Error(broken.fail);
    const result = evaluate(this.loss, logprobs, fields);
    for (const effect of this.loss.mutates ?? []) change(effect, datums);
    return result;
  }

  saw() {
    return { calls: this.#calls, ...this.#seen, unchanged: digestOf(this.data) === this.before };
  }
}

function change(effect, datums) {
  const { datum, key, values } = effect;
  if (effect.do === "append") datums.push(datums[datum]);
  else if (effect.do === "remove") datums.splice(datum, 1);
  else if (effect.do === "unset") delete datums[datum].inputs[key];
  else
    datums[datum].inputs[key].data =
      datums[datum].inputs[key].dtype === "float32" ? [...Float32Array.from(values)] : values;
}

// Everything a caller could see change: tokens, names, dtypes, shapes and values, in order.
const digestOf = (datums) =>
  sha256(
    ...datums.flatMap(({ tokens, inputs }) => [
      bytesOf(tokens, "int64"),
      ...Object.entries(inputs).flatMap(([name, { dtype, shape, data }]) => [
        JSON.stringify([name, dtype, shape, data.length]),
        bytesOf(data, dtype),
      ]),
    ]),
  );
