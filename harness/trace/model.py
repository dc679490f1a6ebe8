"""The trace of one scenario run: what checks compare.

A trace is made from the server's record and the driver's answer (`harness.trace.normalise`). Golden traces are traces
of the reference; they add to each request the call and phase it belongs to.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.drivers.protocol import StepResult
from mock_server.record import AnyArray, Batch, Gap, Tensor, Violation


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """One distinct request (resends folded into `sends`) of the session or of a model.

    `route` and `encoding` as recorded; `effect` is `forward`, `forward_backward`, `optim_step`, `save_weights`,
    `load_weights`, `save_weights_for_sampler`, `get_info`, `create_model`, or the route itself. `body` has ids
    replaced by aliases, seq_id and bulk data removed. `arrival` is the rank of first arrival among all requests of the
    trace. `sent_after` is how many requests that take turns with this one (of the same model, with a seq_id; or control
    requests) were already answered when it arrived. `model` is an alias or "".
    `call` (a step id) and `phase` (`forward`, `backward`, "") are known for golden traces only, else "".
    `outputs` and `metrics` are what the operation's result carried, when it took effect; `failure` is the server's
    message when it failed.
    """

    route: str
    effect: str
    model: str
    seq_id: int | None
    arrival: int
    sent_after: int
    sends: int
    encoding: str
    headers: Mapping[str, str]
    body: Any
    batch: Batch | None
    status: int | None
    call: str = ""
    phase: str = ""
    outputs: tuple[Mapping[str, Tensor], ...] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)
    failure: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Retrieval:
    """A distinct way results were asked for: the request's type header, Accept and body keys."""

    request_type: str
    accept: str
    body_keys: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class TrainingState:
    """Gradient found and parameters left by one optimizer step, float64 `[vocab, vocab]`, in order of effect."""

    model: str
    gradient: AnyArray
    parameters: AnyArray


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """One scenario run.

    `requests` are in canonical order: by model, then seq_id (by arrival where there is none). `control` are the
    requests of session and model set-up and end, in order of arrival, without polls, heartbeats and telemetry.
    """

    scenario: str
    stimulus: str
    contract: str
    control: tuple[Request, ...]
    requests: tuple[Request, ...]
    retrievals: tuple[Retrieval, ...]
    steps: tuple[StepResult, ...]
    training: tuple[TrainingState, ...] = ()
    violations: tuple[Violation, ...] = ()
    gaps: tuple[Gap, ...] = ()
    unknown_fields: tuple[str, ...] = ()
