"""Numbers as the driver protocol spells them. Standalone: standard library and numpy only.

JSON has no NaN and no infinities, many parsers lose the sign of -0.0, and integers beyond 2^53 do not survive a reader
that keeps every number as a float64. So these are strings: "NaN", "Infinity", "-Infinity", "-0.0" and decimal digits.
The harness and the Python drivers share this file, so that both ends of the line spell alike.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Number = float | int | str

LITTLE_ENDIAN = {"float32": "<f4", "float64": "<f8", "int32": "<i4", "int64": "<i8", "bool": "|b1"}
"""The dtypes a tensor on the line can have, and their layout in files and digests."""

EXACT_INTEGER = 2**53
FIRST = 8


def spell_float(value: float) -> float | str:
    """Return `value`, or its spelling where JSON has none."""
    if math.isfinite(value) and (value != 0.0 or math.copysign(1.0, value) > 0):
        return value
    if math.isnan(value):
        return "NaN"
    if value == 0.0:
        return "-0.0"
    return "Infinity" if value > 0 else "-Infinity"


def spell_int(value: int) -> int | str:
    """Return `value`, or its digits where a float64 could not hold it."""
    return value if -EXACT_INTEGER <= value <= EXACT_INTEGER else str(value)


def spell(array: npt.NDArray[Any]) -> list[Number]:
    """Spell the elements, row-major: floats as float64 (exact for float32), integers and bools as integers."""
    flat = np.ravel(array)
    if flat.dtype.kind == "f":
        wide = flat.astype(np.float64)
        plain = bool(np.all(np.isfinite(wide) & ((wide != 0) | ~np.signbit(wide))))
        return list(wide.tolist()) if plain else [spell_float(value) for value in wide.tolist()]
    return [spell_int(int(value)) for value in flat.tolist()]


def unspell(data: Sequence[Number], dtype: str) -> npt.NDArray[Any]:
    """Read spelled elements into a one-dimensional array of `dtype`.

    Raises ValueError for an unknown dtype, for a string that is no number, for a fraction where an integer is due,
    and for an integer that `dtype` cannot hold.
    """
    layout = _layout(dtype)
    if np.dtype(layout).kind == "f":
        return np.array([float(value) for value in data], dtype=layout)
    try:
        integers = [int(value) for value in data]
        if any(isinstance(value, float) and value != integer for value, integer in zip(data, integers, strict=True)):
            raise ValueError(f"a fraction among the elements of an {dtype} tensor")
        return np.array(integers, dtype=layout)
    except OverflowError as error:
        raise ValueError(f"an element outside {dtype}") from error


def raw_bytes(array: npt.NDArray[Any], dtype: str) -> bytes:
    """Return the elements converted to `dtype`, row-major, little-endian.

    Every NaN becomes the positive quiet one (float32 bits 7fc00000): which NaN a library computes means nothing.
    """
    converted = np.ravel(array).astype(_layout(dtype))
    if converted.dtype.kind == "f":
        converted[np.isnan(converted)] = np.nan
    return converted.tobytes()


def digest(array: npt.NDArray[Any], dtype: str) -> str:
    """SHA-256 over `raw_bytes`, in hexadecimal."""
    return hashlib.sha256(raw_bytes(array, dtype)).hexdigest()


def first(array: npt.NDArray[Any], dtype: str) -> list[Number]:
    """Spell the first elements (at most 8), converted to `dtype`."""
    return spell(np.ravel(array)[:FIRST].astype(_layout(dtype)))


def _layout(dtype: str) -> str:
    if dtype not in LITTLE_ENDIAN:
        raise ValueError(f"dtype {dtype!r} is none of {', '.join(LITTLE_ENDIAN)}")
    return LITTLE_ENDIAN[dtype]
