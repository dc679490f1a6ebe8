"""JSON: the data of a forward pass to arrays, results to bytes."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from mock_server.limits import MAX_DATUMS, MAX_NAMES
from mock_server.ragged import Datums, FlatBuilder, RowsBuilder
from mock_server.record import Batch, Tensor
from mock_server.wire.errors import TooLargeError, WireError
from mock_server.wire.forms import FormSet, Parts
from mock_server.wire.nesting import MAX_DEPTH, too_deep

_DTYPES = ("float32", "int64")
_KINDS = {type(None): "null", bool: "boolean", int: "number", float: "number", str: "string", list: "array"}
_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_DATUMS = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])
_NESTS = f"the body nests more than {MAX_DEPTH} deep"


def decode(body: bytes) -> dict[str, Any]:
    """Parse a JSON object. Raises WireError for anything else."""
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise WireError(f"the body is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise WireError(f"the body is a JSON {_kind(value)}, expected an object")
    # Looking at every value takes longer than parsing them: most bodies have too few brackets to nest too deep.
    if body.count(b"{") + body.count(b"[") > MAX_DEPTH and too_deep(value):
        raise WireError(_NESTS)
    return value


def decode_pass(body: bytes, under: str) -> tuple[dict[str, Any], Batch, tuple[str, ...], str | None, int]:
    """Parse the body of a forward pass whose data is the list `data` of the object `under`.

    Returns the body without its data, what `decode_batch` returns, and how many bytes are no data. Datums are parsed
    one after the other: numbers as Python objects take several times the space of their text. Raises WireError.
    """
    try:
        parts = _OBJECT.decode(body)
        inner = _OBJECT.decode(parts[under])
        bulk = inner.pop("data")
        data = _DATUMS.decode(bulk)
    except (msgspec.DecodeError, KeyError, RecursionError):
        # Some part is missing or of another type: the whole is parsed at once to say which.
        whole = decode(body)
        held = whole.get(under)
        if not isinstance(held, dict):
            raise WireError(f"{under} is missing or not an object") from None
        return whole, *decode_batch(held.pop("data", None), f"{under}."), len(body)
    rest = len(body) - memoryview(bulk).nbytes
    fields = {key: _value(raw) for key, raw in parts.items() if key != under}
    fields[under] = {key: _value(raw) for key, raw in inner.items()}
    order = {key: fields[key] for key in parts}
    if rest > MAX_DEPTH and too_deep(fields):
        raise WireError(_NESTS)
    return order, *decode_batch(data, f"{under}."), rest


def decode_batch(data: Any, prefix: str) -> tuple[Batch, tuple[str, ...], str | None]:
    """Read the `data` list of a forward pass.

    Returns the batch, the paths of unknown keys, and what cannot be computed about it (an image chunk), if anything.
    Raises WireError when a part is missing or of the wrong type.
    """
    if not isinstance(data, list):
        raise WireError(f"{prefix}data is a JSON {_kind(data)}, expected an array")
    if len(data) > MAX_DATUMS:
        raise TooLargeError(f"{prefix}data has {len(data)} datums, more than {MAX_DATUMS}")
    forms, parts = FormSet(), Parts(prefix)
    problem: str | None = None
    tokens, rows = FlatBuilder("q"), RowsBuilder()
    for index, raw in enumerate(data):
        where = f"{prefix}data[{index}]"
        fields = {key: _value(part) for key, part in _object(raw, where).items()}
        forms.see("datum", fields)
        given, chunks = _chunks(fields.get("model_input"), f"{where}.model_input")
        inputs = _object(fields.get("loss_fn_inputs"), f"{where}.loss_fn_inputs")
        parts.count(len(chunks), len(inputs), rows.width)
        forms.see("model_input", given)
        other = _tokens(chunks, f"{where}.model_input", forms, tokens)
        if other is not None and problem is None:
            problem = f"datum {index} has a chunk of type {other}; this model reads encoded_text only"
        for key, value in inputs.items():
            _tensor(key, value, f"{where}.loss_fn_inputs.{key}", forms, rows)
        rows.end()
    batch = Batch(Datums(tokens.finish(), rows.finish()), forms.finish())
    return batch, tuple(forms.unknown(prefix))[:MAX_NAMES], problem


def encode(value: Any) -> bytes:
    """Encode a small answer. Python's spelling where a number is not finite, as the official client reads it."""
    if _finite(value):
        return msgspec.json.encode(value)
    return json.dumps(value, separators=(",", ":")).encode()


