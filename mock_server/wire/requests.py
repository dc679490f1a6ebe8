"""The JSON bodies of every route: which keys any described release sends, and their types.

One struct per route, the union over releases 0.7.0 to 0.38.0 and Tinkex 0.4.0. A key that no struct knows is reported
by `unknown_keys`, never refused: the server records, checks judge. The data of a forward pass is not described here
(`json_codec` reads it, array by array).
"""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Union, get_args, get_origin

import msgspec
from msgspec import Struct

from mock_server.wire.errors import WireError


class ClientConfig(Struct, frozen=True):
    """client/config and client/dynamic_config."""

    sdk_version: str | None = None


class CreateSession(Struct, frozen=True):
    """create_session."""

    sdk_version: str | None = None
    tags: list[str] | None = None
    user_metadata: dict[str, Any] | None = None
    project_id: str | None = None
    display_name: str | None = None
    type: str | None = None


class SessionHeartbeat(Struct, frozen=True):
    """session_heartbeat."""

    session_id: str
    type: str | None = None


class FinishReason(Struct, frozen=True):
    """Why a session ended: `success`, `errored` or `interrupted`."""

    type: str | None = None


class FinishSession(Struct, frozen=True):
    """sessions/{id}/finish."""

    reason: FinishReason | None = None
    detail: str | None = None


class Telemetry(Struct, frozen=True):
    """telemetry; the events themselves are recorded as they come."""

    events: list[Any] | None = None
    platform: str | None = None
    sdk_version: str | None = None
    session_id: str | None = None
    process_uuid: str | None = None


class LoraConfig(Struct, frozen=True):
    """lora_config of create_model."""

    rank: int | None = None
    seed: int | None = None
    train_unembed: bool | None = None
    train_mlp: bool | None = None
    train_attn: bool | None = None


class CreateModel(Struct, frozen=True):
    """create_model."""

    base_model: str
    session_id: str | None = None
    model_seq_id: int | None = None
    user_metadata: dict[str, Any] | None = None
    lora_config: LoraConfig | None = None
    optimizer_config: dict[str, Any] | None = None
    type: str | None = None


class ModelCall(Struct, frozen=True):
    """get_info and unload_model."""

    model_id: str
    type: str | None = None


class TrainingInput(Struct, frozen=True):
    """forward_input and forward_backward_input, without their data."""

    loss_fn: str
    loss_fn_config: dict[str, float | str] | None = None


class Forward(Struct, frozen=True):
    """Forward."""

    model_id: str
    forward_input: TrainingInput
    seq_id: int | None = None
    type: str | None = None


class ForwardBackward(Struct, frozen=True):
    """forward_backward."""

    model_id: str
    forward_backward_input: TrainingInput
    seq_id: int | None = None
    type: str | None = None


class AdamParams(Struct, frozen=True):
    """adam_params of optim_step. Releases before 0.18.0 send only what the caller set."""

    learning_rate: float | None = None
    beta1: float | None = None
    beta2: float | None = None
    eps: float | None = None
    weight_decay: float | None = None
    grad_clip_norm: float | None = None


class OptimStep(Struct, frozen=True):
    """optim_step."""

    model_id: str
    adam_params: AdamParams | None = None
    optimizer_params: dict[str, Any] | None = None
    seq_id: int | None = None
    type: str | None = None


class SaveWeights(Struct, frozen=True):
    """save_weights."""

    model_id: str
    path: str | None = None
    seq_id: int | None = None
    ttl_seconds: int | None = None
    overwrite: bool | None = None
    user_metadata: dict[str, Any] | None = None
    type: str | None = None


class LoadWeights(Struct, frozen=True):
    """load_weights: onto `model_id`, or (later releases) onto a new model of `session_id`."""

    path: str
    optimizer: bool = False
    model_id: str | None = None
    seq_id: int | None = None
    session_id: str | None = None
    model_seq_id: int | None = None
    base_model: str | None = None
    user_metadata: dict[str, Any] | None = None
    optimizer_config: dict[str, Any] | None = None
    weights_access_token: str | None = None
    type: str | None = None


class SaveWeightsForSampler(Struct, frozen=True):
    """save_weights_for_sampler."""

    model_id: str
    path: str | None = None
    sampling_session_seq_id: int | None = None
    kind: str | None = None
    seq_id: int | None = None
    ttl_seconds: int | None = None
    user_metadata: dict[str, Any] | None = None
    type: str | None = None


class RetrieveFuture(Struct, frozen=True):
    """retrieve_future."""

    request_id: str
    allow_metadata_only: bool | None = None


class Nothing(Struct, frozen=True):
    """A route without a body."""


def convert(body: Mapping[str, Any], kind: type[Struct]) -> Struct:
    """Read a decoded body as a struct. Raises WireError that names the key and what was expected."""
    try:
        return msgspec.convert(body, kind)
    except msgspec.ValidationError as error:
        raise WireError(str(error)) from error


def unknown_keys(body: Mapping[str, Any], kind: type[Struct], prefix: str = "") -> Iterator[str]:
    """Yield the dotted path of every key that `kind` does not describe, in the order of the body."""
    known = _known(kind)
    if body.keys() <= known.keys():
        for name, struct in _nested(kind):
            held = body.get(name)
            if isinstance(held, dict):
                yield from unknown_keys(held, struct, f"{prefix}{name}.")
        return
    for key, value in body.items():
        path = f"{prefix}{key}"
        if key not in known:
            yield path
            continue
        inner = known[key]
        if inner is not None and isinstance(value, dict):
            yield from unknown_keys(value, inner, f"{path}.")


@cache
def _known(kind: type[Struct]) -> Mapping[str, type[Struct] | None]:
    return {field.encode_name: _inner_struct(field.type) for field in msgspec.structs.fields(kind)}


@cache
def _nested(kind: type[Struct]) -> tuple[tuple[str, type[Struct]], ...]:
    return tuple((key, inner) for key, inner in _known(kind).items() if inner is not None)


def _inner_struct(annotation: Any) -> type[Struct] | None:
    candidates = get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)
    return next((c for c in candidates if isinstance(c, type) and issubclass(c, Struct)), None)
