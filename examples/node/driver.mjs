// The driver: answers the commands of the driver protocol (docs/driver-protocol.md) with the client of this folder.
//
//     parity run --driver 'node examples/node/driver.mjs'

import { read, write } from "./line.mjs"; // first: takes stdout away from what is imported after it

import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

import { VERSION } from "./client.mjs";
import { evaluate } from "./graph.mjs";
import { CAPABILITIES, run } from "./run.mjs";
import { readTensor, spell } from "./spelling.mjs";
import { Tensor } from "./tensor.mjs";

const CLIENT = ["client", "datum", "errors", "json", "metrics", "tensor", "transport"].map((name) =>
  fileURLToPath(new URL(`${name}.mjs`, import.meta.url)),
);

const COMMANDS = {
  hello: ({ nonce }) => ({
    protocol: "1.3",
    nonce,
    sdk: { name: "parity-node", version: VERSION, file: CLIENT[0], digest: digest() },
    language: "javascript",
    runtime: `Node ${process.versions.node}`,
    contract: "tinker-0.15.0",
    capabilities: CAPABILITIES,
    max_in_flight: 4,
    libraries: { v8: process.versions.v8 },
  }),
  run,
  evaluate: ({ cases }) => ({ results: cases.map(evaluated) }),
  shutdown: () => ({}),
};

function digest() {
  const hash = createHash("sha256");
  for (const file of CLIENT) hash.update(readFileSync(file));
  return hash.digest("hex");
}

// What the evaluation raises is the case's error.
function evaluated({ loss, logprobs, fields }) {
  try {
    const leaves = logprobs.map((wire) => new Tensor(readTensor(wire).data, { requiresGrad: true }));
    const inputs = fields.map((datum) => (key) => {
      if (datum[key] === undefined) throw new Error(`there is no input ${key}`);
      return Float32Array.from(readTensor(datum[key]).data);
    });
    const result = evaluate(loss, leaves, inputs);
    if (result.loss.requiresGrad) result.loss.backward();
    return {
      loss: spell(result.loss.data[0]),
      metrics: Object.fromEntries(Object.entries(result.metrics).map(([name, value]) => [name, spell(value)])),
      gradients: leaves.map(({ grad }) => (grad === null ? null : Array.from(grad, spell))),
    };
  } catch (error) {
    return { error: `${error.name}: ${error.message}` };
  }
}

async function answer(command) {
  const { id, cmd } = command;
  try {
    if (!Object.hasOwn(COMMANDS, cmd))
      throw Object.assign(new Error(`no command ${JSON.stringify(cmd)} here`), { code: "unknown-command" });
    write({ id, ok: await COMMANDS[cmd](command) });
  } catch (error) {
    write({ id, driver_error: { code: error.code ?? error.name, message: error.message, detail: error.stack ?? "" } });
  }
  if (cmd === "shutdown") process.exit(0);
}

read(answer, { ended: () => process.exit(0) }); // the runner is gone, whatever still runs