def encode_output(
    outputs: Sequence[Mapping[str, Tensor]],
    metrics: Mapping[str, float],
    *,
    output_type: str,
    integers: bool,
) -> bytes:
    """Encode a forward_backward result.

    Float32 values are written as the shortest decimal of the same float64, so that they read back exactly, and with
    a decimal point or exponent unless `integers` asks for `-1` instead of `-1.0`.
    """
    finite = all(bool(np.isfinite(t.values).all()) for o in outputs for t in o.values())
    body = {
        "loss_fn_output_type": output_type,
        "loss_fn_outputs": [{key: _tensor_json(t, integers) for key, t in output.items()} for output in outputs],
        "metrics": dict(metrics),
        "type": "forward_backward",
    }
    if finite and _finite(body["metrics"]):
        return msgspec.json.encode(body)
    return json.dumps(body, separators=(",", ":")).encode()


def _tensor_json(tensor: Tensor, integers: bool) -> dict[str, Any]:
    data = tensor.values.tolist()
    if integers:
        data = [int(x) if isinstance(x, float) and x.is_integer() else x for x in data]
    body: dict[str, Any] = {"data": data, "dtype": tensor.dtype}
    if tensor.shape is not None:
        body["shape"] = list(tensor.shape)
    return body


def _finite(value: Any) -> bool:
    kind = type(value)
    if kind is str:  # nearly always
        return True
    if kind is dict:
        return all(type(entry) is str or _finite(entry) for entry in value.values())
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, Mapping):
        return all(map(_finite, value.values()))
    if isinstance(value, (list, tuple)):
        return all(map(_finite, value))
    return True


def _chunks(raw: Any, where: str) -> tuple[dict[str, Any], list[Any]]:
    """Return a model input's fields and its chunks."""
    fields = _object(raw, where)
    chunks = fields.get("chunks")
    if not isinstance(chunks, list):
        raise WireError(f"{where}.chunks is a JSON {_kind(chunks)}, expected an array")
    return fields, chunks


def _tokens(chunks: Sequence[Any], where: str, forms: FormSet, tokens: FlatBuilder) -> str | None:
    """Take the input tokens of all text chunks; return the type of the first chunk that is not text."""
    other: str | None = None
    for index, chunk in enumerate(chunks):
        keys = _object(chunk, f"{where}.chunks[{index}]")
        forms.see("chunk", keys)
        kind = keys.get("type", "encoded_text")
        if kind == "encoded_text":
            _numbers(keys.get("tokens"), "int64", f"{where}.chunks[{index}].tokens", tokens)
        elif other is None:
            other = str(kind)
    tokens.end()
    return other


def _tensor(key: str, raw: Any, where: str, forms: FormSet, rows: RowsBuilder) -> None:
    fields = _object(raw, where)
    forms.see("tensor", fields)
    dtype = fields.get("dtype")
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        raise WireError(f"{where}.dtype is {dtype!r}, expected one of {sorted(_DTYPES)}")
    shape = _shape(fields.get("shape"), where)
    crow, col = fields.get("sparse_crow_indices"), fields.get("sparse_col_indices")
    column = rows.column(key, dtype, "dense" if crow is None and col is None else "csr", shape)
    _numbers(fields.get("data"), dtype, f"{where}.data", column.values)
    if column.crow is not None and column.col is not None:
        _numbers(crow, "int64", f"{where}.sparse_crow_indices", column.crow)
        _numbers(col, "int64", f"{where}.sparse_col_indices", column.col)
    try:
        column.end(rows.count, shape)
    except OverflowError as error:
        raise WireError(f"{where}.shape is {shape!r}: {error}") from error


def _shape(raw: Any, where: str) -> tuple[int, ...] | None:
    if raw is None:
        return None
    if not isinstance(raw, list) or not all(type(n) is int and n >= 0 for n in raw):
        raise WireError(f"{where}.shape is {raw!r}, expected an array of non-negative integers")
    return tuple(raw)


def _numbers(raw: Any, dtype: str, where: str, flat: FlatBuilder) -> None:
    """Take the numbers of a JSON array as `dtype`, `float32` or `int64`.

    Raises WireError for anything that is not a number, and for an int64 that is not integral or does not fit.
    """
    if not isinstance(raw, list):
        raise WireError(f"{where} is a JSON {_kind(raw)}, expected an array of numbers")
    try:
        flat.buffer.fromlist(raw)
    except (TypeError, OverflowError) as error:
        if dtype == "int64" and all(isinstance(x, float) and x.is_integer() and abs(x) < 2**53 for x in raw):
            flat.buffer.fromlist([int(x) for x in raw])
            return
        raise WireError(f"{where} does not hold {dtype} numbers: {error}") from error


def _value(raw: Any) -> Any:
    """Parse a part that was left as it is; anything else was parsed before."""
    if not isinstance(raw, msgspec.Raw):
        return raw
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError) as error:
        raise WireError(f"the body is not JSON: {error}") from error


def _object(raw: Any, where: str) -> dict[str, Any]:
    if not isinstance(raw, dict):
        raise WireError(f"{where} is a JSON {_kind(raw)}, expected an object")
    return raw


def _kind(value: Any) -> str:
    return _KINDS.get(type(value), "object")
