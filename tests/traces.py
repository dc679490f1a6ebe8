"""Traces built by hand: one scenario run of a client that does everything right, and the means to alter it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from harness.checks.flat_form import flat_form
from harness.checks.steps import digest
from harness.checks.verdict import Case
from harness.contracts.model import Contract
from harness.contracts.timeline import load_timeline
from harness.drivers.protocol import FailedPart, Saw, StepResult, TensorSummary
from harness.suite.composition import Apart, ExpectedReport, Regularizer
from harness.suite.losses.parts import Composition
from harness.suite.scenario import Loss, Tolerance
from harness.trace.model import Attempt, Beat, Instruction, Request, Retrieval, Trace, TrainingState
from mock_server.faults.script import Delay, Withhold
from mock_server.record import Batch, Datum, Tensor
from mock_server.script import Script

TIMELINE = load_timeline(Path(__file__).parents[1] / "fixtures" / "contracts" / "tinker.toml")
SCRIPT = Script(
    client_config={"fwdbwd_max_chunk_len": 2},
    faults=(
        Delay(route="optim_step", seconds=0.1),
        Withhold(route="retrieve_future", seq_id=5, until=6),
    ),
)
HEADERS = {
    "accept": "application/json",
    "content-type": "application/json",
    "x-idempotency-key": "<key>",
    "x-sdk-version": "<version>",
    "x-stainless-retry-count": "0",
}
METHODS = {
    "create_model": "ServiceClient.create_lora_training_client",
    "forward_backward": "TrainingClient.forward_backward",
    "get_info": "TrainingClient.get_info",
    "optim_step": "TrainingClient.optim_step",
    "save_weights": "TrainingClient.save_state",
    "session/finish": "ServiceClient.close",
}
FORMS = {"chunk": ("tokens",), "tensor": ("data,dtype,shape",), "datum": ("loss_fn_inputs,model_input",)}


def contract(release: str = "0.38.0") -> Contract:
    """Return a described contract."""
    return TIMELINE.point(f"tinker-{release}")


def tensor(values: Any, dtype: str = "float32", shape: Sequence[int] | None = (-1,)) -> Tensor:
    """Return a dense tensor; a shape of (-1,) is the length."""
    array = np.asarray(values, dtype=dtype).reshape(-1)
    whole = None if shape is None else tuple(array.size if n == -1 else n for n in shape)
    return Tensor(dtype, whole, array)


def datum(tokens: Sequence[int], targets: Sequence[int], weights: Sequence[float] | None = None) -> Datum:
    """Return a datum with targets, and weights unless left out."""
    inputs = {"target_tokens": tensor(targets, "int64")}
    if weights is not None:
        inputs["weights"] = tensor(weights)
    return Datum(np.asarray(tokens, dtype=np.int64), inputs)


def headers_for(route: str, effect: str) -> dict[str, str]:
    """Return headers as 0.38.0 sends them."""
    headers = {**HEADERS, "x-sdk-method": METHODS.get(route, "ServiceClient.start")}
    if effect in ("forward", "forward_backward"):
        headers["content-type"] = "application/x-protobuf"
    return headers


@dataclass
class Builder:
    """Collects the requests and results of one run, chunk 1 of a pass sent last, as 0.38.0 does."""

    control: list[Request] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    steps: list[StepResult] = field(default_factory=list)
    training: list[TrainingState] = field(default_factory=list)
    beats: list[Beat] = field(default_factory=list)
    lived: tuple[float, float] | None = None
    arrivals: int = 0
    seq: int = 0
    model: str = "model-1"

    def set_up(self, route: str, body: Any) -> None:
        """Add a control request."""
        rank = self.arrivals
        self.control.append(
            Request(route, route, "", None, rank, rank, 1, "json", headers_for(route, route), body, None, 200)
        )
        self.arrivals += 1

    def send(self, route: str, body: Any, *, call: str) -> None:
        """Add an operation without data."""
        self.seq += 1
        self.requests.append(
            Request(
                route,
                route,
                self.model,
                self.seq,
                self.arrivals,
                self.seq - 1,
                1,
                "json",
                headers_for(route, route),
                {"model_id": self.model, **body},
                None,
                200,
                call,
            )
        )
        self.arrivals += 1

    def passed(self, effect: str, chunks: Sequence[Sequence[Datum]], *, call: str, phase: str = "") -> list[Request]:
        """Add a pass of a call, cut into these chunks, and return its requests."""
        body: dict[str, Any] = {"model_id": self.model, "loss_fn": "cross_entropy"}
        if effect == "forward":
            body["forward_only"] = True
        first, number = self.arrivals, len(chunks)
        made = []
        for index, chunk in enumerate(chunks):
            self.seq += 1
            arrival = first + (number - 1 if index == 0 else index - 1)
            made.append(
                Request(
                    "forward_backward",
                    effect,
                    self.model,
                    self.seq,
                    arrival,
                    self.seq - 1 - index + (number - 1 if index == 0 else 0),
                    1,
                    "protobuf",
                    headers_for("forward_backward", effect),
                    body,
                    Batch(tuple(chunk), FORMS),
                    200,
                    call,
                    phase,
                    outputs=tuple({"logprobs": tensor(-(d.tokens + 1) / 8)} for d in chunk),
                    metrics={"loss:sum": float(sum(d.tokens.sum() for d in chunk))},
                )
            )
        self.arrivals += number
        self.requests.extend(made)
        return made

    def trace(self) -> Trace:
        """Return the trace."""
        return Trace(
            "hand/built",
            "f" * 64,
            "tinker-0.38.0",
            tuple(self.control),
            tuple(self.requests),
            (
                Retrieval("ForwardBackward", "application/x-protobuf", ("allow_metadata_only", "request_id")),
                Retrieval("OptimStep", "application/json", ("allow_metadata_only", "request_id")),
            ),
            tuple(self.steps),
            tuple(self.training),
            faults=(
                Instruction("delay", "optim_step", times=1, played=1, seen=1),
                Instruction("withhold", "retrieve_future", times=1, played=1, seen=1),
            ),
            beats=tuple(self.beats),
            lived=self.lived,
        )


def summaries(requests: Sequence[Request]) -> list[dict[str, TensorSummary]]:
    """Return outputs as a driver reports them."""
    return [
        {
            key: TensorSummary("float32", list(t.shape or ()), digest([(t.values, "float32")]), t.values[:8].tolist())
            for key, t in output.items()
        }
        for request in requests
        for output in request.outputs
    ]


def saw_of(requests: Sequence[Request], keys: Sequence[str] = ("target_tokens", "weights")) -> Saw:
    """Return what a loss sees of forward results."""
    seen = [output["logprobs"] for request in requests for output in request.outputs]
    return Saw(
        calls=1,
        datums=len(seen),
        count=len(seen),
        dtypes=["float32"] * len(seen),
        shapes=[list(t.shape or ()) for t in seen],
        digest=digest((t.values, "float32") for t in seen),
        keys=[list(keys)] * len(seen),
        leaves=True,
        unchanged=True,
    )


def made(*answers: tuple[str, float], took: bool = False) -> tuple[Attempt, ...]:
    """Return attempts: what each was answered, a millisecond after it arrived at so many seconds.

    `took`: whether one that was not answered by 200 took effect all the same.
    """
    return tuple(
        Attempt(answer, took=took or answer == "200", at_ms=1000 * at, answered_ms=1000 * at + 1)
        for answer, at in answers
    )


SENT = (("503", 1.0), ("200", 1.45))
POLLED = (("408", 2.0), ("429", 2.05), ("200", 3.06))
"""A plain call that is sent again after half a second, and an optimizer step that is polled with a second's wait."""

