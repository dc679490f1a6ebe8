"""How a pass is written, in JSON or protobuf, and how its result is read.

Protobuf arrays are little-endian: tokens int32, tensors in their dtype, CSR indices int64.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from harness.contracts.model import Wire
from harness.reference.errors import BadOutputError, InvalidInputError
from harness.reference.reduction import Metrics
from harness.reference.regularizers.telemetry import LossReport
from harness.reference.templates import fill
from harness.reference.values import DTYPES, Array, Datum, TensorValue

JSON = "application/json"
PROTOBUF = "application/x-protobuf"


@dataclass(frozen=True, slots=True)
class PassRequest:
    """One request of a pass, before it is written."""

    model_id: str
    seq_id: int
    data: Sequence[Datum]
    loss_fn: str
    forward_only: bool


@dataclass(frozen=True, slots=True)
class PassOutput:
    """The result of one pass request, or of a call. `report` is there after a structured custom loss."""

    output_type: str
    outputs: list[dict[str, TensorValue]]
    metrics: Metrics
    report: LossReport | None = None


@dataclass(frozen=True, slots=True)
class Encoded:
    """A request's bytes and their content type."""

    content: bytes
    content_type: str


def route_of(wire: Wire, *, forward_only: bool) -> str:
    """Return the route of a pass."""
    return wire.forward_route if forward_only else "forward_backward"


# --- JSON -------------------------------------------------------------------------------------------------------------


def json_bytes(body: Any) -> bytes:
    """Write a JSON body. Raises InvalidInputError for NaN and infinities: JSON has none, so nothing is sent."""
    try:
        return json.dumps(body, allow_nan=False, separators=(",", ":")).encode()
    except ValueError as error:
        raise InvalidInputError(f"the numbers cannot be sent: {error}") from error


