"""What one run of a scenario looked like: golden's side and the subject's, small enough for a page."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest

import numpy as np

from harness.checks.alignment import Alignment, Group, align, matched
from harness.checks.columns import input_columns
from harness.checks.numbers import Numbers, compare
from harness.checks.verdict import Case
from harness.drivers.protocol import StepResult
from harness.engine.events import (
    PicturedChunk,
    PicturedLoss,
    PicturedPass,
    PicturedRequest,
    PicturedUpdate,
    PicturedWeights,
    ScenarioPictured,
)
from harness.trace.model import Request, Trace, TrainingState
from harness.trace.normalise import effect_of
from mock_server.record import AnyArray, Exchange, Record

REQUESTS = 240
"""So many requests are pictured; the busiest scenario of the suite sends 89."""

PASSES = 60
CHUNKS = 120
NUMBERS = 48
STEPS = 60
_BEFORE = 6
"""So many weights that agree are shown before the first that does not."""

_LOSS = "loss:sum"
_KINDS = {
    "forward": "forward",
    "forward_backward": "train",
    "optim_step": "optim",
    "save_weights": "state",
    "load_weights": "state",
    "save_weights_for_sampler": "state",
    "retrieve_future": "poll",
    "session_heartbeat": "other",
    "telemetry": "other",
}


def picture(scenario: str, record: Record, case: Case | None) -> ScenarioPictured:
    """Return what a run looked like; without a `case`, which a driver that failed leaves none of, the requests only.

    What keeps it from being drawn is told in it: a verdict does not hang on a picture.
    """
    try:
        if case is None:
            return ScenarioPictured(scenario, *_requests(record, {}))
        aligned = align(case)
        return ScenarioPictured(
            scenario,
            *_requests(record, _kinds(aligned)),
            *_passes(aligned),
            weights=_weights(case),
            losses=tuple(_losses(case.golden, case.observed))[:STEPS],
            updates=tuple(_updates(case.golden, case.observed))[:STEPS],
        )
    except Exception:  # noqa: BLE001 - a defect here must not take the verdicts with it
        told = traceback.format_exc().strip().splitlines()
        return ScenarioPictured(scenario, trouble=f"the picture could not be drawn: {told[-1]}")


def _requests(record: Record, kinds: Mapping[tuple[str, int | None], str]) -> tuple[tuple[PicturedRequest, ...], int]:
    polled = _polled(record)
    shown = [_request(exchange, record, kinds, polled) for exchange in record.exchanges[:REQUESTS]]
    return tuple(shown), len(record.exchanges) - len(shown)


def _request(
    exchange: Exchange,
    record: Record,
    kinds: Mapping[tuple[str, int | None], str],
    polled: Mapping[str, tuple[str, int | None]],
) -> PicturedRequest:
    body = exchange.body if isinstance(exchange.body, Mapping) else {}
    effect = effect_of(exchange.route, exchange.body)
    model, seq_id = _place(body, record)
    kind = _KINDS.get(effect, "session")
    if effect in ("forward", "forward_backward"):
        kind = kinds.get((model, seq_id), kind)
    elif exchange.route == "retrieve_future":
        model, seq_id = polled.get(str(body.get("request_id")), (model, seq_id))
    elif exchange.route == "?":
        kind = "other"
    return PicturedRequest(
        connection=exchange.connection,
        route=exchange.route,
        kind=kind,
        model=model,
        seq_id=seq_id,
        datums=len(exchange.batch.datums) if exchange.batch is not None else 0,
        at_ms=round(exchange.at_ms, 1),
        answered_ms=None if exchange.answered_ms is None else round(exchange.answered_ms, 1),
        status=exchange.status,
        resend=exchange.resend_of is not None,
    )


def _place(body: Mapping[str, object], record: Record) -> tuple[str, int | None]:
    model, seq_id = body.get("model_id"), body.get("seq_id")
    named = record.aliases.get(model, "") if isinstance(model, str) else ""
    return named, seq_id if isinstance(seq_id, int) and not isinstance(seq_id, bool) else None


def _polled(record: Record) -> dict[str, tuple[str, int | None]]:
    """Return whose result each id of an operation is."""
    found = {}
    for exchange in record.exchanges:
        if isinstance(exchange.response, Mapping) and isinstance(exchange.body, Mapping):
            future = exchange.response.get("request_id")
            if isinstance(future, str) and exchange.route != "retrieve_future":
                found[future] = _place(exchange.body, record)
    return found


def _kinds(aligned: Alignment) -> dict[tuple[str, int | None], str]:
    """Return what each observed pass is, by model and seq_id."""
    return {
        (request.model, request.seq_id): _kind(aligned.groups[index], request)
        for request, index in aligned.label_of.items()
    }


def _kind(group: Group, request: Request) -> str:
    if request.effect == "forward_backward" and group.phase == "backward":
        return "backward"
    return _KINDS.get(request.effect, "other")


def _passes(aligned: Alignment) -> tuple[tuple[PicturedPass, ...], int]:
    shown = [
        PicturedPass(
            name=group.name,
            kind=_kind(group, group.golden[0]),
            model=group.model,
            expected=_chunks(group.golden),
            observed=_chunks(group.observed),
        )
        for group in aligned.groups[:PASSES]
    ]
    if aligned.extra:
        shown.append(PicturedPass("stands beside nothing", "other", "", (), _chunks(aligned.extra)))
    return tuple(shown), max(0, len(aligned.groups) - PASSES)


def _chunks(requests: Sequence[Request]) -> tuple[PicturedChunk, ...]:
    return tuple(
        PicturedChunk(request.seq_id, len(request.batch.datums) if request.batch is not None else 0)
        for request in requests[:CHUNKS]
    )


def _weights(case: Case) -> PicturedWeights | None:
    both = matched(case, "forward_backward", custom=True)
    columns = input_columns(both, ("weights",), integers=False)
    total = int(columns.golden.size)
    if not total:
        return None
    found = compare(columns.golden, columns.observed, rtol=case.tolerance.rtol, atol=case.tolerance.atol)
    first = 0 if found is None else max(0, min(found.first - _BEFORE, total - NUMBERS))
    last = min(total, first + NUMBERS)
    pair, element = columns.place(first)
    inside = columns.starts[(columns.starts > first) & (columns.starts < last)]
    return PicturedWeights(
        where=f"{both.where(columns.owner[pair])}, weights[{element}]",
        first=first,
        total=total,
        differing=0 if found is None else found.count,
        begins=tuple(int(start) - first for start in inside),
        expected=_rounded(columns.golden[first:last]),
        observed=_rounded(columns.observed[first:last]),
    )


def _rounded(values: Numbers) -> tuple[float, ...]:
    return tuple(_short(float(value)) for value in values)


def _short(value: float) -> float:
    """Return a number with as many digits as a picture needs: seven, what float32 holds."""
    return float(f"{value:.7g}")


def _losses(golden: Trace, observed: Trace) -> Iterator[PicturedLoss]:
    seen = {step.step: _loss(step) for step in observed.steps}
    for step in golden.steps:
        expected, found = _loss(step), seen.get(step.step)
        if expected is not None or found is not None:
            yield PicturedLoss(step.step, expected, found)


def _loss(step: StepResult) -> float | None:
    value = (step.metrics or {}).get(_LOSS)
    try:
        return None if value is None else _short(float(value))
    except ValueError:  # a subject's own spelling of no number
        return None


def _updates(golden: Trace, observed: Trace) -> Iterator[PicturedUpdate]:
    for model in dict.fromkeys(state.model for state in (*golden.training, *observed.training)):
        sides = [[state for state in trace.training if state.model == model] for trace in (golden, observed)]
        for left, right in zip_longest(*sides):
            yield PicturedUpdate(
                model=model,
                gradient=(_size(left, "gradient"), _size(right, "gradient")),
                parameters=(_size(left, "parameters"), _size(right, "parameters")),
                difference=_distance(left, right),
            )


def _size(state: TrainingState | None, what: str) -> float | None:
    return None if state is None else _norm(getattr(state, what))


def _distance(left: TrainingState | None, right: TrainingState | None) -> float | None:
    if left is None or right is None or left.parameters.shape != right.parameters.shape:
        return None
    return _norm(left.parameters - right.parameters)


def _norm(array: AnyArray) -> float:
    return _short(float(np.sqrt(np.square(array).sum())))
