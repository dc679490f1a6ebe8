"""A request body as its route takes it: decompressed, decoded, and compared with another one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import zstandard
from msgspec import Struct

from mock_server.limits import MAX_SMALL_BYTES, kept_of_batch, kept_of_text
from mock_server.record import AnyArray, Batch, Datum, Encoding, Tensor
from mock_server.wire import json_codec, proto_codec
from mock_server.wire.errors import TooLargeError, WireError
from mock_server.wire.requests import convert, unknown_keys

MAX_BODY_BYTES = 64 * 1024 * 1024
"""Bound on a body, before and after decompression. The contracts' own limit for a chunk is 5 MB, estimated; of the
suite's chunks the largest has 5 MB on the wire."""

_LARGE = 8 * 1024 * 1024
_MAX_VALUES = 4 * 1024 * 1024
"""JSON of more than `_LARGE` bytes has at most so many values: of one byte each they would fill the memory. The largest
chunk of any contract has 1.25 million."""


class Decoded(Struct, frozen=True, eq=False):
    """One decoded body.

    `message` is the typed struct (None for a protobuf body), `fields` the JSON-like values without bulk data,
    `problem` says why a body that could be read cannot be computed. `kept` is the memory it takes, estimated, in bytes.
    """

    encoding: Encoding
    compressed: bool
    size: int
    fields: Mapping[str, Any]
    message: Struct | None = None
    batch: Batch | None = None
    unknown_fields: tuple[str, ...] = ()
    problem: str | None = None
    kept: int = 0


def decode(raw: bytes, headers: Mapping[str, str], kind: type[Struct], data_under: str | None) -> Decoded:
    """Decode a body for a route whose JSON is `kind`, with bulk data under `data_under` when it has any.

    Protobuf is taken where there is bulk data and the content type says so. Raises WireError, TooLargeError.
    """
    try:
        return _decode(raw, headers, kind, data_under)
    except RecursionError as error:
        raise WireError("the body nests too deeply") from error


def _decode(raw: bytes, headers: Mapping[str, str], kind: type[Struct], data_under: str | None) -> Decoded:
    size = len(raw)
    raw, compressed = _decompress(raw, headers.get("content-encoding", ""))
    if "application/x-protobuf" in headers.get("content-type", ""):
        if data_under is None:
            raise WireError("the body is protobuf, this route takes JSON")
        fields, batch, unknown, problem, rest = proto_codec.decode_request(raw)
        kept = kept_of_text(rest) + kept_of_batch(batch) + sum(map(len, unknown))
        return Decoded("protobuf", compressed, size, fields, None, batch, unknown, problem, kept)
    if not raw:
        return Decoded("none", compressed, size, {}, convert({}, kind))
    if data_under is None:
        _check_small(len(raw))
        body = json_codec.decode(raw)
        unknown = tuple(unknown_keys(body, kind))
        return Decoded("json", compressed, size, body, convert(body, kind), None, unknown, kept=kept_of_text(len(raw)))
    if len(raw) > _LARGE and sum(map(raw.count, (b",", b"[", b"{"))) > _MAX_VALUES:
        raise TooLargeError(f"the body has more than {_MAX_VALUES} values")
    body, batch, unknown, problem, rest = json_codec.decode_pass(raw, data_under)
    _check_small(rest)
    unknown = (*unknown_keys(body, kind), *unknown)
    kept = kept_of_text(rest) + kept_of_batch(batch) + sum(map(len, unknown))
    return Decoded("json", compressed, size, body, convert(body, kind), batch, unknown, problem, kept)


def _check_small(size: int) -> None:
    if size > MAX_SMALL_BYTES:
        raise TooLargeError(f"the body has {size} bytes that are no bulk data, more than {MAX_SMALL_BYTES}")


def same_content(one: Decoded, other: Decoded) -> bool:
    """Tell whether two bodies say the same, byte layout and key order aside."""
    return says(one, other.encoding, other.fields, other.batch)


def says(decoded: Decoded, encoding: Encoding, fields: Any, batch: Batch | None) -> bool:
    """Tell whether a body says what these parts of a recorded one said, byte layout and key order aside."""
    return decoded.encoding == encoding and _same(decoded.fields, fields) and _same_batch(decoded.batch, batch)


def _decompress(raw: bytes, encoding: str) -> tuple[bytes, bool]:
    encoding = encoding and encoding.strip().lower()
    if encoding in ("", "identity"):
        return raw, False
    if encoding != "zstd":
        raise WireError(f"content-encoding {encoding!r} is not understood, only zstd is")
    try:
        declared = zstandard.get_frame_parameters(raw).content_size
        if declared != zstandard.CONTENTSIZE_UNKNOWN and declared > MAX_BODY_BYTES:
            raise TooLargeError(f"the body decompresses to {declared} bytes, more than {MAX_BODY_BYTES}")
        # one call, not a stream: a truncated frame is an error here
        body = zstandard.ZstdDecompressor().decompress(raw, max_output_size=MAX_BODY_BYTES)
    except zstandard.ZstdError as error:
        if _bursts(raw):
            raise TooLargeError(f"the body decompresses to more than {MAX_BODY_BYTES} bytes") from error
        raise WireError(f"the body is not zstd: {error}") from error
    return body, True


def _bursts(raw: bytes) -> bool:
    """Tell whether what could not be decompressed has more than the bound in it: the error does not say."""
    try:
        with zstandard.ZstdDecompressor().stream_reader(raw) as stream:
            return len(stream.read(MAX_BODY_BYTES + 1)) > MAX_BODY_BYTES
    except zstandard.ZstdError:
        return False


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_same(value, other[key]) for key, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, float) and isinstance(other, float) and math.isnan(one):
        return math.isnan(other)
    return type(one) is type(other) and bool(one == other)


def _same_batch(one: Batch | None, other: Batch | None) -> bool:
    if one is None or other is None:
        return one is other
    return len(one.datums) == len(other.datums) and all(map(_same_datum, one.datums, other.datums))


def _same_datum(one: Datum, other: Datum) -> bool:
    return (
        _same_array(one.tokens, other.tokens)
        and one.inputs.keys() == other.inputs.keys()
        and all(_same_tensor(tensor, other.inputs[key]) for key, tensor in one.inputs.items())
    )


def _same_tensor(one: Tensor, other: Tensor) -> bool:
    return (
        (one.dtype, one.shape, one.layout) == (other.dtype, other.shape, other.layout)
        and _same_array(one.values, other.values)
        and _same_array(one.crow, other.crow)
        and _same_array(one.col, other.col)
    )


def _same_array(one: AnyArray | None, other: AnyArray | None) -> bool:
    if one is None or other is None:
        return one is other
    # bytes, not numbers: a NaN equals itself here, and -0.0 differs from 0.0
    return (
        one.dtype == other.dtype and one.size == other.size and bool(np.array_equal(one.view("u1"), other.view("u1")))
    )
