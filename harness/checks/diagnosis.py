"""Why something differs, where that can be told now: a code of `harness.checks.causes`, or None for "cannot tell"."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from harness.checks.causes import Found, certain, likely, told
from harness.checks.numbers import Numbers, all_close

Agree = Callable[[Numbers, Numbers], bool]

_TRIED = 64
_ENOUGH = 1
"""A scale or a shift needs more than this many distinct values to be told from chance."""


def why_numbers(
    golden: Numbers,
    observed: Numbers,
    starts: Numbers,
    *,
    rtol: float,
    atol: float,
    datums: Numbers | None = None,
) -> Found | None:
    """Return why numbers laid out end to end differ. `starts` are the offsets of the tensors in both arrays.

    `datums` has, for each tensor, the number of datums of its call.
    """
    if golden.size == 0 or golden.size != observed.size:
        return None
    with np.errstate(all="ignore"):
        return _why_numbers(golden, observed, starts, datums, rtol=rtol, atol=atol)


def _why_numbers(
    golden: Numbers, observed: Numbers, starts: Numbers, datums: Numbers | None, *, rtol: float, atol: float
) -> Found | None:
    a = golden.astype(np.float64)
    b = observed.astype(np.float64)

    def agree(left: Numbers, right: Numbers) -> bool:
        return all_close(left, right, rtol=max(rtol, 1e-6), atol=atol)

    if not np.isfinite(a).all() or not np.isfinite(b).all():
        return _nonfinite(a, b)
    telling = np.unique(np.abs(a[a != 0])).size > _ENOUGH
    if agree(-a, b):
        return told("opposite-sign", sure=telling)
    wrong = np.flatnonzero(np.abs(a - b) > atol + rtol * np.abs(a))
    if not b[wrong].any():
        return certain("zeros-for-values", f"{wrong.size} of {a.size} numbers")
    filled = np.unique(b[wrong])
    if filled.size == 1 and not a[wrong].any():
        return told("default-filled", f"{filled[0]:g} where golden has 0", sure=wrong.size > _ENOUGH)
    scaled = _scaled(a, b, starts, datums, agree, telling=telling)
    return (
        scaled
        or _per_tensor(a, b, starts, agree)
        or _shifted(a, b, starts, agree)
        or _other_datum(a, b, starts, agree)
        or _narrowed(golden, b)
    )


def _nonfinite(a: Numbers, b: Numbers) -> Found | None:
    if np.isnan(b).any() and not np.isnan(a).any():
        return certain("not-finite", f"{np.count_nonzero(np.isnan(b))} NaN where golden has numbers")
    if np.isinf(b).any() and not np.isinf(a).any():
        return certain("not-finite", f"{np.count_nonzero(np.isinf(b))} infinities where golden has numbers")
    return certain("finite-for-not-finite") if np.isfinite(b).all() else None


def _scaled(
    a: Numbers, b: Numbers, starts: Numbers, datums: Numbers | None, agree: Agree, *, telling: bool
) -> Found | None:
    """Tell one factor; the number of datums of each tensor's call if that is what it is."""
    if datums is not None and datums.size and datums.max() > 1:
        sizes = np.diff(np.append(starts, a.size)).astype(np.int64)
        each = np.repeat(datums, sizes)
        told_by = a != 0
        lengths = np.repeat(sizes, sizes)
        sure = np.unique(each[told_by]).size > 1 and not np.array_equal(each[told_by], lengths[told_by])
        for factor, says in ((each, "times"), (1 / each, "divided by")):
            if agree(a * factor, b):
                numbers = ", ".join(str(int(n)) for n in np.unique(datums)[:4])
                return told("scaled-by-n", f"observed = golden {says} the number of datums, {numbers}", sure=sure)
    used = np.abs(a) > 1e-3 * np.abs(a).max()
    if np.count_nonzero(used) <= _ENOUGH:
        return None
    scale = float(np.median(b[used] / a[used]))
    return told("scaled", f"observed = {scale:.6g} x golden", sure=telling) if agree(a * scale, b) else None


