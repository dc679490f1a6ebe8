"""Whether training happened: the gradient accumulated at each optimizer step, then parameters.

These are end effects: wrong weights show here too, beside their own check. The gradient comes first because it does
not depend on the optimizer.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from harness.checks.causes import Found, certain, likely
from harness.checks.columns import mismatch
from harness.checks.diagnosis import why_numbers
from harness.checks.numbers import compare
from harness.checks.order import overtaking
from harness.checks.outcome import count, failed, nothing, passed
from harness.checks.upstream import why_trained_otherwise
from harness.checks.verdict import Case, Check, Verdict
from harness.trace.model import Trace, TrainingState

GRADIENT = 1e-5
"""Agreement of gradients, relative to the largest entry: what another tensor library reaches in float32."""

_GATE = 1e-3
"""AdamW turns noise on a gradient that is analytically zero into full steps, so that only entries whose gradient is
at least this much of the largest, in every step, say something about parameters."""

_STEP = 5e-4
"""Agreement of parameters in units of the learning rate: 2.9e-4 was measured with relative noise of 1e-6 on weights."""


def steps(case: Case) -> Verdict:
    """Judge how many optimizer steps took effect, per model."""
    golden, seen = _by_model(case.golden), _by_model(case.observed)
    if not golden:
        return nothing("no optimizer step takes effect in golden")
    if not case.observed.requests:
        return nothing("no operation was seen")
    for model in sorted(golden.keys() | seen.keys()):
        if len(golden[model]) != len(seen[model]):
            return failed(
                "another number of optimizer steps took effect",
                expected=len(golden[model]),
                observed=len(seen[model]),
                where=model,
                cause=certain("not-sent" if len(seen[model]) < len(golden[model]) else "sent-besides"),
            )
    return passed(f"{count(len(case.observed.training), 'optimizer step')} took effect")


def gradient(case: Case) -> Verdict:
    """Judge the gradient each optimizer step found."""
    looked = 0
    for model, number, golden, seen in _both(case):
        looked += 1
        largest = float(np.abs(golden.gradient).max(initial=0.0))
        if golden.gradient.shape != seen.gradient.shape:
            return failed(
                "another vocabulary", expected=golden.gradient.shape, observed=seen.gradient.shape, where=model
            )
        atol = GRADIENT * largest if largest else case.tolerance.atol
        found = compare(golden.gradient, seen.gradient, rtol=0.0, atol=atol)
        if found:
            cause = (
                _overtaken(case, model)
                or why_numbers(
                    golden.gradient.reshape(-1),
                    seen.gradient.reshape(-1),
                    np.zeros(1, np.int64),
                    rtol=GRADIENT,
                    atol=atol,
                )
                or why_trained_otherwise(case)
            )
            return mismatch(found, "gradient", _where(model, number, found.index, golden.gradient), cause)
    if not looked:
        return nothing(_reason(case))
    return passed(f"gradients of {count(looked, 'optimizer step')} as golden")


def parameters(case: Case) -> Verdict:
    """Judge the parameters each optimizer step left, where the gradient says something about them."""
    looked = 0
    rate = _learning_rate(case.golden)
    kept: dict[str, npt.NDArray[np.bool_]] = {}
    for model, number, golden, seen in _both(case):
        if golden.parameters.shape != seen.parameters.shape:
            return failed(
                "another vocabulary", expected=golden.parameters.shape, observed=seen.parameters.shape, where=model
            )
        size = np.abs(golden.gradient)
        told = (size >= _GATE * size.max(initial=0.0)) | (size == 0)
        kept[model] = told & kept.get(model, np.ones_like(told))
        use = np.flatnonzero(np.ones_like(told) if case.script.model.optimizer == "sgd" else kept[model])
        looked += int(use.size > 0)
        left, right = golden.parameters.reshape(-1)[use], seen.parameters.reshape(-1)[use]
        atol = max(case.tolerance.atol, _STEP * rate * number)
        found = compare(left, right, rtol=case.tolerance.rtol, atol=atol)
        if found:
            where = _where(model, number, int(use[found.index]), golden.parameters)
            return mismatch(found, "parameters", where, _overtaken(case, model) or why_trained_otherwise(case))
    if not looked:
        return nothing(_reason(case))
    return passed(f"parameters after {count(looked, 'optimizer step')} as golden")


def _overtaken(case: Case, model: str) -> Found | None:
    """Tell that the step met another gradient because operations took effect in another order."""
    early = overtaking(case, model)
    return likely("overtaken", early) if early else None


def _both(case: Case) -> Iterator[tuple[str, int, TrainingState, TrainingState]]:
    golden, seen = _by_model(case.golden), _by_model(case.observed)
    for model in sorted(golden.keys() & seen.keys()):
        for number, (left, right) in enumerate(zip(golden[model], seen[model], strict=False), start=1):
            yield model, number, left, right


def _by_model(trace: Trace) -> dict[str, list[TrainingState]]:
    models: dict[str, list[TrainingState]] = defaultdict(list)
    for state in trace.training:
        models[state.model].append(state)
    return models


def _learning_rate(golden: Trace) -> float:
    """Return the largest learning rate golden's optimizer steps name, or 0."""
    rates = [0.0]
    for request in golden.requests:
        if request.effect == "optim_step" and isinstance(request.body, dict):
            rate = (request.body.get("adam_params") or {}).get("learning_rate")
            rates.append(float(rate) if isinstance(rate, (int, float)) else 0.0)
    return max(rates)


def _where(model: str, number: int, flat: int, array: npt.NDArray[np.float64]) -> str:
    row, column = divmod(flat, array.shape[-1])
    return f"{model}, optimizer step {number}, [{row}, {column}]"


def _reason(case: Case) -> str:
    if not case.golden.training:
        return "no optimizer step takes effect in golden"
    return "no optimizer step took effect"


CHECKS = (
    Check("training.steps", "As many optimizer steps take effect as in golden.", steps),
    Check("training.gradient", "Each optimizer step finds golden's accumulated gradient.", gradient),
    Check("training.parameters", "Each optimizer step leaves golden's parameters.", parameters),
)
