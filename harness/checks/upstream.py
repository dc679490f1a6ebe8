"""What a difference follows from: the server computes metrics, gradients and parameters from what it is sent.

Where it was sent other data than golden's, other numbers come back although the client hands on what it got. Then the
check that looks at the data has the reason, and the later one says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from harness.checks import forward, weights
from harness.checks.alignment import Group, custom_calls
from harness.checks.causes import Found, certain, likely
from harness.checks.numbers import all_close
from harness.checks.steps import groups_of, result_group
from harness.checks.verdict import Case, Verdict

SURROGATE = "surrogate_loss:sum"
"""What a custom loss's result calls the server's `loss:sum`."""

_SENT: Mapping[str, Callable[[Case], Verdict]] = MappingProxyType(
    {
        "forward.values": forward.values,
        "plain.values": forward.plain_values,
        "weights.keys": weights.keys,
        "weights.targets": weights.targets,
        "weights.values": weights.values,
    }
)


def source(case: Case) -> str:
    """Return the id of the first check that finds other data sent than golden's, or ""."""
    return next((check for check, judge in _SENT.items() if judge(case).outcome == "fail"), "")


def why_metric_follows(case: Case, step: str, name: str, seen: float) -> Found | None:
    """Tell a metric that is what the server answered, where its answer differs because of what it was sent."""
    custom = step in custom_calls(case.golden)
    group = result_group(case, step)
    if group is None:
        return None
    if custom and name == "loss:sum":
        return _of_loss(case, step)
    answered = "loss:sum" if custom and name == SURROGATE else name
    if not _answered_otherwise(case, group, answered):
        return _of_loss(case, step) if custom and not _answers(group, answered) else None
    if not _handed_on(case, group, answered, seen):
        return None
    check = source(case)
    return certain("follows", f"the server's answer to other data: see {check}") if check else None


def why_trained_otherwise(case: Case) -> Found | None:
    """Tell that a model was trained with other data than golden's."""
    check = source(case)
    return likely("follows", f"the model was trained with other data: see {check}") if check else None


def _of_loss(case: Case, step: str) -> Found | None:
    """Tell that the caller's loss was computed from other logprobs, of a model that was trained otherwise."""
    passes = [group for group in groups_of(case, step) if group.effect == "forward"]
    if not any(_other_outputs(case, group) for group in passes):
        return None
    check = source(case)
    return likely("follows", f"the loss saw logprobs of a model trained otherwise: see {check}") if check else None


def _other_outputs(case: Case, group: Group) -> bool:
    before, after = ([output for r in side for output in r.outputs] for side in (group.golden, group.observed))
    if len(before) != len(after):
        return False
    return any(
        left[key].size == right[key].size and not _close(case, left[key].dense(), right[key].dense())
        for left, right in zip(before, after, strict=True)
        for key in left.keys() & right.keys()
    )


def _answers(group: Group, name: str) -> bool:
    return any(name in request.metrics for request in (*group.golden, *group.observed))


def _answered_otherwise(case: Case, group: Group, name: str) -> bool:
    """Tell whether the server answered another metric to any chunk; requests that are cut otherwise tell nothing."""
    golden = [request.metrics.get(name) for request in group.golden]
    seen = [request.metrics.get(name) for request in group.observed]
    if len(golden) != len(seen) or None in golden or None in seen:
        return False
    return not _close(case, golden, seen)


def _handed_on(case: Case, group: Group, name: str, seen: float) -> bool:
    """Tell whether a value is the right reduction of what the server answered, where that is easily told."""
    values = np.array([float(request.metrics[name]) for request in group.observed])
    sizes = np.array([len(request.outputs) for request in group.observed], dtype=np.float64)
    if values.size == 1 or name.endswith(":sum"):
        return _close(case, values.sum(), seen)
    if name.endswith(":mean") and sizes.sum():
        return _close(case, (values * sizes).sum() / sizes.sum(), seen)
    return (name.endswith(":max") and _close(case, values.max(), seen)) or (
        name.endswith(":min") and _close(case, values.min(), seen)
    )


def _close(case: Case, left: object, right: object) -> bool:
    a, b = (np.atleast_1d(np.asarray(side, dtype=np.float64)) for side in (left, right))
    return all_close(a, b, rtol=case.tolerance.rtol, atol=case.tolerance.atol)
