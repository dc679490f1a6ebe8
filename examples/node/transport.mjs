// HTTP: requests that are tried again, and results that are asked for until they are there. The rules and numbers are
// those of the contract tinker-0.15.0 (docs/contracts.md, retry and polling).

import { randomUUID } from "node:crypto";
import http from "node:http";
import https from "node:https";
import { setTimeout as pause } from "node:timers/promises";

import { BadOutputError, CancelledError, ConnectionError, HttpStatusError, RequestFailedError } from "./errors.mjs";
import { parseJson } from "./json.mjs";

const ATTEMPTS = 11;
const SILENCE = 60_000; // milliseconds after which a request counts as broken
const POLL_SILENCE = 45_000;
const PACE = 50; // milliseconds between polls of one result, at least
const AGAIN_WITHIN = 300_000;
const AGAIN_NEVER = new Set(["create_session", "session_heartbeat"]);
const LONGEST_RETRY_AFTER = 60_000;

const isRetried = ({ status, headers }) => {
  const asked = headers["x-should-retry"];
  if (asked === "true" || asked === "false") return asked === "true";
  return mayPass(status);
};
const mayPass = (status) => [408, 409, 429].includes(status) || status >= 500;
const doubled = (first, times, longest) => Math.min(first * 2 ** Math.min(times, 60), longest);

export class Transport {
  constructor(baseUrl, apiKey) {
    this.base = new URL(baseUrl);
    this.apiKey = apiKey;
    this.module = this.base.protocol === "https:" ? https : http;
    this.agent = new this.module.Agent({ keepAlive: true });
    this.ended = new AbortController();
  }

  // Drops everything that is under way, without a word to the server.
  end() {
    this.ended.abort();
    this.agent.destroy();
  }

  // Posts a request and returns the JSON answer. Attempts share an idempotency key; where they were given up for a
  // reason that may pass, another round begins with another key.
  async submit(route, body, { attempts = ATTEMPTS, signal } = {}) {
    const began = Date.now();
    for (let round = 0; ; round++) {
      try {
        return await this.#attempts(route, body, { attempts, signal });
      } catch (error) {
        const left = began + AGAIN_WITHIN - Date.now();
        const may = error instanceof ConnectionError || (error instanceof HttpStatusError && mayPass(error.status));
        if (AGAIN_NEVER.has(route) || !may || left <= 0) throw error;
        await this.#sleep(Math.min(doubled(1000, round, 30_000), left), signal);
      }
    }
  }

