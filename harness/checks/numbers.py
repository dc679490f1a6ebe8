"""One vectorised comparison of numbers, by dtype.

Numbers agree when |expected - observed| <= atol + rtol |expected|; integers agree when they are equal. NaN equals
NaN, an infinity equals only itself, and -0.0 equals 0.0: a sign of zero has no effect on training and does not
survive a sparse encoding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[Any]
_BLOCK = 1 << 14
_LESS, _MORE = 1 - 1e-5, 1 + 1e-5
_COUNTED = 10**6
"""Numbers further apart than this are simply other numbers: their distance in ulp tells a reader nothing."""


@dataclass(frozen=True, slots=True)
class Mismatch:
    """Where two arrays of equal length disagree most.

    `index` is the flat index of the worst element, `first` that of the first one that disagrees; `absolute` is
    |expected - observed| at the worst (NaN where a NaN or an infinity is on one side only), `ulps` the distance in
    units in the last place of the narrower floating dtype (None for integers and where it has no meaning), `count` how
    many of `total` disagree.
    """

    index: int
    first: int
    expected: float | int
    observed: float | int
    absolute: float
    ulps: int | None
    count: int
    total: int

    def __str__(self) -> str:
        distance = f"off by {self.absolute:.9g}" if np.isfinite(self.absolute) else "not comparable"
        ulps = "" if self.ulps is None or self.ulps > _COUNTED else f", {self.ulps} ulp"
        return f"{self.count} of {self.total} differ; worst {distance}{ulps}"


def compare(expected: Numbers, observed: Numbers, *, rtol: float, atol: float) -> Mismatch | None:
    """Return where two arrays disagree, or None. Both are compared flat, in row-major order.

    Two integer (or boolean) arrays compare exactly, everything else in float64 with the tolerance. Raises ValueError
    when the numbers of elements differ: a size is somebody else's judgement.
    """
    left = expected.reshape(-1)
    right = observed.reshape(-1)
    if left.size != right.size:
        raise ValueError(f"cannot compare {left.size} elements with {right.size}")
    bad = differing(left, right, rtol=rtol, atol=atol)
    number = int(np.count_nonzero(bad))
    if not number:
        return None
    worst, distance = _worst(left, right, bad)
    return Mismatch(
        index=worst,
        first=int(np.argmax(bad)),
        expected=left[worst].item(),
        observed=right[worst].item(),
        absolute=distance if np.isfinite(distance) else float("nan"),
        ulps=_ulps(left[worst], right[worst]),
        count=number,
        total=int(left.size),
    )


def _worst(left: Numbers, right: Numbers, bad: npt.NDArray[np.bool_]) -> tuple[int, float]:
    """Return the index of the largest distance among elements that disagree, the first of equals, and the distance.

    A NaN or an infinity against a number is worse than any distance. In blocks, as `_close`.
    """
    index, most = -1, -1.0
    for start in range(0, left.size, _BLOCK):
        here = bad[start : start + _BLOCK]
        if not here.any():
            continue
        a = left[start : start + _BLOCK].astype(np.float64)
        with np.errstate(invalid="ignore", over="ignore"):
            a -= right[start : start + _BLOCK]
        distance = np.abs(a, out=a)
        if not here.all():
            distance[~here] = -1.0
        top = int(np.argmax(distance))  # a NaN, where there is one
        if not np.isfinite(distance[top]):
            return start + int(np.argmax(~np.isfinite(distance))), float("nan")
        if distance[top] > most:
            index, most = start + top, float(distance[top])
    return index, most


def differing(expected: Numbers, observed: Numbers, *, rtol: float, atol: float) -> npt.NDArray[np.bool_]:
    """Return, per element of two equally long flat arrays, whether they disagree."""
    if _exact(expected, observed):
        return np.asarray(expected != observed)
    # A first look in the numbers' own width, with a little less and a little more tolerance, settles nearly all of
    # them: strict comparisons leave NaN, infinities and borderline cases to a second look in float64.
    with np.errstate(invalid="ignore", over="ignore"):
        difference = np.subtract(expected, observed)
        np.abs(difference, out=difference)
        bound = np.abs(expected) * expected.dtype.type(rtol * _LESS)
        bound += bound.dtype.type(atol * _LESS)
        open_: npt.NDArray[np.bool_] = ~np.asarray(difference < bound, dtype=np.bool_)
        if not open_.any():
            return open_
        bad = np.zeros(open_.size, dtype=np.bool_)
        if min(expected.dtype.itemsize, observed.dtype.itemsize) >= 4 and expected.dtype.kind == "f":
            # Narrower than float32, a rounded bound may be off by more than the little more that is asked for.
            bound *= bound.dtype.type(_MORE / _LESS)
            np.greater(difference, bound, out=bad)
            open_ &= ~bad
    count = int(np.count_nonzero(open_))
    if count > open_.size // 4:
        return ~_close(expected, observed, rtol=rtol, atol=atol)
    if count:
        places = np.flatnonzero(open_)
        bad[places] = ~_close(expected[places], observed[places], rtol=rtol, atol=atol)
    return bad


def _close(expected: Numbers, observed: Numbers, *, rtol: float, atol: float) -> npt.NDArray[np.bool_]:
    """Return where numbers agree, in float64. In blocks, so that what is computed stays in the processor's cache."""
    close = np.empty(expected.size, dtype=np.bool_)
    with np.errstate(invalid="ignore", over="ignore"):
        for start in range(0, expected.size, _BLOCK):
            a = expected[start : start + _BLOCK].astype(np.float64)
            b = observed[start : start + _BLOCK].astype(np.float64)
            bound = np.abs(a)
            bound *= rtol
            bound += atol
            difference = np.abs(np.subtract(a, b))
            block = difference <= bound
            # A NaN agrees with nothing and an infinite bound with everything: look again.
            if not np.isfinite(difference).all():
                block &= np.isfinite(a)
                block |= (a == b) | (np.isnan(a) & np.isnan(b))
            close[start : start + _BLOCK] = block
    return close


def all_close(expected: Numbers, observed: Numbers, *, rtol: float, atol: float) -> bool:
    """Return whether two arrays have the same number of elements and none disagrees."""
    left, right = expected.reshape(-1), observed.reshape(-1)
    return left.size == right.size and not differing(left, right, rtol=rtol, atol=atol).any()


def _exact(left: Numbers, right: Numbers) -> bool:
    return left.dtype.kind in "iub" and right.dtype.kind in "iub"


def _ulps(expected: Any, observed: Any) -> int | None:
    kinds = {np.asarray(expected).dtype.kind, np.asarray(observed).dtype.kind}
    if kinds != {"f"} or not (np.isfinite(expected) and np.isfinite(observed)):
        return None
    wide = min(np.asarray(expected).dtype.itemsize, np.asarray(observed).dtype.itemsize) >= 8
    return abs(_rank(float(expected), wide=wide) - _rank(float(observed), wide=wide))


def _rank(value: float, *, wide: bool) -> int:
    """Return the place of a float among all floats of its width, so that neighbours differ by one."""
    if wide:
        bits, size = int(np.float64(value).view(np.int64)), 63
    else:
        with np.errstate(over="ignore"):
            bits, size = int(np.float32(value).view(np.int32)), 31
    return bits if bits >= 0 else -(bits + (1 << size))
