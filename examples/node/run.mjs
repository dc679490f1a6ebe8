// Runs the steps of one scenario on a client of its own, and tells what its user saw.

import { setTimeout as pause } from "node:timers/promises";

import { WatchedLoss } from "./callback.mjs";
import { Datum, ServiceClient, TensorData } from "./client.mjs";
import * as errors from "./errors.mjs";
import { readTensor, spell, summarise } from "./spelling.mjs";
import { Tensor } from "./tensor.mjs";

const KINDS = [
  [errors.CancelledError, "cancelled"],
  [errors.InvalidInputError, "invalid_input"],
  [errors.LossFailedError, "loss_failed"],
  [errors.NoGradientError, "no_gradient"],
  [errors.NotScalarError, "not_scalar"],
  [errors.BadOutputError, "bad_output"],
  [errors.RequestFailedError, "request_failed"],
  [errors.HttpStatusError, "http_status"],
  [errors.ConnectionError, "transport"],
];

const CALLS = {
  forward: (model, step, given) => model.forward(given.data, step.loss_fn, given.options),
  forward_backward: (model, step, given) => model.forwardBackward(given.data, step.loss_fn, given.options),
  forward_backward_custom: (model, step, given) =>
    model.forwardBackwardCustom(given.data, given.loss.callback, given.options),
  optim_step: (model, step, given) => model.optimStep(step.params ?? {}, given.options),
  save_state: (model, step, given) => model.saveState(step.name, given.options),
  save_weights_for_sampler: (model, step, given) => model.saveWeightsForSampler(step.name, given.options),
  load_state: (model, step, given) => model.loadState(given.path, given.options),
  load_state_with_optimizer: (model, step, given) => model.loadStateWithOptimizer(given.path, given.options),
};

export const CAPABILITIES = [
  "create_model",
  "get_info",
  ...Object.keys(CALLS),
  "concurrent",
  "thread",
  "cancel",
  "idle",
  "close",
  "loss_delay",
  "loss_mutates",
];

class UnknownStep extends Error {
  code = "unknown-step";
}

// What a step builds on is missing: it cannot be tried.
class Skipped extends Error {}

export async function run(command) {
  return new ScenarioRun(command).execute();
}

class ScenarioRun {
  constructor(command) {
    this.command = command;
    const unknown = command.steps.find(({ do: what }) => !["await", ...CAPABILITIES].includes(what));
    if (unknown) throw new UnknownStep(`no step ${JSON.stringify(unknown.do)} here`);
    this.calls = new Map(
      command.steps
        .filter(({ id }) => id !== undefined)
        .map(({ id }) => [id, { result: { step: id, status: "skipped" } }]),
    );
    this.calls.set("close", { result: { step: "close", status: "skipped" } });
    this.datums = new Map();
    this.models = new Map();
    this.threads = new Map();
    this.client = null;
    this.current = null;
  }

  async execute() {
    const timer = new AbortController();
    const overdue = pause(this.command.timeout * 1000, "overdue", { signal: timer.signal }).catch(() => {});
    const work = this.work();
    work.catch(() => {});
    if ((await Promise.race([work, overdue])) === "overdue" && this.current !== null) {
      const { call, raisedAt } = this.current;
      call.result = { ...call.result, status: "hang", raised_at: raisedAt };
    }
    const results = [...this.calls.values()].map(({ result, loss }) =>
      loss ? { ...result, saw: loss.saw() } : result,
    );
    timer.abort();
    this.client?.close();
    return { steps: results };
  }

  async work() {
    let closed = false;
    for (const step of this.command.steps) {
      if (step.do === "await") await this.attempt(this.calls.get(step.of), "await", (call) => this.wait(call));
      else if (step.do === "cancel") this.calls.get(step.of).cancel?.abort();
      else if (step.do === "idle") await pause(step.seconds * 1000);
      else if (step.do === "close") closed = await this.end();
      else await this.attempt(this.calls.get(step.id), "submit", (call) => this.submit(call, step));
    }
    if (!closed) await this.end();
  }

  async end() {
    await this.attempt(this.calls.get("close"), "submit", (call) => {
      if (!this.client?.sessionId) throw new Skipped("no session was started");
      this.client.close();
      call.result = { step: "close", status: "ok" };
    });
    return true;
  }

