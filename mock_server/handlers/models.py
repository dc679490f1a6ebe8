"""Models: create, describe, unload."""

from __future__ import annotations

import uuid
from typing import Any

from mock_server.execution import Trainer
from mock_server.handlers.call import Call, RefusalError, Reply, find_model, once, reply, settled
from mock_server.replay import Replayer
from mock_server.tenants import Model
from mock_server.wire import requests


def create_model(call: Call) -> Reply:
    """Create a model. The model id is in the immediate answer too: Tinkex never asks for the future."""
    body = call.body(requests.CreateModel)
    check_session(call, body.session_id)

    def start() -> dict[str, Any]:
        rank = body.lora_config.rank if body.lora_config else None
        model = new_model(call, body.session_id, body.model_seq_id, body.base_model, rank)
        result = {"model_id": model.model_id, "type": "create_model"}
        return {"request_id": settled(call, model.model_id, result).request_id, **result}

    return once(call, *model_identity(body.session_id, body.model_seq_id), start)


def get_info(call: Call) -> Reply:
    """Describe a model."""
    model = find_model(call, call.body(requests.ModelCall).model_id)
    return reply(
        {
            "type": "get_info",
            "model_id": model.model_id,
            "model_name": model.base_model,
            "model_data": {"arch": "bigram", "model_name": model.base_model, "tokenizer_id": None},
            "is_lora": True,
            "lora_rank": model.rank,
            "optimizer_config": {"type": "adamw"},
        }
    )


def unload_model(call: Call) -> Reply:
    """Unload a model at once; what is submitted or still held afterwards fails."""
    model = find_model(call, call.body(requests.ModelCall).model_id)

    def start() -> dict[str, Any]:
        model.unloaded = True
        result = {"model_id": model.model_id, "type": "unload_model"}
        return {"request_id": settled(call, model.model_id, result).request_id, "model_id": model.model_id}

    return once(call, None, "", start)


def new_model(call: Call, session_id: str | None, model_seq_id: int | None, base_model: str, rank: int | None) -> Model:
    """Add a model to the tenant. Its id has the service's form, `<uuid>:train:<n>`."""
    tenant = call.tenant
    model_id = tenant.hand_out("model", f"{uuid.uuid4()}:train:{model_seq_id or 0}")
    trainer: Trainer | Replayer = Trainer(tenant.script)
    if tenant.replay is not None:
        trainer = Replayer(tenant.replay.get(tenant.recorder.aliases[model_id], {}))
    model = Model(model_id, session_id, base_model, rank, trainer)
    tenant.models[model_id] = model
    return model


def check_session(call: Call, session_id: str | None) -> None:
    """Refuse an unknown session (404) and a finished one (410). Releases before 0.3.0 name none."""
    if session_id is None:
        return
    session = call.tenant.sessions.get(session_id)
    if session is None:
        raise RefusalError(404, f"there is no session {session_id!r}")
    if session.finished is not None:
        raise RefusalError(410, f"session {session_id} is finished")


def model_identity(session_id: str | None, model_seq_id: int | None) -> tuple[tuple[str | int | None, ...] | None, str]:
    """Return what tells a resend of a model's creation, and its name."""
    if session_id is None or model_seq_id is None:
        return None, ""
    return ("model", session_id, model_seq_id), f"model_seq_id {model_seq_id} of session {session_id}"
