"""Protobuf: ForwardBackwardRequest to arrays, ForwardBackwardOutput to bytes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError, Message
from google.protobuf.unknown_fields import UnknownFieldSet

from mock_server.record import AnyArray, Batch, Datum, Tensor
from mock_server.wire import tinker_wire_pb2 as pb
from mock_server.wire.errors import WireError
from mock_server.wire.forms import FormSet

_DTYPES: Mapping[int, tuple[str, Any]] = {
    pb.DTYPE_FLOAT32: ("float32", np.dtype("<f4")),
    pb.DTYPE_INT64: ("int64", np.dtype("<i8")),
    pb.DTYPE_INT32: ("int32", np.dtype("<i4")),
    pb.DTYPE_BFLOAT16: ("bfloat16", np.dtype("<u2")),
}
_NUMBERS = {name: number for number, (name, _) in _DTYPES.items()}
_NO_TOKENS = np.zeros(0, dtype=np.int64)


def decode_request(body: bytes) -> tuple[dict[str, Any], Batch, tuple[str, ...], str | None]:
    """Read a ForwardBackwardRequest.

    Returns the scalar fields that are on the wire (flat, under their field names), the batch, the paths of unknown
    fields (`data.#9`: field 9 of a datum), and what cannot be computed, if anything. Raises WireError when the bytes
    are not such a message or an array's bytes do not divide into its elements.
    """
    message = pb.ForwardBackwardRequest()
    try:
        message.ParseFromString(body)
    except DecodeError as error:
        raise WireError(f"the body is not a ForwardBackwardRequest: {error}") from error
    unknown = _unknown_fields(message, body)
    forms = FormSet()
    problem: str | None = None
    datums: list[Datum] = []
    for index, datum in enumerate(message.data):
        tokens, other = _tokens(datum, f"data[{index}].model_input", forms)
        if other is not None and problem is None:
            problem = f"datum {index} has a chunk of type {other}; this model reads encoded_text only"
        names = ("model_input", "loss_fn_inputs", "model_input_spans", "loss_fn_input_spans")
        forms.see("datum", (name for name in names if getattr(datum, name)))
        inputs = datum.loss_fn_inputs
        datums.append(
            Datum(
                tokens,
                {
                    key: decode_tensor(inputs[key], f"data[{index}].loss_fn_inputs.{key}", forms)
                    for key in sorted(inputs)
                },
            )
        )
    return _scalars(message), Batch(tuple(datums), forms.finish()), unknown, problem


def decode_tensor(message: pb.Tensor, where: str, forms: FormSet) -> Tensor:
    """Read a Tensor. Raises WireError for an unknown dtype and for bytes that do not divide into elements."""
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
        return Tensor(
            name,
            shape,
            _values(csr.values, dtype, name, f"{where}.sparse_csr.values"),
            "csr",
            _array(csr.crow_indices, np.dtype("<i8"), f"{where}.sparse_csr.crow_indices"),
            _array(csr.col_indices, np.dtype("<i8"), f"{where}.sparse_csr.col_indices"),
        )
    # proto3 has no difference between a scalar's empty shape and none; the SDKs leave it out for none.
    return Tensor(name, shape or None, _values(message.dense, dtype, name, f"{where}.dense"))


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


def _tokens(datum: pb.Datum, where: str, forms: FormSet) -> tuple[AnyArray, str | None]:
    parts: list[AnyArray] = []
    other: str | None = None
    for chunk in datum.model_input:
        kind = chunk.WhichOneof("chunk")
        forms.see("chunk", (kind,) if kind else ())
        if kind == "encoded_text":
            parts.append(_array(chunk.encoded_text.tokens, np.dtype("<i4"), f"{where}.tokens").astype(np.int64))
        elif other is None:
            other = kind or "(none)"
    if len(parts) == 1:
        return parts[0], other
    return (np.concatenate(parts) if parts else _NO_TOKENS), other


def _values(raw: bytes, dtype: Any, name: str, where: str) -> AnyArray:
    values = _array(raw, dtype, where)
    if name == "bfloat16":
        return (values.astype(np.uint32) << 16).view(np.float32)
    return values


def _array(raw: bytes, dtype: Any, where: str) -> AnyArray:
    if len(raw) % dtype.itemsize:
        raise WireError(f"{where} has {len(raw)} bytes, not a multiple of {dtype.itemsize}")
    return np.frombuffer(raw, dtype=dtype)


def _unknown_fields(message: pb.ForwardBackwardRequest, body: bytes) -> tuple[str, ...]:
    """Return the paths of fields that our .proto does not have, and drop them from `message`, parsed from `body`.

    Two size computations when there are none.
    """
    size = message.ByteSize()
    message.DiscardUnknownFields()
    if message.ByteSize() == size:
        return ()
    whole = pb.ForwardBackwardRequest()
    whole.ParseFromString(body)
    return tuple(sorted(set(_walk(whole, ""))))


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