  async attempt(call, raisedAt, action) {
    this.current = { call, raisedAt };
    const { step } = call.result;
    try {
      await action(call);
    } catch (error) {
      call.waiting = null;
      call.result =
        error instanceof Skipped
          ? { step, status: "skipped", message: error.message }
          : { step, raised_at: raisedAt, ...failure(error) };
    }
    this.current = null;
  }

  async submit(call, step) {
    if (step.do === "create_model") {
      this.client ??= new ServiceClient({ baseUrl: this.command.base_url, apiKey: this.command.api_key });
      const model = await this.client.createTrainingClient(step.base_model, { rank: step.rank, seed: step.seed });
      this.models.set(step.id, model);
      call.result = { step: step.id, status: "ok", type: "TrainingClient", fields: { model_id: model.modelId } };
      return;
    }
    const model = this.models.get(step.model);
    if (model === undefined) throw new Skipped(`${step.model} was not created`);
    if (step.do === "get_info") {
      const { model_id } = await model.getInfo();
      call.result = { step: step.id, status: "ok", type: "GetInfoResponse", fields: { model_id } };
      return;
    }
    const given = this.given(call, step);
    const make = async () => CALLS[step.do](model, step, given);
    let made;
    if (step.style === "thread") {
      // The model's calls of this style follow each other; those of other models run beside them.
      const before = this.threads.get(step.model);
      made = before === undefined ? make() : before.then(make);
      this.threads.set(
        step.model,
        made.catch(() => {}),
      );
    } else {
      made = make(); // runs until it first waits
    }
    made.catch(() => {}); // whoever awaits it hears of it
    call.result = { step: step.id, status: "unawaited" };
    call.waiting = made;
    if (step.style !== "thread" && step.style !== "concurrent") await made;
  }

  given(call, step) {
    call.cancel = new AbortController();
    const given = { options: { signal: call.cancel.signal } };
    if (step.data !== undefined) given.data = this.datumsOf(step.data);
    if (step.loss !== undefined) given.loss = call.loss = new WatchedLoss(this.command.losses[step.loss], given.data);
    if (step.path_of !== undefined) {
      given.path = this.calls.get(step.path_of)?.result.fields?.path;
      if (given.path === undefined) throw new Skipped(`${step.path_of} gave no path`);
    }
    return given;
  }

  // The same list for every step that names it: what a loss changes stays changed.
  datumsOf(name) {
    if (!this.datums.has(name)) this.datums.set(name, this.command.data[name].map(datumOf));
    return this.datums.get(name);
  }

  async wait(call) {
    if (!call.waiting) return; // it has its result
    const waiting = call.waiting;
    call.waiting = null;
    const pending = await waiting;
    const result = await pending.result();
    const { step } = call.result;
    call.result = { step, status: "ok", type: pending.type };
    if (result.outputs !== undefined) call.result.outputs = result.outputs.map((output) => mapped(output, summarise));
    if (result.metrics !== undefined && result.metrics !== null) call.result.metrics = mapped(result.metrics, metric);
    if (typeof result.path === "string") call.result.fields = { path: result.path };
  }
}

const mapped = (record, change) =>
  Object.fromEntries(Object.entries(record).map(([key, value]) => [key, change(value)]));
const metric = (value) => (value === null ? null : typeof value === "number" ? spell(value) : String(value));

function failure(error) {
  const [, kind] = KINDS.find(([type]) => error instanceof type) ?? [];
  if (kind === undefined) throw error; // a defect of this driver
  return { status: "error", kind, type: error.name, message: error.message };
}

function datumOf(wire) {
  return new Datum(readTensor(wire.tokens).data, mapped(wire.inputs, containerOf));
}

// As the scenario's caller would write it.
function containerOf(wire) {
  const { dtype, shape, data, container } = readTensor(wire);
  if (container === "list") return nested(data, shape);
  // The tensors of this library are float32: integers have only the API's own container.
  if (container === "native" && dtype === "float32") return new Tensor(data, { shape });
  return new TensorData({ dtype, shape, data });
}

const nested = (data, [size, ...rest]) =>
  rest.length === 0
    ? data
    : Array.from({ length: size }, (_, row) =>
        nested(data.slice((row * data.length) / size, ((row + 1) * data.length) / size), rest),
      );