BEAT = {"session_id": "session-1"}
BEATS = ((200, 11.0), (503, 21.1), (200, 31.2))
"""Heartbeats of a session that was created after a second; the second one fails."""

CUSTOM = [datum([1, 2], [3, 4], [0, 0]), datum([5, 6, 7], [8, 9, 10], [0, 0, 0]), datum([11], [12], [0])]
WEIGHTS = [[0.5, -0.25], [1.5, 2.5, -3.5], [4.5]]
PLAIN = [datum([13, 14], [15, 1], [1, 1]), datum([2], [3], [0.5])]


PARTS = Loss(
    nodes=(("lps",), ("mean", 0), ("neg", 1), ("abs", 0), ("sum", 3), ("square", 0), ("sum", 5)),
    loss=2,
    metrics={"nll": 2},
    apart=Apart(
        base=2,
        regularizers=(
            Regularizer(name="l2", node=6, weight=0.25, form="async", after="l1"),
            Regularizer(name="l1", node=4, weight=0.5, metrics={"raw:sum": 4}),
        ),
    ),
)
"""The mean negative logprob, a quarter of the sum of squares, half of L1."""

LOGPROBS = (np.float32([-0.5, -0.75]), np.float32([-1.25]))
COMPOSITIONS = {
    step: Composition(PARTS, ({}, {}), LOGPROBS, tracked=step == "parts", closed=ExpectedReport(step=step))
    for step in ("parts", "quiet")
}


