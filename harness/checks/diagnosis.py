"""Why something differs, where that can be told now. Every function returns a sentence, or "" for "cannot tell"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from harness.checks.numbers import Numbers, all_close

_TRIED = 64
_ENOUGH = 1
"""A scale or a shift needs more than this many distinct values to be told from chance."""


def why_numbers(golden: Numbers, observed: Numbers, starts: Numbers, *, rtol: float, atol: float) -> str:
    """Return why numbers laid out end to end differ. `starts` are the offsets of the tensors in both arrays."""
    if golden.size == 0 or golden.size != observed.size:
        return ""
    with np.errstate(all="ignore"):
        return _why_numbers(golden, observed, starts, rtol=rtol, atol=atol)


def _why_numbers(golden: Numbers, observed: Numbers, starts: Numbers, *, rtol: float, atol: float) -> str:
    a = golden.astype(np.float64)
    b = observed.astype(np.float64)

    def agree(left: Numbers, right: Numbers) -> bool:
        return all_close(left, right, rtol=max(rtol, 1e-6), atol=atol)

    if not np.isfinite(a).all() or not np.isfinite(b).all():
        return _nonfinite(a, b)
    if agree(-a, b):
        return "opposite sign"
    if not b.any():
        return "zeros where golden has numbers"
    wrong = np.flatnonzero(np.abs(a - b) > atol + rtol * np.abs(a))
    if not b[wrong].any():
        return "zeros where golden has numbers"
    scale = _scale(a, b)
    if scale is not None and agree(a * scale, b):
        return f"scaled by a constant: observed = {scale:.6g} x golden"
    return (
        _per_tensor(a, b, starts, agree)
        or _shifted(a, b, starts, agree)
        or _other_datum(a, b, starts, agree)
        or _narrowed(golden, b)
    )


def _nonfinite(a: Numbers, b: Numbers) -> str:
    if np.isnan(b).any() and not np.isnan(a).any():
        return "NaN where golden has numbers"
    if np.isinf(b).any() and not np.isinf(a).any():
        return "an infinity where golden has numbers"
    return "numbers where golden has NaN or infinities" if np.isfinite(b).all() else ""


def _scale(a: Numbers, b: Numbers) -> float | None:
    used = np.abs(a) > 1e-3 * np.abs(a).max()
    if np.count_nonzero(used) <= _ENOUGH:
        return None
    return float(np.median(b[used] / a[used]))


def _segments(values: Numbers, starts: Numbers) -> list[Numbers]:
    return [piece for piece in np.split(values, starts[1:].astype(np.int64)) if piece.size]


def _per_tensor(a: Numbers, b: Numbers, starts: Numbers, agree: object) -> str:
    """Tell a mean from a sum: each tensor scaled by one over its length."""
    sizes = np.diff(np.append(starts, a.size))
    if len(sizes) < 2 or len(set(sizes.tolist())) < 2:
        return ""
    lengths = np.repeat(sizes, sizes)
    assert callable(agree)
    if agree(a / np.maximum(lengths, 1), b):
        return "each datum divided by its own length: a mean where golden sums"
    if agree(a * lengths, b):
        return "each datum multiplied by its own length: a sum where golden takes the mean"
    return ""


def _shifted(a: Numbers, b: Numbers, starts: Numbers, agree: object) -> str:
    assert callable(agree)
    for shift, says in ((1, "one position late"), (-1, "one position early")):
        pieces = [
            (left[:-1], right[1:]) if shift == 1 else (left[1:], right[:-1])
            for left, right in zip(_segments(a, starts), _segments(b, starts), strict=True)
            if left.size > 1
        ]
        if pieces and sum(left.size for left, _ in pieces) > _ENOUGH:
            left, right = (np.concatenate([piece[side] for piece in pieces]) for side in (0, 1))
            if left.any() and agree(left, right):
                return f"shifted: every value stands {says}"
    return ""


def _other_datum(a: Numbers, b: Numbers, starts: Numbers, agree: object) -> str:
    """Tell numbers that belong to another datum, or to another position of the same."""
    assert callable(agree)
    left, right = _segments(a, starts), _segments(b, starts)
    first = next((i for i, (x, y) in enumerate(zip(left, right, strict=True)) if not agree(x, y)), None)
    if first is None:
        return ""
    wrong = right[first]
    if wrong.any():
        heads = np.array([piece[0] for piece in left])
        sizes = np.array([piece.size for piece in left])
        near = np.abs(heads - wrong[0]) <= 1e-3 * np.abs(wrong[0]) + 1e-6
        for i in np.flatnonzero(near & (sizes == wrong.size))[:_TRIED]:
            if i != first and agree(left[i], wrong):
                return f"of another datum: what datum {first} carries is golden's datum {i}"
    if wrong.size > 1 and agree(np.sort(left[first]), np.sort(wrong)):
        return "the same values in another order"
    if agree(np.sort(a), np.sort(b)):
        return "the same values, dealt to the datums in another order"
    return ""


def _narrowed(golden: Numbers, b: Numbers) -> str:
    with np.errstate(over="ignore"):
        half = golden.astype(np.float16).astype(np.float64)
        brain = (golden.astype(np.float32).view(np.uint32) + 0x8000 & 0xFFFF0000).view(np.float32)
    if np.array_equal(half, b):
        return "rounded to half precision (float16)"
    if golden.dtype.kind == "f" and np.allclose(brain.astype(np.float64), b, rtol=2**-9, atol=0):
        return "rounded to bfloat16"
    return ""


def why_sizes(golden: Sequence[int], observed: Sequence[int]) -> str:
    """Return why a pass is cut into other sizes, from the sizes alone."""
    if not golden or not observed or list(golden) == list(observed):
        return ""
    if len(observed) == 1 and len(golden) > 1:
        return "not cut at all"
    if sum(golden) == sum(observed) and golden[0] != observed[0] and len(golden) > 1:
        return f"cut at {observed[0]} instead of {golden[0]}"
    if len(golden) == 1 and len(observed) > 1:
        return f"cut at {observed[0]} where golden does not cut"
    return ""


def why_keys(golden: set[str], observed: set[str]) -> str:
    """Return which keys were dropped or added."""
    parts = []
    if golden - observed:
        parts.append(f"key dropped: {', '.join(sorted(golden - observed))}")
    if observed - golden:
        parts.append(f"key added: {', '.join(sorted(observed - golden))}")
    return "; ".join(parts)


def why_shape(golden: Sequence[int], observed: Sequence[int]) -> str:
    """Return why a shape differs."""
    if len(golden) > 1 and list(observed) == [int(np.prod(golden))]:
        return "flattened"
    if len(golden) == 2 and list(observed) == list(reversed(golden)):
        return "transposed"
    return ""


def why_metric(
    observed: float, name: str, chunks: Sequence[tuple[Mapping[str, float], int]], *, rtol: float, atol: float
) -> str:
    """Return how a wrong metric can be had from what the server answered per chunk: (metrics, number of outputs)."""
    if len(chunks) < 2 or not all(name in metrics for metrics, _ in chunks):
        return ""
    values = np.array([float(metrics[name]) for metrics, _ in chunks])
    sizes = np.array([size for _, size in chunks], dtype=np.float64)
    ways = {
        "unweighted mean over the chunks": values.mean(),
        "mean weighted by the size of the chunks": (values * sizes).sum() / max(sizes.sum(), 1),
        "sum over the chunks": values.sum(),
        "the first chunk's value": values[0],
        "the last chunk's value": values[-1],
        "the largest of the chunks": values.max(),
        "the smallest of the chunks": values.min(),
    }
    for says, value in ways.items():
        if all_close(np.array([value]), np.array([observed]), rtol=rtol, atol=atol):
            return says
    return ""
