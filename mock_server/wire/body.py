"""A request body as its route takes it: decompressed, decoded, and compared with another one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import zstandard
from msgspec import Struct

from mock_server.record import AnyArray, Batch, Datum, Encoding, Tensor
from mock_server.wire import json_codec, proto_codec
from mock_server.wire.errors import WireError
from mock_server.wire.requests import convert, unknown_keys

MAX_BODY_BYTES = 256 * 1024 * 1024
"""Bound on a body, before and after decompression. The largest chunk any release sends is about 60 MB of JSON."""


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """One decoded body.

    `message` is the typed struct (None for a protobuf body), `fields` the JSON-like values without bulk data,
    `problem` says why a body that could be read cannot be computed.
    """

    encoding: Encoding
    compressed: bool
    size: int
    fields: Mapping[str, Any]
    message: Struct | None = None
    batch: Batch | None = None
    unknown_fields: tuple[str, ...] = ()
    problem: str | None = None


def decode(raw: bytes, headers: Mapping[str, str], kind: type[Struct], data_under: str | None) -> Decoded:
    """Decode a body for a route whose JSON is `kind`, with bulk data under `data_under` when it has any.

    Protobuf is taken where there is bulk data and the content type says so. Raises WireError.
    """
    size = len(raw)
    raw, compressed = _decompress(raw, headers.get("content-encoding", ""))
    if "application/x-protobuf" in headers.get("content-type", ""):
        if data_under is None:
            raise WireError("the body is protobuf, this route takes JSON")
        fields, batch, unknown, problem = proto_codec.decode_request(raw)
        return Decoded("protobuf", compressed, size, fields, None, batch, unknown, problem)
    if not raw:
        return Decoded("none", compressed, size, {}, convert({}, kind))
    if data_under is None:
        body = json_codec.decode(raw)
        return Decoded("json", compressed, size, body, convert(body, kind), None, tuple(unknown_keys(body, kind)))
    body, batch, unknown, problem = json_codec.decode_pass(raw, data_under)
    return Decoded(
        "json", compressed, size, body, convert(body, kind), batch, (*unknown_keys(body, kind), *unknown), problem
    )


def same_content(one: Decoded, other: Decoded) -> bool:
    """Tell whether two bodies say the same, byte layout and key order aside."""
    return one.encoding == other.encoding and _same(one.fields, other.fields) and _same_batch(one.batch, other.batch)


def _decompress(raw: bytes, encoding: str) -> tuple[bytes, bool]:
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return raw, False
    if encoding != "zstd":
        raise WireError(f"content-encoding {encoding!r} is not understood, only zstd is")
    try:
        declared = zstandard.get_frame_parameters(raw).content_size
        if declared != zstandard.CONTENTSIZE_UNKNOWN and declared > MAX_BODY_BYTES:
            raise WireError(f"the body decompresses to {declared} bytes, more than {MAX_BODY_BYTES}")
        # one call, not a stream: a truncated frame is an error here
        body = zstandard.ZstdDecompressor().decompress(raw, max_output_size=MAX_BODY_BYTES)
    except zstandard.ZstdError as error:
        raise WireError(
            f"the body is not zstd, or decompresses to more than {MAX_BODY_BYTES} bytes: {error}"
        ) from error
    return body, True


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
