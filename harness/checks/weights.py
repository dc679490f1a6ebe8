"""What the backward pass of a custom loss carries: weights = -gradient, beside the untouched targets.

Each check looks at one property of the same tensors. `weights.values` compares flat and dense, so that a wrong shape,
dtype or layout with right numbers is only that.
"""

from __future__ import annotations

from collections.abc import Callable

from harness.checks.alignment import Matched, golden_datums, matched
from harness.checks.causes import Found, certain
from harness.checks.columns import EXACT, input_columns, judge_columns, shape_of
from harness.checks.composing import why_composed
from harness.checks.diagnosis import why_dtype, why_shape
from harness.checks.forward import judge_keys
from harness.checks.outcome import because, count, failed, nothing, passed
from harness.checks.verdict import Case, Check, Verdict
from mock_server.record import Tensor

_WEIGHTS = "weights"
_TARGETS = "target_tokens"


def keys(case: Case) -> Verdict:
    """Judge the input keys of the backward pass."""
    both = _backward(case)
    if not both.golden:
        return nothing(_reason(case))
    return judge_keys(both, callers=_callers(case)) or passed(f"{count(len(both.golden), 'datum')} with golden's keys")


def values(case: Case) -> Verdict:
    """Judge the numbers."""
    both = _backward(case)
    if not both.golden:
        return nothing(_reason(case))
    columns = input_columns(both, (_WEIGHTS,), integers=False)
    if not columns.owner:
        return nothing("no weights as long as golden's were seen")
    failure = judge_columns(both, columns, case.tolerance, "weights")
    if failure is not None and (why := why_composed(case)) is not None:
        failure = because(failure, why)
    return failure or passed(f"{columns.golden.size} weights of {count(len(columns.owner), 'datum')} as golden")


def shape(case: Case) -> Verdict:
    """Judge the shapes."""

    def differs(golden: Tensor, seen: Tensor) -> bool:
        return golden.shape != seen.shape or golden.size != seen.size

    def why(golden: Tensor, seen: Tensor) -> Found | None:
        return why_shape(golden.shape, seen.shape)

    return _property(case, "shape", differs, shape_of, why)


def dtype(case: Case) -> Verdict:
    """Judge the dtypes."""
    return _property(
        case,
        "dtype",
        lambda golden, seen: golden.dtype != seen.dtype,
        lambda tensor: tensor.dtype,
        lambda golden, seen: why_dtype(golden.dtype, seen.dtype),
    )


def layout(case: Case) -> Verdict:
    """Judge dense against sparse."""
    return _property(
        case,
        "layout",
        lambda golden, seen: golden.layout != seen.layout,
        lambda tensor: tensor.layout,
        lambda golden, seen: certain("layout-changed", f"{seen.layout} for {golden.layout}"),
    )


def targets(case: Case) -> Verdict:
    """Judge that target_tokens of the backward pass are golden's: dtype, shape and every number."""
    both = _backward(case)
    if not both.golden:
        return nothing(_reason(case))
    looked = 0
    for index, (golden, seen) in enumerate(zip(both.golden, both.observed, strict=True)):
        left, right = golden.inputs.get(_TARGETS), seen.inputs.get(_TARGETS)
        if left is None or right is None:
            continue
        looked += 1
        if left.dtype != right.dtype or left.shape != right.shape or left.size != right.size:
            return failed(
                "target_tokens of the backward pass have another form",
                expected=f"{left.dtype} {shape_of(left)}",
                observed=f"{right.dtype} {shape_of(right)}",
                where=f"{both.where(index)}, {_TARGETS}",
                cause=why_dtype(left.dtype, right.dtype) or why_shape(left.shape, right.shape),
            )
    if not looked:
        return nothing("no target_tokens were seen in the backward pass")
    failure = judge_columns(both, input_columns(both, (_TARGETS,), integers=True), EXACT, _TARGETS)
    return failure or passed(f"target_tokens of {count(looked, 'datum')} as golden")


def _property(
    case: Case,
    what: str,
    differs: Callable[[Tensor, Tensor], bool],
    spell: Callable[[Tensor], str],
    why: Callable[[Tensor, Tensor], Found | None],
) -> Verdict:
    both = _backward(case)
    if not both.golden:
        return nothing(_reason(case))
    looked = 0
    wrong: list[tuple[int, Tensor, Tensor]] = []
    for index, (golden, seen) in enumerate(zip(both.golden, both.observed, strict=True)):
        left, right = golden.inputs.get(_WEIGHTS), seen.inputs.get(_WEIGHTS)
        if left is None or right is None:
            continue
        looked += 1
        if differs(left, right):
            wrong.append((index, left, right))
    if not looked:
        return nothing("no weights were seen in the backward pass")
    if wrong:
        index, left, right = wrong[0]
        return failed(
            f"weights of {count(len(wrong), 'datum')} have another {what}",
            expected=spell(left),
            observed=spell(right),
            where=f"{both.where(index)}, {_WEIGHTS}",
            cause=why(left, right),
        )
    return passed(f"{what} of the weights of {count(looked, 'datum')} as golden")


def _callers(case: Case) -> frozenset[str]:
    """Return the inputs the caller gave to any call, as golden's losses and forward passes have them."""
    seen = {key for step in case.golden.steps if step.saw for keys in step.saw.keys for key in keys}
    sent = {
        key
        for request in case.golden.requests
        if request.effect == "forward" and request.batch is not None
        for datum in request.batch.datums
        for key in datum.inputs
    }
    return frozenset(seen | sent)


def _backward(case: Case) -> Matched:
    return matched(case, "forward_backward", custom=True)


def _reason(case: Case) -> str:
    if not golden_datums(case, "forward_backward", custom=True):
        return "golden has no backward pass of a custom loss"
    return "no backward pass of a custom loss was seen"


CHECKS = (
    Check("weights.keys", "The backward pass carries golden's input keys: target_tokens and weights.", keys),
    Check("weights.values", "The weights of the backward pass are golden's numbers.", values),
    Check("weights.shape", "The weights have golden's shapes.", shape),
    Check("weights.dtype", "The weights have golden's dtype.", dtype),
    Check("weights.layout", "The weights are dense or sparse where golden's are.", layout),
    Check("weights.targets", "The backward pass carries target_tokens unchanged.", targets),
)
