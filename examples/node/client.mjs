// A small client of the Tinker training API in raw HTTP, as the contract tinker-0.15.0 asks for. Every call that
// submits takes its ids before it returns, so that the order of calls is the order of ids; `result()` of what it
// returns waits.

import { Datum, TensorData, cut, datumText } from "./datum.mjs";
import {
  BadOutputError,
  CallError,
  CancelledError,
  InvalidInputError,
  LossFailedError,
  NoGradientError,
  NotScalarError,
} from "./errors.mjs";
import { reduceMetrics } from "./metrics.mjs";
import { Tensor } from "./tensor.mjs";
import { Transport } from "./transport.mjs";

export { Datum, TensorData };
export const VERSION = "0.1.0";
const CONTRACT = "0.15.0";
const HEARTBEAT = 10_000;

// What a call returned: `type` is the type of the result.
class Pending {
  constructor(type, promise) {
    this.type = type;
    this.promise = promise;
    promise.catch(() => {}); // an error that nobody waits for is no defect of the program
  }

  result() {
    return this.promise;
  }
}

export class ServiceClient {
  constructor({ baseUrl, apiKey }) {
    this.transport = new Transport(baseUrl, apiKey);
    this.session = null;
    this.sessionId = null;
    this.models = 0;
    this.heartbeat = null;
  }

  async createTrainingClient(baseModel, { rank, seed = null }) {
    const number = this.models++;
    await (this.session ??= this.#start());
    const model = await this.operation("create_model", {
      session_id: this.sessionId,
      model_seq_id: number,
      base_model: baseModel,
      user_metadata: null,
      lora_config: { rank, seed, train_unembed: true, train_mlp: true, train_attn: true },
    });
    if (typeof model.model_id !== "string") throw new BadOutputError("create_model: the result names no model");
    return new TrainingClient(this, model.model_id);
  }

  // Ends heartbeats and drops every connection; this release has no request for it.
  close() {
    clearInterval(this.heartbeat);
    this.transport.end();
  }

  async operation(route, values, signal) {
    const { request_id: requestId } = await this.transport.submit(route, JSON.stringify(values), { signal });
    return this.retrieve(route, requestId, signal);
  }

  // The type of a request is its route in another spelling: forward_backward is ForwardBackward.
  retrieve(route, requestId, signal) {
    if (typeof requestId !== "string") throw new BadOutputError(`${route}: the answer names no request_id`);
    const type = route.replace(/(?:^|_)([a-z])/g, (_, letter) => letter.toUpperCase());
    return this.transport.retrieve(requestId, type, signal);
  }

  async #start() {
    const body = { tags: [], user_metadata: {}, sdk_version: CONTRACT, project_id: null };
    const answer = await this.transport.submit("create_session", JSON.stringify(body));
    this.sessionId = String(answer.session_id);
    const beat = JSON.stringify({ session_id: this.sessionId });
    this.heartbeat = setInterval(() => {
      // The next one may come through.
      this.transport.submit("session_heartbeat", beat, { attempts: 1 }).catch(() => {});
    }, HEARTBEAT);
    this.heartbeat.unref();
  }
}

// Gives out ids, and lets requests leave in their order.
class Turns {
  next = 0;
  #turn = 0;
  #waiting = new Map();

  reserve(count) {
    const first = this.next;
    this.next += count;
    return Array.from({ length: count }, (_, index) => first + index);
  }

  // Runs `send` when every request with a smaller id was acknowledged or will never be sent.
  async take(turn, send) {
    if (this.#turn < turn) await new Promise((resolve) => this.#waiting.set(turn, resolve));
    try {
      return await send();
    } finally {
      this.skip(1);
    }
  }

  skip(count) {
    for (; count > 0; count--) {
      this.#waiting.get(++this.#turn)?.();
      this.#waiting.delete(this.#turn);
    }
  }
}

export class TrainingClient {
  #client;
  #turns = new Turns();
  #lastCustom = Promise.resolve();

  constructor(client, modelId) {
    this.#client = client;
    this.modelId = modelId;
  }

  getInfo() {
    return this.#client.transport.submit("get_info", JSON.stringify({ model_id: this.modelId }));
  }

  forward(data, lossFn, { signal } = {}) {
    return this.#plain("forward", data, lossFn, signal);
  }

  forwardBackward(data, lossFn, { signal } = {}) {
    return this.#plain("forward_backward", data, lossFn, signal);
  }

  // `lossFn(data, logprobs)` gets the caller's datums and one Tensor for each, and returns, or promises, its loss and
  // metrics. Resolves when the backward pass has its ids; rejects with what the forward pass and the loss failed with.
  async forwardBackwardCustom(data, lossFn, { signal } = {}) {
    const chunks = cut(data).map(([start, end]) => data.slice(start, end));
    const ids = this.#turns.reserve(chunks.length);
    const before = this.#lastCustom;
    let scheduled;
    this.#lastCustom = new Promise((resolve) => (scheduled = resolve));
    try {
      const output = await this.#pass("forward", chunks, ids, "cross_entropy", signal);
      const { datums, metrics } = await differentiate(data, output.outputs, lossFn);
      if (signal?.aborted) throw new CancelledError("the call was cancelled");
      const backward = cut(datums).map(([start, end]) => datums.slice(start, end));
      await before; // ids follow the order of the calls, however long their losses take
      const later = this.#turns.reserve(backward.length);
      const work = this.#pass("forward_backward", backward, later, "cross_entropy", signal);
      return new Pending(
        "ForwardBackwardOutput",
        work.then((result) => ({ ...result, metrics: { ...result.metrics, ...metrics } })),
      );
    } finally {
      scheduled();
    }
  }

