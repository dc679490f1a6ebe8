"""A stand-in for your SDK: sessions and models in raw HTTP, as tinker-0.15.0 sends them. Delete it for your SDK."""

import json
import urllib.error
import urllib.request
import uuid

VERSION = "0.1.0"


class StatusError(Exception):
    """The server answered with an error status."""


class Client:
    """One session, begun with the first model."""

    def __init__(self, base_url, api_key):
        """Remember where the server is; nothing is sent yet."""
        self.base_url = base_url.rstrip("/")
        self.api_key = api_key
        self.session = None
        self.models = 0

    def create_model(self, base_model, *, rank, seed):
        """Create a LoRA model, wait until it is ready, and return its id."""
        if self.session is None:
            begin = {"tags": [], "user_metadata": {}, "sdk_version": "0.15.0", "project_id": None}
            self.session = self.post("create_session", begin)["session_id"]
        number, self.models = self.models, self.models + 1
        submitted = self.post(
            "create_model",
            {
                "session_id": self.session,
                "model_seq_id": number,
                "base_model": base_model,
                "user_metadata": None,
                "lora_config": {
                    "rank": rank,
                    "seed": seed,
                    "train_unembed": True,
                    "train_mlp": True,
                    "train_attn": True,
                },
            },
        )
        while True:
            question = {"request_id": submitted["request_id"], "allow_metadata_only": True}
            result = self.post("retrieve_future", question, {"x-tinker-request-type": "CreateModel"})
            if result.get("type") != "try_again":
                return result["model_id"]

    def get_info(self, model):
        """Return what the server knows about a model."""
        return self.post("get_info", {"model_id": model})

    def post(self, route, body, headers=None):
        """Send a request and return the JSON answer."""
        request = urllib.request.Request(
            f"{self.base_url}/api/v1/{route}",
            json.dumps(body).encode(),
            {
                "accept": "application/json",
                "content-type": "application/json",
                "x-api-key": self.api_key,
                "x-idempotency-key": str(uuid.uuid4()),
                "x-stainless-retry-count": "0",
                **(headers or {}),
            },
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            raise StatusError(f"{route}: {error.code} {error.read()[:500].decode(errors='replace')}") from error
