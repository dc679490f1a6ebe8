"""Step results of golden and observed side by side, and what the server sent for a step."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

import numpy as np

from harness.checks.alignment import Group, align
from harness.checks.verdict import Case
from harness.drivers.protocol import StepResult
from mock_server.record import AnyArray, Tensor

_LITTLE = {"float32": "<f4", "float64": "<f8", "int64": "<i8", "int32": "<i4"}


def both(case: Case) -> Iterator[tuple[StepResult, StepResult]]:
    """Return golden and observed results of the steps that both have, in step order."""
    seen = {step.step: step for step in case.observed.steps}
    for step in case.golden.steps:
        if step.step in seen:
            yield step, seen[step.step]


def groups_of(case: Case, call: str, effect: str | None = None) -> list[Group]:
    """Return the groups of a call, of one effect or of all."""
    return [g for g in align(case).groups if g.call == call and (effect is None or g.effect == effect)]


def result_group(case: Case, call: str) -> Group | None:
    """Return the group whose responses a call's result is made of: its last pass."""
    passes = [g for g in groups_of(case, call) if any(r.batch is not None for r in g.golden)]
    return passes[-1] if passes else None


def sent_outputs(group: Group) -> list[dict[str, Tensor]]:
    """Return what the server sent the subject for a group, one mapping per datum, in the order of the data."""
    return [dict(output) for request in group.observed for output in request.outputs]


def digest(arrays: Iterable[tuple[AnyArray, str]]) -> str:
    """Return the SHA-256 over the little-endian bytes of arrays in the dtypes named beside them."""
    total = hashlib.sha256()
    for array, dtype in arrays:
        total.update(np.ascontiguousarray(array, dtype=_LITTLE.get(dtype, "<f4")).tobytes())
    return total.hexdigest()