def _segments(values: Numbers, starts: Numbers) -> list[Numbers]:
    return [piece for piece in np.split(values, starts[1:].astype(np.int64)) if piece.size]


def _per_tensor(a: Numbers, b: Numbers, starts: Numbers, agree: Agree) -> Found | None:
    """Tell a mean from a sum: each tensor scaled by one over its length."""
    sizes = np.diff(np.append(starts, a.size))
    if len(sizes) < 2 or len(set(sizes.tolist())) < 2:
        return None
    lengths = np.repeat(sizes, sizes)
    if agree(a / np.maximum(lengths, 1), b):
        return certain("mean-for-sum", "each datum divided by its own length")
    if agree(a * lengths, b):
        return certain("sum-for-mean", "each datum multiplied by its own length")
    return None


def _shifted(a: Numbers, b: Numbers, starts: Numbers, agree: Agree) -> Found | None:
    for shift, says in ((1, "one position late"), (-1, "one position early")):
        pieces = [
            (left[:-1], right[1:]) if shift == 1 else (left[1:], right[:-1])
            for left, right in zip(_segments(a, starts), _segments(b, starts), strict=True)
            if left.size > 1
        ]
        if pieces and sum(left.size for left, _ in pieces) > _ENOUGH:
            left, right = (np.concatenate([piece[side] for piece in pieces]) for side in (0, 1))
            if left.any() and agree(left, right):
                long = [piece for piece, _ in pieces if piece.size > 1]
                if not long and _reordered(a, b, starts, agree):
                    return likely("values-reordered", "reversed, or shifted: no datum has more than two values")
                sure = any(np.unique(piece).size > _ENOUGH for piece in long)
                return told("shifted", f"every value stands {says}", sure=sure)
    return None


def _reordered(a: Numbers, b: Numbers, starts: Numbers, agree: Agree) -> bool:
    """Tell whether each tensor has golden's values in some order."""
    return all(
        agree(np.sort(left), np.sort(right))
        for left, right in zip(_segments(a, starts), _segments(b, starts), strict=True)
    )


def _other_datum(a: Numbers, b: Numbers, starts: Numbers, agree: Agree) -> Found | None:
    """Tell numbers that belong to another datum, or to another position of the same."""
    left, right = _segments(a, starts), _segments(b, starts)
    first = next((i for i, (x, y) in enumerate(zip(left, right, strict=True)) if not agree(x, y)), None)
    if first is None:
        return None
    wrong = right[first]
    if wrong.any():
        heads = np.array([piece[0] for piece in left])
        sizes = np.array([piece.size for piece in left])
        near = np.abs(heads - wrong[0]) <= 1e-3 * np.abs(wrong[0]) + 1e-6
        for i in np.flatnonzero(near & (sizes == wrong.size))[:_TRIED]:
            if i != first and agree(left[i], wrong):
                sure = np.unique(wrong).size > _ENOUGH
                return told("wrong-datum", f"what datum {first} carries is golden's datum {i}", sure=sure)
    if wrong.size > 1 and agree(np.sort(left[first]), np.sort(wrong)):
        return told("values-reordered", sure=wrong.size > 2)
    if agree(np.sort(a), np.sort(b)):
        return likely("wrong-datum", "the same values, dealt to the datums in another order")
    return None


def _narrowed(golden: Numbers, b: Numbers) -> Found | None:
    with np.errstate(over="ignore"):
        half = golden.astype(np.float16).astype(np.float64)
        brain = (golden.astype(np.float32).view(np.uint32) + 0x8000 & 0xFFFF0000).view(np.float32)
    if np.array_equal(half, b):
        return likely("rounded", "float16")
    if golden.dtype.kind == "f" and np.allclose(brain.astype(np.float64), b, rtol=2**-9, atol=0):
        return likely("rounded", "bfloat16")
    return None


