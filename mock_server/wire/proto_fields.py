"""The fields of protobuf messages, looked at before they become objects: those may take fifty times the bytes."""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError

from mock_server.limits import MAX_BESIDE_BYTES, MAX_DATUMS, MAX_SMALL_BYTES
from mock_server.wire import tinker_wire_pb2 as pb
from mock_server.wire.errors import TooLargeError

_LARGE = 8 * 1024 * 1024
"""Smaller bodies cannot take much, and looking at each field would cost them time."""

_VARINT, _LENGTH_DELIMITED, _FIXED, _GROUP = 0, 2, {1: 8, 5: 4}, {3: 1, 4: -1}
_DATA = pb.ForwardBackwardRequest.DATA_FIELD_NUMBER << 3 | _LENGTH_DELIMITED


def apart(body: bytes) -> tuple[bytes, list[memoryview]]:
    """Split the bytes of a ForwardBackwardRequest into those of its other fields, and those of each datum.

    Raises IndexError or DecodeError where they end too early or are no fields; TooLargeError where there are too many
    datums, or where too much is neither datum nor bulk data.
    """
    view = memoryview(body)
    rest = bytearray()
    data: list[memoryview] = []
    at, end, depth = 0, len(body), 0
    while at < end:
        start = at
        tag, at = _varint(body, at)
        begin, at, level = _value(body, tag & 7, start, at)
        depth += level
        if at > end:
            raise DecodeError("truncated message")
        if tag == _DATA and not depth:
            data.append(view[begin:at])
            if len(data) > MAX_DATUMS:
                raise TooLargeError(f"data has more than {MAX_DATUMS} datums")
        else:
            rest += view[start:at]
            if len(rest) > MAX_SMALL_BYTES:
                raise TooLargeError(f"the body has more than {MAX_SMALL_BYTES} bytes that are no bulk data")
    if end > _LARGE:
        _check_beside(data)
    return bytes(rest), data


def _check_beside(data: list[memoryview]) -> None:
    """Raise TooLargeError where datums have too much that is no bulk data. Broken ones are not looked at further."""
    left = MAX_BESIDE_BYTES
    for datum in data:
        try:
            left -= _beside(pb.Datum.DESCRIPTOR, datum, left)
        except (DecodeError, IndexError):
            return  # what comes first is refused when it is parsed
        if left < 0:
            raise TooLargeError(f"data has more than {MAX_BESIDE_BYTES} bytes that are no bulk data")


def _beside(kind: Any, message: memoryview, most: int) -> int:
    """Return the bytes of a message of a known type that are no `bytes` field; stops counting above `most`."""
    at, end, beside = 0, len(message), 0
    fields = kind.fields_by_number
    while at < end and beside <= most:
        start = at
        tag, at = _varint(message, at)
        begin, at, _ = _value(message, tag & 7, start, at)
        field = fields.get(tag >> 3)
        if field is None or tag & 7 != _LENGTH_DELIMITED:
            beside += at - start
            continue
        beside += begin - start
        if field.message_type is not None:
            beside += _beside(field.message_type, message[begin:at], most - beside)
        elif field.type != FieldDescriptor.TYPE_BYTES:
            beside += at - begin
    return beside


def _value(body: bytes | memoryview, kind: int, start: int, at: int) -> tuple[int, int, int]:
    """Return where the value of a field begins and ends, and what it does to the depth of groups."""
    if kind == _LENGTH_DELIMITED:
        length, begin = _varint(body, at)
        return begin, begin + length, 0
    if kind == _VARINT:
        return at, _varint(body, at)[1], 0
    if kind in _FIXED:
        return at, at + _FIXED[kind], 0
    if kind in _GROUP:  # no field of ours: what is inside belongs to it
        return at, at, _GROUP[kind]
    raise DecodeError(f"wire type {kind} at byte {start}")


def _varint(body: bytes | memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = body[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise DecodeError(f"a number of more than ten bytes before byte {at}")
