"""Golden documents as text: JSON a person can review, with numbers that come back bit for bit.

A document is a tree of mappings, lists, scalars and numpy arrays. In the file an array is `{"dtype", "values"}` on one
line, `{"dtype", "all", "count"}` where its elements are equal, or, above a size, `{"dtype", "stored", "count", "file"}`
with the SHA-256 of its raw little-endian bytes, which are stored once for all files; whole numbers are stored in the
narrowest dtype that holds them. NaN and infinities are spelled as strings.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from mock_server.record import AnyArray

INLINE = 256
"""Arrays of more elements than this go to files of their own."""

_WIDTH = 118
_SPELLED = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}
_DTYPES = {
    "float16": "<f2",
    "float32": "<f4",
    "float64": "<f8",
    "int32": "<i4",
    "int64": "<i8",
    "int16": "<i2",
    "uint8": "|u1",
    "uint16": "<u2",
    "bool": "|b1",
}
_NESTED = (dict, list)
_WHOLE = ("uint8", "uint16", "int16", "int32")


def render(document: Any, keep: Callable[[bytes], str]) -> str:
    """Return the text of a document. `keep` stores the raw bytes of a large array and returns their SHA-256."""
    return _layout(_plain(document, keep), 0) + "\n"


def parse(text: str, fetch: Callable[[str], bytes]) -> Any:
    """Return the document of a text. `fetch` returns the raw bytes of a large array by their SHA-256.

    Raises ValueError (also KeyError, TypeError) where the text is not a document.
    """
    return _document(json.loads(text), fetch)


def raw(array: AnyArray) -> bytes:
    """Return the little-endian bytes of an array, row-major."""
    return np.ascontiguousarray(array, dtype=_DTYPES[array.dtype.name]).tobytes()


def digest_of(content: bytes) -> str:
    """Return the SHA-256 of bytes, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def _plain(value: Any, keep: Callable[[bytes], str]) -> Any:
    if isinstance(value, np.ndarray):
        return _array(value, keep)
    if isinstance(value, dict):
        return {str(key): _plain(entry, keep) for key, entry in sorted(value.items())}
    if isinstance(value, (list, tuple)):
        return [_plain(entry, keep) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return {"number": _spell(value)}
    return value


def _array(array: AnyArray, keep: Callable[[bytes], str]) -> dict[str, Any]:
    dtype = array.dtype.name
    head: dict[str, Any] = {"dtype": dtype}
    if array.ndim != 1:
        head["shape"] = list(array.shape)
    flat = array.reshape(-1)
    if flat.size > 1 and raw(flat) == raw(np.full_like(flat, flat[0])):
        return {**head, "all": _element(flat[0]), "count": int(flat.size)}
    if flat.size > INLINE:
        narrow = _narrowed(flat)
        return {**head, "stored": narrow.dtype.name, "count": int(flat.size), "file": keep(raw(narrow))}
    return {**head, "values": [_element(entry) for entry in flat]}


def _narrowed(flat: AnyArray) -> AnyArray:
    """Return whole numbers in the narrowest dtype that holds them; other numbers as they are."""
    if flat.dtype.kind != "i":
        return flat
    low, high = int(flat.min()), int(flat.max())
    fitting = (name for name in _WHOLE if np.iinfo(name).min <= low and high <= np.iinfo(name).max)
    return flat.astype(next(fitting, flat.dtype.name))


def _element(entry: Any) -> Any:
    """Return one number as JSON: the shortest decimal that comes back as the same bits."""
    value = entry.item()
    if not isinstance(value, float):
        return int(value)
    if not math.isfinite(value):
        return _spell(value)
    short = float(str(entry))
    return short if type(entry)(short) == entry else value


def _spell(value: float) -> str:
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _document(value: Any, fetch: Callable[[str], bytes]) -> Any:
    kind = type(value)  # of json.loads: no subclasses
    if kind is dict:
        if "dtype" in value and value.keys() & {"values", "all", "file"}:
            return _numbers(value, fetch)
        if value.keys() == {"number"} and value["number"] in _SPELLED:
            return _SPELLED[value["number"]]
        return {key: _document(entry, fetch) if type(entry) in _NESTED else entry for key, entry in value.items()}
    if kind is list:
        return [_document(entry, fetch) if type(entry) in _NESTED else entry for entry in value]
    return value


def _numbers(value: dict[str, Any], fetch: Callable[[str], bytes]) -> AnyArray:
    dtype = np.dtype(_DTYPES[value["dtype"]])
    if "file" in value:
        flat = np.frombuffer(fetch(value["file"]), dtype=_DTYPES[value["stored"]]).astype(dtype)
        if flat.size != value["count"]:
            raise ValueError(f"{value['file']} holds {flat.size} numbers, not {value['count']}")
    elif "all" in value:
        flat = np.full(value["count"], _SPELLED.get(value["all"], value["all"]), dtype=dtype)
    else:
        flat = np.array([_SPELLED.get(entry, entry) for entry in value["values"]], dtype=dtype)
    return flat.reshape(value["shape"]) if "shape" in value else flat


def _layout(value: Any, indent: int) -> str:
    """Write what fits on a line on one line, and lists of scalars always; open everything else."""
    line = json.dumps(value, allow_nan=False, ensure_ascii=False)
    if not isinstance(value, (dict, list)) or not value:
        return line
    if len(line) + indent <= _WIDTH or _flat(value):
        return line
    inner = " " * (indent + 1)
    if isinstance(value, dict):
        parts = [f"{inner}{json.dumps(k, ensure_ascii=False)}: {_layout(v, indent + 1)}" for k, v in value.items()]
        return "{\n" + ",\n".join(parts) + "\n" + " " * indent + "}"
    return "[\n" + ",\n".join(inner + _layout(v, indent + 1) for v in value) + "\n" + " " * indent + "]"


def _flat(value: Any) -> bool:
    """Return whether a value is an array of numbers, or a list without anything nested."""
    if isinstance(value, dict):
        return "values" in value and "dtype" in value
    return not any(isinstance(entry, (dict, list)) for entry in value)