def report(*, tracked: bool) -> dict[str, Any]:
    """Return the report of PARTS on LOGPROBS, worked out by hand: x = -0.5, -0.75, -1.25."""
    x = np.array([-0.5, -0.75, -1.25])
    slopes = {"base": np.full(3, -1 / 3), "l2": 2 * x, "l1": -np.ones(3)}
    norms = {name: float(np.linalg.norm(slope)) if tracked else None for name, slope in slopes.items()}
    whole = slopes["base"] + 0.25 * slopes["l2"] + 0.5 * slopes["l1"]

    def term(name: str, value: float, weight: float, custom: dict[str, float]) -> dict[str, Any]:
        return {
            "value": value,
            "weight": weight,
            "contribution": weight * value,
            "grad_norm": norms[name],
            "grad_norm_weighted": weight * norms[name] if tracked else None,
            "custom": custom,
        }

    return {
        "version": 1,
        "loss_total": 2.5 / 3 + 0.59375 + 1.25,
        "base_loss": {"value": 2.5 / 3, "grad_norm": norms["base"], "custom": {"nll": 2.5 / 3}},
        "regularizers": {"l2": term("l2", 2.375, 0.25, {}), "l1": term("l1", 2.5, 0.5, {"raw:sum": 2.5})},
        "regularizer_total": 0.59375 + 1.25,
        "total_grad_norm": float(np.linalg.norm(whole)) if tracked else None,
    }


def _computed(step: str) -> StepResult:
    told = report(tracked=step == "parts")
    saw = Saw(
        calls=1,
        datums=2,
        count=2,
        dtypes=["float32"] * 2,
        shapes=[[2], [1]],
        digest=digest((each, "float32") for each in LOGPROBS),
        keys=[["logprobs"]] * 2,
        leaves=True,
        unchanged=True,
        regularizers={"l2": 1, "l1": 1},
        ended={"l1": 1},
    )
    return StepResult(step, "ok", "LossReport", saw=saw, report=told, flat=dict(flat_form(told)))


def full_run() -> Trace:
    """Return a run with a custom call of two chunks, a plain call, an optimizer step, a save and two compositions."""
    b = Builder()
    for route in ("client/config", "client/dynamic_config", "create_session"):
        b.set_up(route, {"sdk_version": "<version>", "project_id": None})
    b.set_up("create_model", {"session_id": "session-1", "base_model": "parity/tiny-bigram"})
    b.set_up("get_info", {"model_id": "model-1"})
    backward = [replace(d, inputs={**d.inputs, "weights": tensor(w)}) for d, w in zip(CUSTOM, WEIGHTS, strict=True)]
    forward = b.passed("forward", [CUSTOM[:2], CUSTOM[2:]], call="fb", phase="forward")
    done = b.passed("forward_backward", [backward[:2], backward[2:]], call="fb", phase="backward")
    plain = b.passed("forward_backward", [PLAIN], call="pl")
    adam = {"learning_rate": 0.01, "beta1": 0.9, "weight_decay": 0.0, "note": None}
    b.send("optim_step", {"adam_params": adam}, call="opt")
    b.requests[-2] = replace(b.requests[-2], sends=2, attempts=made(*SENT))
    b.requests[-1] = replace(b.requests[-1], polls=made(*POLLED))
    b.send("save_weights", {"path": "ck", "type": "save_weights"}, call="save")
    b.set_up("session/finish", {"reason": {"type": "success"}})
    b.beats += [Beat(BEAT, status, 1000.0 * at) for status, at in BEATS]
    b.lived = (1000.0, 32_000.0)
    b.steps += [
        StepResult("model", "ok", "TrainingClient"),
        StepResult(
            "fb",
            "ok",
            "tinker.types.ForwardBackwardOutput",
            outputs=summaries(done),
            metrics={"loss:sum": 7.5, "surrogate_loss:sum": 32.0, "n:mean": 1.25},
            saw=saw_of(forward),
        ),
        StepResult("pl", "ok", "ForwardBackwardOutput", outputs=summaries(plain), metrics={"loss:sum": 29.0}),
        StepResult("opt", "ok", "OptimStepResponse", metrics={"lr": 0.01}),
        StepResult("save", "ok", "SaveWeightsResponse", fields={"path": "tinker://model-1/weights/ck"}),
        StepResult("late", "unawaited"),
        _computed("parts"),
        _computed("quiet"),
        StepResult("close", "ok"),
    ]
    gradient = np.array([[1.0, -2.0], [0.5, 1e-9]])
    b.training.append(TrainingState("model-1", gradient, np.array([[0.1, 0.2], [0.3, 0.4]])))
    return b.trace()


