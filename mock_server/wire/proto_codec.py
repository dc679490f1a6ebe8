"""Protobuf: ForwardBackwardRequest to arrays, ForwardBackwardOutput to bytes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError, Message
from google.protobuf.unknown_fields import UnknownFieldSet

from mock_server.limits import MAX_NAMES
from mock_server.ragged import Datums, FlatBuilder, RowsBuilder
from mock_server.record import Batch, Tensor
from mock_server.wire import tinker_wire_pb2 as pb
from mock_server.wire.errors import WireError
from mock_server.wire.forms import FormSet, Parts
from mock_server.wire.proto_fields import apart

_DTYPES: Mapping[int, tuple[str, Any]] = {
    pb.DTYPE_FLOAT32: ("float32", np.dtype("<f4")),
    pb.DTYPE_INT64: ("int64", np.dtype("<i8")),
    pb.DTYPE_INT32: ("int32", np.dtype("<i4")),
    pb.DTYPE_BFLOAT16: ("bfloat16", np.dtype("<u2")),
}
_INT64, _BFLOAT16 = _DTYPES[pb.DTYPE_INT64][1], _DTYPES[pb.DTYPE_BFLOAT16][1]
_NUMBERS = {name: number for number, (name, _) in _DTYPES.items()}


def decode_request(body: bytes) -> tuple[dict[str, Any], Batch, tuple[str, ...], str | None, int]:
    """Read a ForwardBackwardRequest.

    Returns the scalar fields that are on the wire (flat, under their field names), the batch, the paths of unknown
    fields (`data.#9`: field 9 of a datum), what cannot be computed, if anything, and the number of bytes beside the
    datums. Datums are parsed one after the other: a message of them all is another copy of the body. Raises WireError
    when the bytes are not such a message or an array's bytes do not divide into its elements.
    """
    try:
        rest, data = apart(body)
        message = pb.ForwardBackwardRequest.FromString(rest)
    except (DecodeError, IndexError) as error:
        raise WireError(f"the body is not a ForwardBackwardRequest: {error}") from error
    unknown = _unknown_fields(message, rest, "")
    forms, parts = FormSet(), Parts("")
    problem: str | None = None
    tokens, rows = FlatBuilder("q"), RowsBuilder()
    for index, raw in enumerate(data):
        content = bytes(raw)
        try:
            datum = pb.Datum.FromString(content)
        except DecodeError as error:
            raise WireError(f"the body is not a ForwardBackwardRequest: data[{index}]: {error}") from error
        found = _unknown_fields(datum, content, "data.")
        if len(unknown) < MAX_NAMES:
            unknown |= found
        parts.count(len(datum.model_input), len(datum.loss_fn_inputs), rows.width)
        other = _tokens(datum, f"data[{index}].model_input", forms, tokens)
        if other is not None and problem is None:
            problem = f"datum {index} has a chunk of type {other}; this model reads encoded_text only"
        names = ("model_input", "loss_fn_inputs", "model_input_spans", "loss_fn_input_spans")
        forms.see("datum", (name for name in names if getattr(datum, name)))
        inputs = datum.loss_fn_inputs
        for key in sorted(inputs):
            _tensor(key, inputs[key], f"data[{index}].loss_fn_inputs.{key}", forms, rows)
        rows.end()
    return (
        _scalars(message),
        Batch(Datums(tokens.finish(), rows.finish()), forms.finish()),
        tuple(sorted(unknown))[:MAX_NAMES],
        problem,
        len(rest),
    )


def _tensor(key: str, message: pb.Tensor, where: str, forms: FormSet, rows: RowsBuilder) -> None:
    """Take a Tensor. Raises WireError for an unknown dtype and for bytes that do not divide into elements."""
    encoding = message.WhichOneof("encoding")
    shape = tuple(message.shape)
    forms.see(
        "tensor", (name for name in (encoding, "dtype" if message.dtype else "", "shape" if shape else "") if name)
    )
    if message.dtype not in _DTYPES:
        raise WireError(f"{where}.dtype is {message.dtype}, expected one of {sorted(_DTYPES)}")
    if any(n < 0 for n in shape):
        raise WireError(f"{where}.shape is {list(shape)}, expected non-negative integers")
    name, dtype = _DTYPES[message.dtype]
    if encoding == "sparse_csr":
        csr = message.sparse_csr
        column = rows.column(key, name, "csr", shape)
        assert column.crow is not None
        assert column.col is not None
        _take(csr.values, dtype, f"{where}.sparse_csr.values", column.values)
        _take(csr.crow_indices, _INT64, f"{where}.sparse_csr.crow_indices", column.crow)
        _take(csr.col_indices, _INT64, f"{where}.sparse_csr.col_indices", column.col)
        column.end(rows.count, shape)
        return
    # proto3 has no difference between a scalar's empty shape and none; the SDKs leave it out for none.
    column = rows.column(key, name, "dense", shape or None)
    _take(message.dense, dtype, f"{where}.dense", column.values)
    column.end(rows.count, shape or None)


def encode_output(outputs: Sequence[Mapping[str, Tensor]], metrics: Mapping[str, float], *, output_type: str) -> bytes:
    """Encode a ForwardBackwardOutput: a record per run of neighbours of the same keys, dtypes and trailing shape."""
    message = pb.ForwardBackwardOutput(loss_fn_output_type=output_type)
    for name, value in metrics.items():
        message.metrics[name] = value
    for _, run in groupby(outputs, key=_record_form):
        batch = list(run)
        record = message.loss_fn_outputs.add(type_tag=output_type, num_datums=len(batch))
        for key in batch[0]:
            tensors = [output[key] for output in batch]
            _, dtype = _DTYPES[_NUMBERS[tensors[0].dtype]]
            arrays = [np.ascontiguousarray(t.values, dtype=dtype) for t in tensors]
            offsets = np.zeros(len(arrays) + 1, dtype="<i8")
            np.cumsum([a.nbytes for a in arrays], out=offsets[1:])
            field = record.fields[key]
            field.data = b"".join(a.tobytes() for a in arrays)
            field.offsets = offsets.tobytes()
            field.dtype = _NUMBERS[tensors[0].dtype]  # type: ignore[assignment]  # enums are ints here
            field.trailing_shape.extend((tensors[0].shape or (-1,))[1:])
    return message.SerializeToString()


def _record_form(output: Mapping[str, Tensor]) -> tuple[tuple[str, str, tuple[int, ...]], ...]:
    return tuple((key, tensor.dtype, (tensor.shape or (-1,))[1:]) for key, tensor in output.items())


def _scalars(message: pb.ForwardBackwardRequest) -> dict[str, Any]:
    body: dict[str, Any] = {}
    for field, value in message.ListFields():
        if field.name == "data":
            continue
        if field.name == "loss_fn_config":
            body[field.name] = {key: value[key] for key in sorted(value)}
        elif field.name == "loss_fn_config_v2":
            body[field.name] = {key: _config_value(value[key]) for key in sorted(value)}
        else:
            body[field.name] = value
    return body


def _config_value(value: pb.LossConfigValue) -> float | str | None:
    kind = value.WhichOneof("value")
    return None if kind is None else getattr(value, kind)


def _tokens(datum: pb.Datum, where: str, forms: FormSet, tokens: FlatBuilder) -> str | None:
    other: str | None = None
    for chunk in datum.model_input:
        kind = chunk.WhichOneof("chunk")
        forms.see("chunk", (kind,) if kind else ())
        if kind == "encoded_text":
            _take(chunk.encoded_text.tokens, np.dtype("<i4"), f"{where}.tokens", tokens)
        elif other is None:
            other = kind or "(none)"
    tokens.end()
    return other


def _take(raw: bytes, dtype: Any, where: str, flat: FlatBuilder) -> None:
    """Take the numbers of raw bytes, widened to what `flat` keeps."""
    if len(raw) % dtype.itemsize:
        raise WireError(f"{where} has {len(raw)} bytes, not a multiple of {dtype.itemsize}")
    values = np.frombuffer(raw, dtype=dtype)
    if dtype == _BFLOAT16:
        values = (values.astype(np.uint32) << 16).view(np.float32)
    flat.add(values)


def _unknown_fields(message: Message, content: bytes, prefix: str) -> set[str]:
    """Return the paths of fields that our .proto does not have, and drop them from `message`, parsed from `content`.

    Two size computations when there are none.
    """
    size = message.ByteSize()
    message.DiscardUnknownFields()
    if message.ByteSize() == size:
        return set()
    found: set[str] = set()
    for path in _walk(type(message).FromString(content), prefix):
        found.add(path)
        if len(found) == MAX_NAMES:
            break
    return found


def _walk(message: Message, prefix: str) -> Iterator[str]:
    for unknown in UnknownFieldSet(message):  # type: ignore[attr-defined]  # a sequence; the stubs do not say so
        yield f"{prefix}#{unknown.field_number}"
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        inner = f"{prefix}{field.name}."
        entry = field.message_type
        if entry.GetOptions().map_entry:
            if entry.fields_by_name["value"].message_type is not None:
                for item in value.values():
                    yield from _walk(item, inner)
        elif isinstance(value, Message):
            yield from _walk(value, inner)
        else:
            for item in value:
                yield from _walk(item, inner)
