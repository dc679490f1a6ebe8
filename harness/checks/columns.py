"""Tensors of many datums as one flat array, so that a comparison is one vectorised pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.checks.alignment import Label, Matched, elements
from harness.checks.causes import Found
from harness.checks.diagnosis import why_numbers
from harness.checks.numbers import Mismatch, Numbers, compare
from harness.checks.outcome import failed
from harness.checks.verdict import Verdict
from harness.suite.scenario import Tolerance
from mock_server.record import Tensor

EXACT = Tolerance(rtol=0.0, atol=0.0)


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """Pairs of equally long arrays laid end to end. `owner[k]` is the caller's index of pair k, `starts` its offset."""

    golden: Numbers
    observed: Numbers
    starts: Numbers
    owner: Sequence[int]
    names: Sequence[str]

    def place(self, flat: int) -> tuple[int, int]:
        """Return (pair, element) of a flat index."""
        pair = int(np.searchsorted(self.starts, flat, side="right")) - 1
        return pair, flat - int(self.starts[pair])


def laid_out(pairs: Sequence[tuple[int, str, Numbers, Numbers]]) -> Columns:
    """Lay out pairs of (owner, name, golden, observed); those of different sizes must have been left out."""
    if not pairs:
        empty = np.zeros(0)
        return Columns(empty, empty, np.zeros(0, dtype=np.int64), (), ())
    sizes = np.fromiter((pair[2].size for pair in pairs), dtype=np.int64, count=len(pairs))
    return Columns(
        golden=np.concatenate([pair[2] for pair in pairs]),
        observed=np.concatenate([pair[3] for pair in pairs]),
        starts=np.cumsum(sizes) - sizes,
        owner=[pair[0] for pair in pairs],
        names=[pair[1] for pair in pairs],
    )


def input_columns(both: Matched, keys: Sequence[str] | None, *, integers: bool) -> Columns:
    """Lay out inputs that both sides of each matched datum have, with equally many elements.

    `keys`: those inputs, or all. `integers` picks int tensors or float tensors by golden's dtype, because the two
    compare differently. Missing keys and other sizes are the judgement of other checks.
    """
    pairs: list[tuple[int, str, Numbers, Numbers]] = []
    for index, (left, right) in enumerate(zip(both.golden, both.observed, strict=True)):
        for key in keys if keys is not None else left.inputs:
            expected, seen = left.inputs.get(key), right.inputs.get(key)
            if expected is None or seen is None or (expected.dtype in _INTEGERS) is not integers:
                continue
            a, b = elements(expected), elements(seen)
            if a.size == b.size:
                pairs.append((index, key, a, b))
    return laid_out(pairs)


def judge_columns(both: Matched, columns: Columns, tolerance: Tolerance, what: str) -> Verdict | None:
    """Return a failure where the laid-out numbers disagree, or None."""
    found = compare(columns.golden, columns.observed, rtol=tolerance.rtol, atol=tolerance.atol)
    if found is None:
        return None
    pair, element = columns.place(found.index)
    cause = why_numbers(
        columns.golden,
        columns.observed,
        columns.starts,
        rtol=tolerance.rtol,
        atol=tolerance.atol,
        datums=_datums_of_calls(both, columns),
    )
    return mismatch(found, what, f"{both.where(columns.owner[pair])}, {columns.names[pair]}[{element}]", cause)


def mismatch(found: Mismatch, what: str, where: str, cause: Found | None) -> Verdict:
    """Return the failure of a numeric comparison."""
    return failed(
        f"{what}: {found}",
        expected=spelled(found.expected),
        observed=spelled(found.observed),
        where=where,
        cause=cause,
    )


def _datums_of_calls(both: Matched, columns: Columns) -> Numbers:
    """Return, per laid-out tensor, how many datums of its call were matched."""
    labels: list[Label] = [pair.label(ordinal) for pair, ordinal in both.places]
    counts = Counter(labels)
    return np.array([counts[labels[owner]] for owner in columns.owner], dtype=np.int64)


def spelled(number: float) -> str:
    """Return a number with all digits of its width that matter to a reader."""
    return str(number) if isinstance(number, int) else f"{number:.9g}"


def shape_of(tensor: Tensor) -> str:
    """Return a shape as text; a tensor whose wire form names none has its length."""
    return str(list(tensor.shape)) if tensor.shape is not None else f"none named ({tensor.size} elements)"


_INTEGERS = frozenset({"int64", "int32", "int16", "int8", "uint8", "bool"})
