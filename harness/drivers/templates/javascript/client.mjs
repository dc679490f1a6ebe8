// A stand-in for your SDK: sessions and models in raw HTTP, as tinker-0.15.0 sends them. Delete it for your SDK.

import { randomUUID } from "node:crypto";

export const VERSION = "0.1.0";

// The server answered with an error status.
export class StatusError extends Error {}

// One session, begun with the first model.
export class Client {
  constructor(baseUrl, apiKey) {
    this.baseUrl = baseUrl.replace(/\/+$/, "");
    this.apiKey = apiKey;
    this.session = null;
    this.models = 0;
  }

  // Creates a LoRA model, waits until it is ready, and returns its id.
  async createModel(baseModel, { rank, seed }) {
    const number = this.models++;
    const begin = { tags: [], user_metadata: {}, sdk_version: "0.15.0", project_id: null };
    this.session ??= (await this.post("create_session", begin)).session_id;
    const submitted = await this.post("create_model", {
      session_id: this.session,
      model_seq_id: number,
      base_model: baseModel,
      user_metadata: null,
      lora_config: { rank, seed, train_unembed: true, train_mlp: true, train_attn: true },
    });
    for (;;) {
      const question = { request_id: submitted.request_id, allow_metadata_only: true };
      const result = await this.post("retrieve_future", question, { "x-tinker-request-type": "CreateModel" });
      if (result.type !== "try_again") return result.model_id;
    }
  }

  // Returns what the server knows about a model.
  getInfo(model) {
    return this.post("get_info", { model_id: model });
  }

  // Sends a request and returns the JSON answer.
  async post(route, body, headers = {}) {
    const response = await fetch(`${this.baseUrl}/api/v1/${route}`, {
      method: "POST",
      headers: {
        accept: "application/json",
        "content-type": "application/json",
        "x-api-key": this.apiKey,
        "x-idempotency-key": randomUUID(),
        "x-stainless-retry-count": "0",
        ...headers,
      },
      body: JSON.stringify(body),
    });
    if (!response.ok) throw new StatusError(`${route}: ${response.status} ${(await response.text()).slice(0, 500)}`);
    return response.json();
  }
}
