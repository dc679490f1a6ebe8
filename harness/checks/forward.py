"""What the forward pass carries, and what a plain forward_backward carries."""

from __future__ import annotations

import numpy as np

from harness.checks.alignment import Matched, golden_datums, matched
from harness.checks.columns import EXACT, input_columns, judge_columns, shape_of
from harness.checks.diagnosis import why_dtype, why_keys, why_shape
from harness.checks.outcome import count, failed, nothing, passed
from harness.checks.verdict import Case, Check, Verdict

_FORWARD = "forward"
_BOTH = "forward_backward"


def keys(case: Case) -> Verdict:
    """Judge the input keys of forward requests."""
    both = matched(case, _FORWARD, custom=None)
    if not both.golden:
        return nothing(_reason(case, _FORWARD, None, "forward pass"))
    return judge_keys(both) or passed(f"{count(len(both.golden), 'datum')} with golden's keys")


def values(case: Case) -> Verdict:
    """Judge tokens and inputs of forward requests."""
    both = matched(case, _FORWARD, custom=None)
    if not both.golden:
        return nothing(_reason(case, _FORWARD, None, "forward pass"))
    return _judge_values(case, both) or passed(f"{count(len(both.golden), 'datum')} as golden")


def plain_values(case: Case) -> Verdict:
    """Judge everything a plain forward_backward carries."""
    both = matched(case, _BOTH, custom=False)
    if not both.golden:
        return nothing(_reason(case, _BOTH, False, "plain forward_backward"))
    return judge_keys(both) or _judge_values(case, both) or passed(f"{count(len(both.golden), 'datum')} as golden")


def judge_keys(both: Matched, *, callers: frozenset[str] = frozenset()) -> Verdict | None:
    """Return a failure where the input keys of a datum are not golden's. `callers` are inputs the caller gave."""
    for index, (golden, seen) in enumerate(zip(both.golden, both.observed, strict=True)):
        if golden.inputs.keys() != seen.inputs.keys():
            return failed(
                "a datum carries other inputs",
                expected=", ".join(sorted(golden.inputs)) or "none",
                observed=", ".join(sorted(seen.inputs)) or "none",
                where=both.where(index),
                cause=why_keys(set(golden.inputs), set(seen.inputs), callers=callers),
            )
    return None


def _judge_values(case: Case, both: Matched) -> Verdict | None:
    for index, (golden, seen) in enumerate(zip(both.golden, both.observed, strict=True)):
        if golden.tokens.size != seen.tokens.size or not np.array_equal(golden.tokens, seen.tokens):
            return failed(
                "a datum carries other tokens",
                expected=f"{golden.tokens.size} tokens",
                observed=f"{seen.tokens.size} tokens, first differing {_first(golden.tokens, seen.tokens)}",
                where=both.where(index),
            )
        for key, tensor in golden.inputs.items():
            other = seen.inputs.get(key)
            if other is None:
                continue
            if tensor.dtype != other.dtype:
                return failed(
                    f"{key} has another dtype",
                    expected=tensor.dtype,
                    observed=other.dtype,
                    where=f"{both.where(index)}, {key}",
                    cause=why_dtype(tensor.dtype, other.dtype),
                )
            if tensor.shape != other.shape or tensor.size != other.size:
                return failed(
                    f"{key} has another shape",
                    expected=shape_of(tensor),
                    observed=shape_of(other),
                    where=f"{both.where(index)}, {key}",
                    cause=why_shape(tensor.shape, other.shape),
                )
    exact = judge_columns(both, input_columns(both, None, integers=True), EXACT, "inputs")
    return exact or judge_columns(both, input_columns(both, None, integers=False), case.tolerance, "inputs")


def _first(golden: np.ndarray, seen: np.ndarray) -> int:
    size = min(golden.size, seen.size)
    differ = np.flatnonzero(golden[:size] != seen[:size])
    return int(differ[0]) if differ.size else size


def _reason(case: Case, effect: str, custom: bool | None, what: str) -> str:
    if not golden_datums(case, effect, custom=custom):
        return f"golden has no {what}"
    return f"no {what} was seen"


CHECKS = (
    Check("forward.keys", "The forward pass carries golden's input keys for each datum.", keys),
    Check("forward.values", "The forward pass carries golden's tokens and inputs: dtype, shape and values.", values),
    Check(
        "plain.values",
        "A plain forward_backward carries golden's data: keys, dtypes, shapes, values.",
        plain_values,
    ),
)
