"""Metrics of results: which there are, and their values after reduction over chunks and merging."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from harness.checks.causes import Found, certain, likely, told
from harness.checks.columns import spelled
from harness.checks.diagnosis import why_keys, why_metric
from harness.checks.numbers import all_close, compare
from harness.checks.outcome import count, failed, listed, nothing, passed
from harness.checks.reports import flat_names
from harness.checks.steps import both, result_group
from harness.checks.upstream import why_metric_follows
from harness.checks.verdict import Case, Check, Verdict

_TWIN = {"loss:sum": "surrogate_loss:sum", "surrogate_loss:sum": "loss:sum"}
_SPELLED = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf"), "-0.0": -0.0}


def names(case: Case) -> Verdict:
    """Judge the names."""
    looked = 0
    for step, golden, seen in _results(case):
        looked += 1
        if golden.keys() != seen.keys():
            return failed(
                f"{step} has other metrics",
                expected=listed(sorted(golden)) or "none",
                observed=listed(sorted(seen)) or "none",
                where=step,
                cause=why_keys(set(golden), set(seen)),
            )
    if not looked:
        return nothing(_reason(case))
    return passed(f"metrics of {count(looked, 'result')} named as in golden")


def values(case: Case) -> Verdict:
    """Judge the values of metrics that both have."""
    looked = 0
    for step, golden, seen in _results(case):
        for name in sorted(golden.keys() & seen.keys()):
            looked += 1
            left, right = _number(golden[name]), _number(seen[name])
            if isinstance(left, str) or isinstance(right, str) or left is None or right is None:
                if left != right:
                    return failed(
                        f"{name} differs",
                        expected=repr(left),
                        observed=repr(right),
                        where=f"{step}, {name}",
                        cause=certain("value-changed"),
                    )
                continue
            found = compare(np.array([left]), np.array([right]), rtol=case.tolerance.rtol, atol=case.tolerance.atol)
            if found:
                return failed(
                    f"{name}: {found}",
                    expected=spelled(left),
                    observed=spelled(right),
                    where=f"{step}, {name}",
                    cause=why_metric_follows(case, step, name, right)
                    or _exchanged(case, name, golden, seen)
                    or _moved(case, name, left, golden, seen)
                    or _why(case, step, name, left, right),
                )
    if not looked:
        return nothing(_reason(case))
    return passed(f"{count(looked, 'metric')} as golden")


def _results(case: Case) -> Iterator[tuple[str, Mapping[str, Any], Mapping[str, Any]]]:
    for golden, seen in both(case):
        if golden.metrics is not None and golden.status == seen.status == "ok":
            # What belongs to the flat form of a report is regularizers.flat's judgement, where there is to be a report.
            apart = flat_names(golden) | (frozenset() if golden.report is None else flat_names(seen))
            left, right = (
                {k: v for k, v in (of or {}).items() if k not in apart} for of in (golden.metrics, seen.metrics)
            )
            yield golden.step, left, right


def _number(value: Any) -> float | str | None:
    if isinstance(value, str):
        return _SPELLED.get(value, value)
    return None if value is None else value if isinstance(value, int) else float(value)


def _exchanged(case: Case, name: str, golden: Mapping[str, Any], seen: Mapping[str, Any]) -> Found | None:
    """Tell the caller's own loss in the place of the server's, or the other way round.

    One number can be the other by chance; both, each in the place of the other, hardly.
    """

    def taken(place: str, origin: str) -> bool:
        left, right = _number(golden.get(origin)), _number(seen.get(place))
        return (
            isinstance(left, (int, float))
            and isinstance(right, (int, float))
            and all_close(np.array([left]), np.array([right]), rtol=case.tolerance.rtol, atol=case.tolerance.atol)
        )

    other = _TWIN.get(name, "")
    if not other or not taken(name, other):
        return None
    return told("own-loss-vs-surrogate", f"{name} has golden's {other}", sure=taken(other, name))


def _moved(case: Case, name: str, left: float, golden: Mapping[str, Any], seen: Mapping[str, Any]) -> Found | None:
    """Tell a value that is there, under another name."""
    for other in sorted(seen.keys() - golden.keys()):
        value = _number(seen[other])
        if isinstance(value, (int, float)) and all_close(
            np.array([left]), np.array([value]), rtol=case.tolerance.rtol, atol=case.tolerance.atol
        ):
            return likely("key-renamed", f"golden's {name} is under {other}")
    return None


def _why(case: Case, step: str, name: str, golden: float, seen: float) -> Found | None:
    if not np.isfinite(seen) and np.isfinite(golden):
        return certain("not-finite", f"{seen}")
    if name.endswith(":hash_unordered"):
        return certain("hash-changed")
    if golden and seen == -golden:
        return likely("opposite-sign")
    group = result_group(case, step)
    if group is None:
        return None
    chunks = [(request.metrics, len(request.outputs)) for request in group.observed]
    return why_metric(seen, name, chunks, rtol=case.tolerance.rtol, atol=case.tolerance.atol)


def _reason(case: Case) -> str:
    if not any(step.metrics is not None for step in case.golden.steps):
        return "no result of golden has metrics"
    return "no result with metrics was seen"


CHECKS = (
    Check("metrics.names", "Results have golden's metrics: none dropped, none added.", names),
    Check("metrics.values", "Metrics have golden's values, after reduction over chunks and merging.", values),
)
