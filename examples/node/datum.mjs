// What a caller hands over: datums of tokens and named inputs. At tinker-0.15.0 a plain list takes its dtype from its
// name, must be flat, and no input is looked at before it is sent.

import { InvalidInputError } from "./errors.mjs";
import { floatText } from "./json.mjs";
import { Tensor } from "./tensor.mjs";

const LIST_DTYPES = {
  target_tokens: "int64",
  weights: "float32",
  advantages: "float32",
  logprobs: "float32",
  clip_low_threshold: "float32",
  clip_high_threshold: "float32",
};

// A tensor of the API: dtype `float32` or `int64`, shape (null where a server declared none), numbers row-major.
export class TensorData {
  constructor({ dtype, shape, data }) {
    this.dtype = dtype;
    this.shape = shape;
    this.data = data;
  }
}

export class Datum {
  // `inputs` has a TensorData, a Tensor of this library or a plain list under each name.
  constructor(tokens, inputs) {
    this.tokens = tokens;
    this.inputs = Object.fromEntries(Object.entries(inputs).map(([name, value]) => [name, contained(name, value)]));
  }
}

function contained(name, value) {
  if (value instanceof TensorData) return value;
  if (value instanceof Tensor) return new TensorData({ dtype: "float32", shape: value.shape, data: [...value.data] });
  if (!Object.hasOwn(LIST_DTYPES, name)) throw new InvalidInputError(`${name}: a plain list of this name has no dtype`);
  if (value.some(Array.isArray)) throw new InvalidInputError(`${name}: a list must be flat`);
  const dtype = LIST_DTYPES[name];
  return new TensorData({
    dtype,
    shape: [value.length],
    data: dtype === "float32" ? [...Float32Array.from(value)] : value.map(Math.trunc),
  });
}

// 10 bytes for every token and every number.
export const estimate = (datum) =>
  10 * (datum.tokens.length + Object.values(datum.inputs).reduce((sum, tensor) => sum + tensor.data.length, 0));

// [start, end) of each request: at most 1024 datums and 5,000,000 estimated bytes, a datum beyond that alone.
export function cut(data) {
  const bounds = [];
  let [start, held] = [0, 0];
  data.map(estimate).forEach((size, index) => {
    const count = index - start;
    if ((count > 0 && held + size > 5_000_000) || count === 1024) {
      bounds.push([start, index]);
      [start, held] = [index, 0];
    }
    held += size;
  });
  if (start < data.length) bounds.push([start, data.length]);
  return bounds;
}

// The JSON of a datum. JSON has no NaN and no infinities: then nothing is sent.
export function datumText({ tokens, inputs }) {
  const written = Object.entries(inputs).map(([name, tensor]) => `${JSON.stringify(name)}:${tensorText(name, tensor)}`);
  return `{"loss_fn_inputs":{${written.join(",")}},"model_input":{"chunks":[{"tokens":${JSON.stringify(tokens)}}]}}`;
}

function tensorText(name, { dtype, shape, data }) {
  const numbers = Array.from(data, (value) => {
    if (!Number.isFinite(value)) throw new InvalidInputError(`${name}: ${value} cannot be sent`);
    return dtype === "float32" ? floatText(value) : String(value);
  });
  const declared = shape === null ? "" : `,"shape":${JSON.stringify(shape)}`;
  return `{"data":[${numbers.join(",")}],"dtype":"${dtype}"${declared}}`;
}
