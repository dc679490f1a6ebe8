"""Results of passes, read back from the service's answers: what a recording of real traffic needs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from mock_server.record import Tensor
from mock_server.wire import tinker_wire_pb2 as pb
from mock_server.wire.errors import WireError

Outputs = tuple[Mapping[str, Tensor], ...]
Metrics = Mapping[str, float]

_LAYOUTS: Mapping[int, tuple[str, str]] = {
    pb.DTYPE_FLOAT32: ("float32", "<f4"),
    pb.DTYPE_INT64: ("int64", "<i8"),
    pb.DTYPE_INT32: ("int32", "<i4"),
    pb.DTYPE_BFLOAT16: ("bfloat16", "<u2"),
}


def decode_json(content: bytes) -> Any:
    """Return the JSON of an answer, Python's NaN and Infinity included. Raises WireError."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise WireError(f"the answer is not JSON: {error}") from error


def json_result(body: Mapping[str, Any]) -> tuple[Outputs, Metrics]:
    """Return outputs and metrics of a JSON result; an answer of another operation has no outputs. Raises WireError."""
    try:
        outputs = tuple(
            {key: _json_tensor(tensor) for key, tensor in output.items()} for output in body.get("loss_fn_outputs", ())
        )
        return outputs, {key: float(value) for key, value in (body.get("metrics") or {}).items()}
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise WireError(f"the result cannot be read: {type(error).__name__}: {error}") from error


def protobuf_result(content: bytes) -> tuple[Outputs, Metrics]:
    """Return outputs and metrics of a ForwardBackwardOutput. Raises WireError."""
    message = pb.ForwardBackwardOutput()
    outputs: list[dict[str, Tensor]] = []
    try:
        message.ParseFromString(content)
        for record in message.loss_fn_outputs:
            fields = {name: _unbatch(batch) for name, batch in record.fields.items()}
            outputs.extend(
                {name: tensors[index] for name, tensors in fields.items()} for index in range(record.num_datums)
            )
    except (DecodeError, ValueError, IndexError, KeyError) as error:
        raise WireError(f"the result cannot be read: {type(error).__name__}: {error}") from error
    return tuple(outputs), dict(message.metrics)


def _json_tensor(tensor: Mapping[str, Any]) -> Tensor:
    shape = tensor.get("shape")
    dtype = "int64" if tensor["dtype"] == "int64" else "float32"
    return Tensor(tensor["dtype"], None if shape is None else tuple(shape), np.array(tensor["data"], dtype).reshape(-1))


def _unbatch(batch: Any) -> list[Tensor]:
    dtype, layout = _LAYOUTS[batch.dtype]
    elements = np.frombuffer(batch.data, dtype=layout)
    if dtype == "bfloat16":
        elements = (elements.astype(np.uint32) << 16).view(np.float32)
    offsets = np.frombuffer(batch.offsets, dtype="<i8") // np.dtype(layout).itemsize
    trailing = tuple(batch.trailing_shape)
    row = int(np.prod(trailing, dtype=np.int64))
    return [
        Tensor(dtype, ((end - start) // row if row else 0, *trailing), elements[start:end])
        for start, end in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)
    ]