def failing_run() -> Trace:
    """Return a run whose custom call fails for want of a gradient, and the client refuses what follows."""
    b = Builder()
    b.set_up("create_session", {"sdk_version": "<version>"})
    b.set_up("create_model", {"session_id": "session-1"})
    forward = b.passed("forward", [CUSTOM[:2], CUSTOM[2:]], call="fb", phase="forward")
    b.steps += [
        StepResult(
            "fb",
            "error",
            "ValueError",
            kind="no_gradient",
            message="none",
            raised_at="await",
            saw=saw_of(forward),
            failed=FailedPart("regularizer", "l1"),
        ),
        StepResult("opt", "error", "RuntimeError", kind="client_poisoned", message="poisoned", raised_at="submit"),
        StepResult("close", "ok"),
    ]
    return b.trace()


def case(golden: Trace, observed: Trace | None = None, *, release: str = "0.38.0", script: Script = SCRIPT) -> Case:
    """Return a case of two traces; without an observed one, golden against itself without its labels."""
    return Case(
        golden=golden,
        observed=unlabelled(golden if observed is None else observed),
        contract=contract(release),
        tolerance=Tolerance(),
        script=script,
        compositions=COMPOSITIONS,
    )


def unlabelled(trace: Trace) -> Trace:
    """Return a trace as a subject makes it: no calls and phases named."""
    return replace(trace, requests=tuple(replace(r, call="", phase="") for r in trace.requests))


def with_requests(trace: Trace, change: Callable[[Request], Request | None]) -> Trace:
    """Return a trace with each request changed, or left out for None, in canonical order again."""
    changed = [new for new in map(change, trace.requests) if new is not None]
    changed.sort(key=lambda r: (r.model, r.seq_id is None, r.seq_id or 0, r.arrival))
    return replace(trace, requests=tuple(changed))


def with_step(trace: Trace, step: str, **changes: Any) -> Trace:
    """Return a trace with one step's result changed."""
    return replace(
        trace,
        steps=tuple(msgspec.structs.replace(s, **changes) if s.step == step else s for s in trace.steps),
    )


def with_datums(trace: Trace, call: str, phase: str, change: Callable[[int, Datum], Datum]) -> Trace:
    """Return a trace with each datum of one phase of a call changed; datums are counted from the start of the pass."""
    seen = 0

    def changed(request: Request) -> Request:
        nonlocal seen
        if (request.call, request.phase) != (call, phase) or request.batch is None:
            return request
        datums = []
        for item in request.batch.datums:
            datums.append(change(seen, item))
            seen += 1
        return replace(request, batch=Batch(tuple(datums), request.batch.forms))

    return with_requests(trace, changed)


def with_input(trace: Trace, call: str, phase: str, key: str, change: Callable[[int, Tensor], Tensor | None]) -> Trace:
    """Return a trace with one input of each datum of one phase changed, or left out for None."""

    def changed(index: int, item: Datum) -> Datum:
        inputs = dict(item.inputs)
        new = change(index, inputs[key])
        if new is None:
            del inputs[key]
        else:
            inputs[key] = new
        return replace(item, inputs=inputs)

    return with_datums(trace, call, phase, changed)
