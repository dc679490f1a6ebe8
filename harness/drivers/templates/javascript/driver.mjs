// The driver: answers the commands of parity's driver protocol.
//
// It creates models and asks about them, with the stand-in for an SDK in client.mjs, and says that it can do nothing
// else. README.md says how it grows.

import { read, write } from "./line.mjs"; // first: takes stdout away from what is imported after it

import { fileURLToPath } from "node:url";

import { Client, StatusError, VERSION } from "./client.mjs";

const CONTRACT = "tinker-0.15.0";
const CAPABILITIES = ["create_model", "get_info"];

const COMMANDS = {
  hello: ({ nonce }) => ({
    protocol: "1.3",
    nonce,
    sdk: { name: "SDK_NAME", version: VERSION, file: fileURLToPath(new URL("client.mjs", import.meta.url)) },
    language: "javascript",
    runtime: `Node ${process.versions.node}`,
    contract: CONTRACT,
    capabilities: CAPABILITIES,
    max_in_flight: 1,
  }),
  // Needed once forward_backward_custom is among the capabilities, not before.
  evaluate: () => {
    throw new Error("this driver has no losses yet");
  },
  run: (command) => new Run(command).execute(),
  shutdown: () => ({}),
};

// The steps of one scenario, each with the result that its user saw.
class Run {
  constructor(command) {
    const unknown = command.steps.find((step) => !["await", ...CAPABILITIES].includes(step.do));
    if (unknown) throw new Error(`no step ${JSON.stringify(unknown.do)} here`);
    const names = command.steps.filter((step) => "id" in step).map((step) => step.id);
    this.command = command;
    this.results = new Map([...names, "close"].map((name) => [name, { step: name, status: "skipped" }]));
    this.client = null;
    this.models = new Map();
  }

  // For as long as there is time; what is still open then is a hang.
  async execute() {
    let timer;
    const overdue = new Promise((resolve) => (timer = setTimeout(resolve, this.command.timeout * 1000)));
    await Promise.race([this.work(), overdue]);
    clearTimeout(timer);
    return { steps: [...this.results.values()] };
  }

  // One step after the other. An error is a result: the steps after it still run.
  async work() {
    for (const step of this.command.steps) {
      const name = step.id ?? step.of;
      this.results.set(name, { step: name, status: "hang", raised_at: "submit" });
      try {
        this.results.set(name, { step: name, status: "ok", ...(await this[step.do](step)) });
      } catch (error) {
        const message = String(error.message);
        const failed = {
          step: name,
          status: "error",
          kind: kindOf(error),
          type: error.name,
          message,
          raised_at: "submit",
        };
        this.results.set(name, error instanceof Skipped ? { step: name, status: "skipped", message } : failed);
      }
    }
  }

  // All models of a run share a client.
  async create_model(step) {
    this.client ??= new Client(this.command.base_url, this.command.api_key);
    const model = await this.client.createModel(step.base_model, { rank: step.rank, seed: step.seed });
    this.models.set(step.id, model);
    return { type: "TrainingClient", fields: { model_id: model } };
  }

  async get_info(step) {
    if (!this.models.has(step.model)) throw new Skipped("the model was not created");
    const info = await this.client.getInfo(this.models.get(step.model));
    return { type: "GetInfoResponse", fields: { model_id: info.model_id } };
  }
}

class Skipped extends Error {}

// Which of the protocol's kinds (section 5) an error of the SDK is: by its type, not by its message.
const kindOf = (error) => (error instanceof StatusError ? "http_status" : "transport");

// `driver_error` is for what this driver could not do, never for what the SDK raised.
async function answer({ id, cmd, ...command }) {
  try {
    if (!Object.hasOwn(COMMANDS, cmd)) throw new Error(`no command ${JSON.stringify(cmd)} here`);
    write({ id, ok: await COMMANDS[cmd](command) });
  } catch (error) {
    write({ id, driver_error: { code: error.name, message: String(error.message), detail: error.stack ?? "" } });
  }
  if (cmd === "shutdown") process.exit(0);
}

read(answer, { ended: () => process.exit(0) }); // the runner is gone, whatever still runs
