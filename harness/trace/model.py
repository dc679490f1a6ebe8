"""The trace of one scenario run: what checks compare.

A trace is made from the server's record and the driver's answer (`harness.trace.normalise`). Golden traces are traces
of the reference; they add to each request the call and phase it belongs to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.drivers.protocol import StepResult
from mock_server.record import AnyArray, Batch, Gap, Tensor, Violation


@dataclass(frozen=True, slots=True)
class Attempt:
    """One sending of a request, or one poll for its result.

    `answer` is the status as text, `try_again`, `metadata` or `failed` for a 200 that says so, `broken` where no answer
    arrived whole. `key` tells idempotency keys apart: 0 for the first one, 1 for the next other one. `same`: body and
    data are the first attempt's. `asks` are headers of the answer about trying again (Retry-After, x-should-retry).
    `took` is whether the request took effect by then. `at_ms` and `answered_ms` are when it arrived and was answered,
    in milliseconds of the run; golden traces have no times (-1).
    """

    answer: str
    key: int = 0
    same: bool = True
    asks: Mapping[str, str] = field(default_factory=dict)
    took: bool = True
    at_ms: float = -1.0
    answered_ms: float = -1.0


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
    message when it failed. `attempts` are its sendings, `polls` what was answered to those who asked for its result:
    both only where there was more than one, or something else than a success. `status` is the last attempt's.
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
    outputs: Sequence[Mapping[str, Tensor]] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)
    failure: str = ""
    attempts: tuple[Attempt, ...] = ()
    polls: tuple[Attempt, ...] = ()


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


@dataclass(frozen=True, slots=True)
class Instruction:
    """What became of one instruction of the scenario's fault script.

    `times` is how often it is to be played, None for always; `played` how often it was, 1 at most where that is always.
    `seen` is how many requests it counted; golden traces do not have it (0).
    """

    kind: str
    route: str
    times: int | None
    played: int
    seen: int = 0


@dataclass(frozen=True, slots=True)
class Beat:
    """One heartbeat of the session: its body, what it was answered (None: nothing), and when it came.

    Golden traces keep one of each body and status, without times.
    """

    body: Any
    status: int | None = 200
    at_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class SharedKey:
    """An idempotency key that different requests carry: the first two of them, and how many there are."""

    first: str
    again: str
    requests: int


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """One scenario run.

    `requests` are in canonical order: by model, then seq_id (by arrival where there is none). `control` are the
    requests of session and model set-up and end, in order of arrival, without polls, heartbeats and telemetry.
    `faults` are the instructions of the fault script, in its order.
    `beats` are the heartbeats of the first session. `lived` is when it was created and when it was closed or, where it
    was not, last heard of, in milliseconds; golden traces have no times. `late` are the routes of requests that came
    after it was closed, telemetry aside. `shared_keys` are idempotency keys that are not one request's own; golden
    traces have none.
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
    faults: tuple[Instruction, ...] = ()
    beats: tuple[Beat, ...] = ()
    lived: tuple[float, float] | None = None
    late: tuple[str, ...] = ()
    shared_keys: tuple[SharedKey, ...] = ()
