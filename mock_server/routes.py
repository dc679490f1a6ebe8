"""The route table: every route of every era, in one place.

Whatever is attached to routes (decoding, recording, faults) is attached to this table, so that no route can be
forgotten.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from msgspec import Struct

from mock_server.handlers import models, polling, sessions, training, weights
from mock_server.handlers.call import Call, Reply
from mock_server.wire import requests

PREFIX = "/api/v1/"


@dataclass(frozen=True, slots=True)
class RouteSpec:
    """One route.

    `name` is the canonical name in records. `body` describes the JSON body, `data_under` the key that holds the bulk
    data (such a route takes protobuf too). `background`: not part of what a caller asked for, so that it does not
    interrupt quiet. `keyless`: answered without an API key.
    """

    name: str
    path: str
    handler: Callable[[Call], Reply] | Callable[[Call], Awaitable[Reply]]
    body: type[Struct]
    method: str = "POST"
    data_under: str | None = None
    background: bool = False
    keyless: bool = False


def _route(name: str, handler: Callable[[Call], Reply], body: type[Struct], **options: object) -> RouteSpec:
    return RouteSpec(name, PREFIX + name, handler, body, **options)  # type: ignore[arg-type]  # names checked by the dataclass


ROUTES: tuple[RouteSpec, ...] = (
    _route("healthz", sessions.healthz, requests.Nothing, method="GET", keyless=True, background=True),
    _route("client/config", sessions.client_config, requests.ClientConfig),
    _route("client/dynamic_config", sessions.client_dynamic_config, requests.ClientConfig, background=True),
    _route("get_server_capabilities", sessions.get_server_capabilities, requests.Nothing, method="GET"),
    _route("create_session", sessions.create_session, requests.CreateSession),
    _route("session_heartbeat", sessions.session_heartbeat, requests.SessionHeartbeat, background=True),
    RouteSpec(
        "session/finish", PREFIX + "sessions/{session_id}/finish", sessions.finish_session, requests.FinishSession
    ),
    _route("telemetry", sessions.telemetry, requests.Telemetry, background=True),
    _route("create_model", models.create_model, requests.CreateModel),
    _route("get_info", models.get_info, requests.ModelCall),
    _route("unload_model", models.unload_model, requests.ModelCall),
    _route("forward", training.forward, requests.Forward, data_under="forward_input"),
    _route(
        "forward_backward",
        training.forward_backward,
        requests.ForwardBackward,
        data_under="forward_backward_input",
    ),
    _route("optim_step", training.optim_step, requests.OptimStep),
    _route("save_weights", weights.save_weights, requests.SaveWeights),
    _route("load_weights", weights.load_weights, requests.LoadWeights),
    _route("save_weights_for_sampler", weights.save_weights_for_sampler, requests.SaveWeightsForSampler),
    RouteSpec(
        "retrieve_future", PREFIX + "retrieve_future", polling.retrieve_future, requests.RetrieveFuture, background=True
    ),
)