  async #attempts(route, body, { attempts, signal }) {
    const key = `parity-node-${randomUUID()}`;
    for (let taken = 0; ; taken++) {
      const last = taken + 1 >= attempts;
      const headers = { "x-idempotency-key": key, "x-stainless-retry-count": String(taken) };
      let answer = null;
      try {
        answer = await this.#post(route, body, headers, { silence: SILENCE, signal });
      } catch (error) {
        if (last || !(error instanceof ConnectionError)) throw error;
      }
      if (answer !== null) {
        if (answer.status < 400) return jsonObject(route, answer.content);
        if (last || !isRetried(answer)) throw statusError(route, answer);
      }
      await this.#sleep(askedFor(answer?.headers) ?? doubled(500, taken, 10_000) * (1 - Math.random() / 4), signal);
    }
  }

  // Asks for the result of a submitted operation until it is there.
  async retrieve(requestId, requestType, signal) {
    let metadataOnly = true;
    let [badRequests, waits] = [0, 0];
    let next = Date.now();
    for (let iteration = 0; ; iteration++) {
      await this.#sleep(next - Date.now(), signal);
      next = Date.now() + PACE;
      const headers = {
        "x-idempotency-key": `parity-node-${randomUUID()}`,
        "x-stainless-retry-count": "0",
        "x-tinker-request-iteration": String(iteration),
        "x-tinker-request-type": requestType,
      };
      const body = JSON.stringify({ request_id: requestId, allow_metadata_only: metadataOnly });
      let answer;
      try {
        answer = await this.#post("retrieve_future", body, headers, { silence: POLL_SILENCE, signal });
      } catch (error) {
        if (!(error instanceof ConnectionError)) throw error;
        await this.#sleep(doubled(1000, waits++, 30_000), signal);
        continue;
      }
      waits = 0;
      if (answer.status === 408) badRequests = 0;
      if (answer.status === 408 || answer.status >= 500) continue;
      if (answer.status === 400 && badRequests++ < 3) continue;
      if (answer.status >= 400) throw statusError("retrieve_future", answer);
      const result = jsonObject("retrieve_future", answer.content);
      if (result.type === "try_again") continue;
      if (result.status === "complete_metadata") {
        metadataOnly = false;
        next = Date.now();
        continue;
      }
      if ("error" in result)
        throw new RequestFailedError(typeof result.error === "string" ? result.error : JSON.stringify(result.error));
      return result;
    }
  }

  async #sleep(milliseconds, signal) {
    if (milliseconds <= 0) return;
    const stop = new AbortController();
    const abort = () => stop.abort();
    const signals = [this.ended.signal, ...(signal ? [signal] : [])];
    signals.forEach((each) => (each.aborted ? abort() : each.addEventListener("abort", abort)));
    try {
      await pause(milliseconds, undefined, { signal: stop.signal });
    } catch {
      throw new CancelledError("the call was cancelled");
    } finally {
      signals.forEach((each) => each.removeEventListener("abort", abort));
    }
  }

  // Resolves to {status, headers, content}; rejects with ConnectionError or CancelledError.
  #post(route, body, headers, { silence, signal }) {
    const url = new URL(`${this.base.pathname.replace(/\/+$/, "")}/api/v1/${route}`, this.base);
    const content = Buffer.from(body);
    return new Promise((resolve, reject) => {
      const request = this.module.request(url, {
        method: "POST",
        agent: this.agent,
        headers: {
          ...headers,
          accept: "application/json",
          "content-type": "application/json",
          "content-length": content.length,
          "user-agent": "parity-node/0.1.0",
          "x-api-key": this.apiKey,
        },
      });
      const cancel = () => request.destroy(new CancelledError("the call was cancelled"));
      const signals = [this.ended.signal, ...(signal ? [signal] : [])];
      signals.forEach((each) => (each.aborted ? cancel() : each.addEventListener("abort", cancel)));
      const settle = (how, value) => {
        signals.forEach((each) => each.removeEventListener("abort", cancel));
        how(value);
      };
      const fail = (error) =>
        settle(
          reject,
          error instanceof CancelledError ? error : new ConnectionError(`${route}: ${error.message}`, { cause: error }),
        );
      request.setTimeout(silence, () => request.destroy(new Error(`nothing was heard for ${silence / 1000} s`)));
      request.on("error", fail);
      request.on("response", (response) => {
        const parts = [];
        response.on("data", (part) => parts.push(part));
        response.on("error", fail);
        response.on("end", () =>
          settle(resolve, {
            status: response.statusCode,
            headers: response.headers,
            content: Buffer.concat(parts).toString("utf8"),
          }),
        );
      });
      request.end(content);
    });
  }
}

function askedFor(headers = {}) {
  const milliseconds = Number.parseFloat(headers["retry-after-ms"] ?? "");
  const text = headers["retry-after"] ?? "";
  const seconds = /^\s*[\d.]+\s*$/.test(text) ? Number(text) * 1000 : Date.parse(text) - Date.now();
  const asked = Number.isNaN(milliseconds) ? seconds : milliseconds;
  return asked > 0 && asked <= LONGEST_RETRY_AFTER ? asked : undefined;
}

const statusError = (route, { status, content }) =>
  new HttpStatusError(status, `${route}: ${status} ${content.slice(0, 500)}`);

function jsonObject(route, text) {
  let value;
  try {
    value = parseJson(text);
  } catch (error) {
    throw new BadOutputError(`${route}: the answer is no JSON: ${error.message}`, { cause: error });
  }
  if (value === null || typeof value !== "object" || Array.isArray(value))
    throw new BadOutputError(`${route}: the answer is no JSON object`);
  return value;
}
