"""Saving and loading."""

from __future__ import annotations

from typing import Any

from mock_server.execution import UncomputableError
from mock_server.futures import Outcome, Result
from mock_server.handlers.call import Call, RefusalError, Reply, once, operate, settled
from mock_server.handlers.models import check_session, model_identity, new_model
from mock_server.tenants import Model
from mock_server.wire import requests


def save_weights(call: Call) -> Reply:
    """Keep parameters and optimizer state under `tinker://<model>/weights/<name>`; a name in use is overwritten."""
    body = call.body(requests.SaveWeights)
    tenant = call.tenant

    def effect(model: Model) -> Outcome:
        path = tenant.hand_out_path(model, "weights", body.path or _unnamed(model))
        tenant.checkpoints[path] = model.trainer.checkpoint(model.base_model, model.rank)
        return Result({"path": path, "type": "save_weights"})

    return operate(call, "save_weights", body.model_id, body.seq_id, effect)


def save_weights_for_sampler(call: Call) -> Reply:
    """Name sampler weights: a path, or a sampling session when the client asks for one. Nothing can sample here."""
    body = call.body(requests.SaveWeightsForSampler)
    tenant = call.tenant

    def effect(model: Model) -> Outcome:
        result: dict[str, Any] = {"path": None, "sampling_session_id": None, "type": "save_weights_for_sampler"}
        if body.path is None and body.sampling_session_seq_id is not None:
            result["sampling_session_id"] = tenant.hand_out("sampling-session")
        else:
            result["path"] = tenant.hand_out_path(model, "sampler_weights", body.path or _unnamed(model))
        return Result(result)

    return operate(call, "save_weights_for_sampler", body.model_id, body.seq_id, effect)


def load_weights(call: Call) -> Reply:
    """Load a checkpoint onto a model, or onto a new model of a session (later releases)."""
    body = call.body(requests.LoadWeights)
    if body.model_id is None:
        return _create_by_load(call, body)
    tenant = call.tenant

    def effect(model: Model) -> Outcome:
        checkpoint = tenant.checkpoints.get(body.path)
        if checkpoint is None:
            raise UncomputableError(f"there are no weights at {body.path!r}")
        model.trainer.restore(checkpoint, with_optimizer=body.optimizer)
        return Result({"path": body.path, "model_id": model.model_id, "type": "load_weights"})

    return operate(call, "load_weights", body.model_id, body.seq_id, effect)


def _create_by_load(call: Call, body: requests.LoadWeights) -> Reply:
    if body.session_id is None:
        raise RefusalError(422, "load_weights needs a model_id, or a session_id and a model_seq_id")
    check_session(call, body.session_id)
    checkpoint = call.tenant.checkpoints.get(body.path)
    if checkpoint is None:
        raise RefusalError(404, f"there are no weights at {body.path!r}")

    def start() -> dict[str, Any]:
        model = new_model(
            call, body.session_id, body.model_seq_id, body.base_model or checkpoint.base_model, checkpoint.rank
        )
        model.trainer.restore(checkpoint, with_optimizer=body.optimizer)
        result = {"path": body.path, "model_id": model.model_id, "type": "load_weights"}
        return {"request_id": settled(call, model.model_id, result).request_id, "model_id": model.model_id}

    return once(call, *model_identity(body.session_id, body.model_seq_id), start)


def _unnamed(model: Model) -> str:
    model.saves += 1
    return f"unnamed-{model.saves}"