def json_object(content: bytes) -> dict[str, Any]:
    """Read a JSON result. Raises BadOutputError when it is no object."""
    try:
        value = json.loads(content)
    except ValueError as error:
        raise BadOutputError(f"the result is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise BadOutputError("the result is no JSON object")
    return value


def encode_json(request: PassRequest, wire: Wire) -> Encoded:
    """Write a pass in JSON, by the contract's templates. Observed in 0.7.0 to 0.24.1.

    Raises InvalidInputError for numbers that are not finite.
    """
    elements = wire.elements
    data = [
        fill(
            elements["datum"],
            {
                "loss_fn_inputs": {key: _json_tensor(tensor, elements) for key, tensor in datum.inputs.items()},
                "chunks": [fill(elements["chunk"], {"tokens": datum.tokens.tolist()})],
            },
        )
        for datum in request.data
    ]
    template = wire.templates[route_of(wire, forward_only=request.forward_only)]
    values = {"data": data, "loss_fn": request.loss_fn, "model_id": request.model_id, "seq_id": request.seq_id}
    return Encoded(content=json_bytes(fill(template, values)), content_type=JSON)


def _json_tensor(tensor: TensorValue, elements: Mapping[str, Any]) -> Any:
    shape = None if tensor.shape is None else list(tensor.shape)
    return fill(elements["tensor"], {"data": tensor.values.tolist(), "dtype": tensor.dtype, "shape": shape})


def decode_json(content: bytes) -> PassOutput:
    """Read the JSON result of a pass. Raises BadOutputError when it is not one."""
    try:
        body = json.loads(content)
        return PassOutput(
            output_type=body["loss_fn_output_type"],
            outputs=[
                {key: _read_json_tensor(tensor) for key, tensor in output.items()} for output in body["loss_fn_outputs"]
            ],
            metrics={key: float(value) for key, value in body["metrics"].items()},
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadOutputError(f"the result cannot be read: {type(error).__name__}: {error}") from error


def _read_json_tensor(tensor: Mapping[str, Any]) -> TensorValue:
    numbers = tensor["data"]
    whole = bool(numbers) and all(isinstance(number, int) for number in numbers)
    if tensor["dtype"] not in DTYPES:
        raise BadOutputError(f"unknown dtype {tensor['dtype']!r}")
    shape = tensor.get("shape")
    return TensorValue(
        dtype=tensor["dtype"],
        shape=None if shape is None else tuple(shape),
        values=np.array(numbers, dtype=np.int64 if whole else np.float64),
    )


# --- protobuf ---------------------------------------------------------------------------------------------------------


def encode_protobuf(request: PassRequest, _wire: Wire) -> Encoded:
    """Write a pass in protobuf. Observed in 0.25.0 to 0.38.0."""
    from mock_server.wire import tinker_wire_pb2 as pb

    dtypes = {"float32": pb.DTYPE_FLOAT32, "int64": pb.DTYPE_INT64}
    message = pb.ForwardBackwardRequest(
        model_id=request.model_id, seq_id=request.seq_id, loss_fn=request.loss_fn, forward_only=request.forward_only
    )
    for datum in request.data:
        written = message.data.add()
        written.model_input.add().encoded_text.tokens = datum.tokens.astype("<i4").tobytes()
        for key, tensor in datum.inputs.items():
            field = written.loss_fn_inputs[key]
            field.dtype = dtypes[tensor.dtype]
            if tensor.shape is not None:
                field.shape.extend(tensor.shape)
            values = tensor.values.astype(DTYPES[tensor.dtype], copy=False).tobytes()
            if tensor.crow is None or tensor.col is None:
                field.dense = values
            else:
                field.sparse_csr.values = values
                field.sparse_csr.crow_indices = tensor.crow.astype("<i8").tobytes()
                field.sparse_csr.col_indices = tensor.col.astype("<i8").tobytes()
    return Encoded(content=message.SerializeToString(deterministic=True), content_type=PROTOBUF)


def decode_protobuf(content: bytes) -> PassOutput:
    """Read the protobuf result of a pass: records one after the other, each with its own trailing shape.

    Raises BadOutputError when it is not one.
    """
    from google.protobuf.message import DecodeError

    from mock_server.wire import tinker_wire_pb2 as pb

    message = pb.ForwardBackwardOutput()
    outputs: list[dict[str, TensorValue]] = []
    try:
        message.ParseFromString(content)
        for record in message.loss_fn_outputs:
            fields = {name: _unbatch(batch) for name, batch in record.fields.items()}
            outputs.extend(
                {name: tensors[index] for name, tensors in fields.items()} for index in range(record.num_datums)
            )
    except (DecodeError, ValueError, IndexError, KeyError) as error:
        raise BadOutputError(f"the result cannot be read: {type(error).__name__}: {error}") from error
    return PassOutput(
        output_type=message.loss_fn_output_type.rsplit(":", 1)[-1] or "ArrayRecord",
        outputs=outputs,
        metrics={key: float(value) for key, value in message.metrics.items()},
    )


# DType numbers of the wire: the layout of the elements and the dtype the caller sees.
_LAYOUTS = {1: ("<f4", "float32"), 2: ("<i8", "int64"), 3: ("<i4", "int64"), 4: ("<u2", "float32")}
_BFLOAT16 = 4


def _unbatch(batch: Any) -> list[TensorValue]:
    layout, dtype = _LAYOUTS[batch.dtype]
    elements: Array = np.frombuffer(batch.data, dtype=layout)
    if batch.dtype == _BFLOAT16:
        elements = (elements.astype(np.uint32) << 16).view(np.float32)
    elements = elements.astype(DTYPES[dtype], copy=False)
    offsets = np.frombuffer(batch.offsets, dtype="<i8") // np.dtype(layout).itemsize
    trailing = tuple(batch.trailing_shape)
    per_row = int(np.prod(trailing, dtype=np.int64))
    tensors = []
    for start, end in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
        rows = (end - start) // per_row if per_row else 0
        tensors.append(TensorValue(dtype=dtype, shape=(rows, *trailing), values=elements[start:end]))
    return tensors


@dataclass(frozen=True, slots=True)
class Codec:
    """How passes are written and their results read; `result_type` is the content type the result must have."""

    encode: Callable[[PassRequest, Wire], Encoded]
    decode: Callable[[bytes], PassOutput]
    result_type: str


CODECS: Mapping[str, Codec] = MappingProxyType(
    {
        "json": Codec(encode=encode_json, decode=decode_json, result_type=JSON),
        "protobuf": Codec(encode=encode_protobuf, decode=decode_protobuf, result_type=PROTOBUF),
    }
)