  optimStep(params, { signal } = {}) {
    return this.#operation("optim_step", "OptimStepResponse", { adam_params: params }, signal);
  }

  saveState(name, { signal } = {}) {
    return this.#operation("save_weights", "SaveWeightsResponse", { path: name, ttl_seconds: null }, signal);
  }

  saveWeightsForSampler(name, { signal } = {}) {
    return this.#operation(
      "save_weights_for_sampler",
      "SaveWeightsForSamplerResponse",
      { path: name, ttl_seconds: null },
      signal,
    );
  }

  loadState(path, { signal } = {}) {
    return this.#operation("load_weights", "LoadWeightsResponse", { path, optimizer: false }, signal);
  }

  loadStateWithOptimizer(path, { signal } = {}) {
    return this.#operation("load_weights", "LoadWeightsResponse", { path, optimizer: true }, signal);
  }

  #operation(route, type, values, signal) {
    const [id] = this.#turns.reserve(1);
    const body = JSON.stringify({ model_id: this.modelId, ...values, seq_id: id + 1 });
    const work = async () => {
      const submitted = await this.#turns.take(id, () => this.#client.transport.submit(route, body, { signal }));
      return this.#client.retrieve(route, submitted.request_id, signal);
    };
    return new Pending(type, work());
  }

  #plain(route, data, lossFn, signal) {
    const chunks = cut(data).map(([start, end]) => data.slice(start, end));
    return new Pending(
      "ForwardBackwardOutput",
      this.#pass(route, chunks, this.#turns.reserve(chunks.length), lossFn, signal),
    );
  }

  // Each chunk leaves when the one before it was acknowledged; their results are waited for together.
  async #pass(route, chunks, ids, lossFn, signal) {
    const results = [];
    let left = chunks.length;
    for (const [index, chunk] of chunks.entries()) {
      try {
        const submitted = await this.#turns.take(ids[index], () => {
          left--;
          return this.#client.transport.submit(route, this.#passText(route, chunk, lossFn, ids[index]), { signal });
        });
        results.push(Promise.resolve().then(() => this.#client.retrieve(route, submitted.request_id, signal)));
        results.at(-1).catch(() => {});
      } catch (error) {
        this.#turns.skip(left); // the turns of what will never be sent pass
        throw error;
      }
    }
    const parts = (await Promise.all(results)).map(passResult);
    return {
      outputs: parts.flatMap((part) => part.outputs),
      metrics: reduceMetrics(
        parts.map((part) => part.metrics),
        parts.map((part) => part.outputs.length),
      ),
    };
  }

  #passText(route, chunk, lossFn, id) {
    const data = chunk.map(datumText).join(",");
    const input = `{"data":[${data}],"loss_fn":${JSON.stringify(lossFn)},"loss_fn_config":null}`;
    return `{"${route}_input":${input},"model_id":${JSON.stringify(this.modelId)},"seq_id":${id + 1}}`;
  }
}

function passResult(body) {
  try {
    return {
      outputs: body.loss_fn_outputs.map((output) =>
        Object.fromEntries(
          Object.entries(output).map(([name, { dtype, shape = null, data }]) => [
            name,
            new TensorData({ dtype, shape, data: numbers(data) }),
          ]),
        ),
      ),
      metrics: Object.fromEntries(Object.entries(body.metrics).map(([name, value]) => [name, numbers([value])[0]])),
    };
  } catch (error) {
    throw new BadOutputError(`the result cannot be read: ${error.message}`, { cause: error });
  }
}

function numbers(data) {
  if (!data.every((value) => typeof value === "number")) throw new Error("text among numbers");
  return data;
}

// The loss, its gradient, and the datums of the backward pass: cross entropy is sum(-logprob * weight), so that
// weights = -gradient make its gradient the caller's own.
async function differentiate(data, outputs, lossFn) {
  const leaves = outputs.map(({ logprobs }, index) => {
    if (logprobs === undefined) throw new BadOutputError(`output ${index} has no logprobs`);
    if (logprobs.dtype !== "float32")
      throw new BadOutputError(`the logprobs are ${logprobs.dtype}; only floats have a gradient`);
    return new Tensor(logprobs.data, { requiresGrad: true });
  });
  let value;
  try {
    value = await lossFn(data, leaves);
    if (!(value.loss instanceof Tensor)) throw new Error("the loss is no tensor");
  } catch (error) {
    throw new LossFailedError(`${error.name}: ${error.message}`, { cause: error });
  }
  if (!value.loss.requiresGrad) throw new NoGradientError("the loss does not depend on any logprob");
  if (value.loss.size !== 1) throw new NotScalarError(`the loss has ${value.loss.size} elements, not one`);
  value.loss.backward();
  const gradients = leaves.map(({ grad }, index) => {
    if (grad === null) throw new NoGradientError(`the loss does not depend on the logprobs of datum ${index}`);
    return grad;
  });
  if (data.length !== gradients.length)
    throw new BadOutputError(`${gradients.length} outputs for ${data.length} datums`);
  const datums = data.map(({ tokens, inputs }, index) => {
    if (inputs.target_tokens === undefined) throw new InvalidInputError(`datum ${index} has no target_tokens`);
    const weights = new TensorData({
      dtype: "float32",
      shape: leaves[index].shape,
      data: gradients[index].map((value) => -value),
    });
    return new Datum(tokens, { target_tokens: inputs.target_tokens, weights });
  });
  return { datums, metrics: value.metrics };
}

export { CallError };