def why_sizes(golden: Sequence[int], observed: Sequence[int]) -> Found | None:
    """Return why a pass is cut into other sizes, from the sizes alone."""
    if not golden or not observed or list(golden) == list(observed):
        return None
    if len(observed) == 1 and len(golden) > 1:
        return certain("not-cut", f"{observed[0]} datums in one request")
    where = f"at {golden[0]}" if len(golden) > 1 else "nowhere"
    if sum(golden) == sum(observed) and golden[0] != observed[0]:
        code = "cut-off-by-one" if len(golden) > 1 and abs(observed[0] - golden[0]) == 1 else "limit-differs"
        return likely(code, f"cut at {observed[0]}, golden {where}")
    return None


def why_keys(golden: set[str], observed: set[str], *, callers: frozenset[str] = frozenset()) -> Found | None:
    """Return which keys were dropped or added. `callers` are the inputs that the caller gave."""
    dropped, added = sorted(golden - observed), sorted(observed - golden)
    if dropped and added:
        return _off_by_one(dropped, added) or certain("key-dropped", f"{', '.join(dropped)}; added: {', '.join(added)}")
    if dropped:
        return certain("key-dropped", ", ".join(dropped))
    if added:
        return certain("input-leaked" if set(added) <= callers else "key-added", ", ".join(added))
    return None


def _off_by_one(dropped: Sequence[str], added: Sequence[str]) -> Found | None:
    """Tell names that differ in the number at their end, by one."""
    for by in (1, -1):
        moved = {_counted(name, by) for name in dropped}
        if None not in moved and moved & set(added):
            first = next(name for name in dropped if _counted(name, by) in set(added))
            return certain("suffix-off-by-one", f"{_counted(first, by)} for {first}")
        # A run of numbers that is shifted keeps all its names but one at each end.
        if len(dropped) == len(added) == 1:
            stem, number = _stem(dropped[0])
            other, seen = _stem(added[0])
            if stem == other and None not in (number, seen):
                return certain("suffix-off-by-one", f"{added[0]} for {dropped[0]}")
    return None


def _stem(name: str) -> tuple[str, int | None]:
    stem = name.rstrip("0123456789")
    return stem, int(name[len(stem) :]) if len(stem) < len(name) else None


def _counted(name: str, by: int) -> str | None:
    stem, number = _stem(name)
    return None if number is None else f"{stem}{number + by}"


def why_shape(golden: Sequence[int] | None, observed: Sequence[int] | None) -> Found | None:
    """Return why a shape differs; None is the shape of a tensor that names none."""
    if observed is None:
        return certain("shape-unnamed") if golden is not None else None
    golden = golden or ()
    if len(golden) > 1 and list(observed) == [int(np.prod(golden))]:
        return certain("flattened")
    if len(golden) == 1 < len(observed) and golden[0] == np.prod(observed):
        return certain("unflattened")
    if len(golden) == 2 and list(observed) == list(reversed(golden)):
        return certain("transposed")
    return None


_BITS = {"bool": ("b", 1), "uint8": ("i", 8), "bfloat16": ("f", 16)} | {
    f"{name}{bits}": (kind, bits) for name, kind in (("int", "i"), ("float", "f")) for bits in (8, 16, 32, 64)
}


def why_dtype(golden: str, observed: str) -> Found | None:
    """Return whether a dtype was widened, or is simply another."""
    if golden == observed:
        return None
    before, after = _BITS.get(golden), _BITS.get(observed)
    wider = before is not None and after is not None and before[0] == after[0] and before[1] < after[1]
    return certain("dtype-widened" if wider else "dtype-changed", f"{observed} for {golden}")


def why_metric(
    observed: float, name: str, chunks: Sequence[tuple[Mapping[str, float], int]], *, rtol: float, atol: float
) -> Found | None:
    """Return how a wrong metric can be had from what the server answered per chunk: (metrics, number of outputs)."""
    if len(chunks) < 2 or not all(name in metrics for metrics, _ in chunks):
        return None
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
            unweighted = says.startswith("unweighted") and name.endswith(":mean")
            return likely("reduction-unweighted" if unweighted else "reduction-changed", says)
    return None
