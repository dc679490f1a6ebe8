"""Between the line and the SDK: datums as the scenario's caller would write them, results as the caller sees them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ..python import spelling  # noqa: TID252 - there is no harness where this runs

AnyArray = npt.NDArray[Any]


def read_tensor(wire: Mapping[str, Any]) -> AnyArray:
    """Read a tensor of the line, inline or from its file."""
    shape = tuple(wire["shape"])
    if wire.get("file") is None:
        return spelling.unspell(wire["data"], wire["dtype"]).reshape(shape)
    layout = spelling.LITTLE_ENDIAN[wire["dtype"]]
    count = math.prod(shape)
    return np.fromfile(wire["file"], dtype=layout, count=count, offset=wire.get("offset", 0)).reshape(shape)


@dataclass(frozen=True, slots=True)
class CallerDatum:
    """A datum before the SDK has seen it: tokens, and inputs with the containers they are to be handed over in."""

    tokens: AnyArray
    inputs: Mapping[str, tuple[AnyArray, str]]


def read_datum(wire: Mapping[str, Any]) -> CallerDatum:
    """Read a datum of the line."""
    inputs = {name: (read_tensor(value), value.get("container", "tensor")) for name, value in wire["inputs"].items()}
    return CallerDatum(tokens=read_tensor(wire["tokens"]), inputs=inputs)


def build_datum(sdk: Any, datum: CallerDatum) -> Any:
    """Build the SDK's datum. What the SDK refuses, it raises here, as it would in the caller's own code."""
    return sdk.types.Datum(
        model_input=sdk.types.ModelInput.from_ints(datum.tokens.tolist()),
        loss_fn_inputs={name: _contained(sdk, *value) for name, value in datum.inputs.items()},
    )


def _contained(sdk: Any, array: AnyArray, container: str) -> Any:
    match container:
        case "native":
            return torch.from_numpy(array.copy())
        case "list":
            return _plain_list(array)
        case _:
            flat = array.reshape(-1).tolist()
            return sdk.types.TensorData(data=flat, dtype=array.dtype.name, shape=list(array.shape))


def _plain_list(array: AnyArray) -> Any:
    """Return a nested list; whole numbers as integers if all are whole, as a caller writes them."""
    if array.dtype.kind == "f" and np.all(np.isfinite(array) & (array == np.floor(array)) & ~np.signbit(array)):
        array = array.astype(np.int64)
    return array.tolist()


def digest_of_datums(datums: Iterable[Any]) -> str:
    """Digest everything a caller could see change in its datums: tokens, keys, dtypes, shapes, values, in order."""
    total = hashlib.sha256()
    for datum in datums:
        total.update(np.asarray(datum.model_input.to_ints(), dtype=np.int64).tobytes())
        for name, value in datum.loss_fn_inputs.items():
            form = (name, value.dtype, value.shape, getattr(value, "sparse_crow_indices", None))
            total.update(repr(form).encode())
            total.update(np.asarray(value.data, dtype=spelling.LITTLE_ENDIAN[value.dtype]).tobytes())
    return total.hexdigest()


def summarise(value: Any) -> dict[str, Any]:
    """Describe one tensor of a result: dtype and shape as the SDK says, values converted to that dtype."""
    sparse = getattr(value, "sparse_crow_indices", None) is not None
    array = value.to_numpy() if sparse else np.asarray(value.data, dtype=spelling.LITTLE_ENDIAN[value.dtype])
    shape = list(array.shape) if value.shape is None else [int(size) for size in value.shape]
    return {
        "dtype": value.dtype,
        "shape": shape,
        "digest": spelling.digest(array, value.dtype),
        "first": spelling.first(array, value.dtype),
    }


def spell_metric(value: Any) -> float | int | str | None:
    """Spell one metric: numbers as the protocol does, anything else by its representation."""
    if value is None or isinstance(value, bool):
        return None if value is None else repr(value)
    if isinstance(value, int):
        return spelling.spell_int(value)
    return spelling.spell_float(value) if isinstance(value, float) else repr(value)


def describe_result(result: Any) -> dict[str, Any]:
    """Describe a result: its type, and outputs, metrics and path where it has them."""
    told: dict[str, Any] = {"type": type(result).__name__}
    outputs = getattr(result, "loss_fn_outputs", None)
    if outputs is not None:
        told["outputs"] = [{name: summarise(value) for name, value in output.items()} for output in outputs]
    metrics = getattr(result, "metrics", None)
    if metrics is not None:
        told["metrics"] = {name: spell_metric(value) for name, value in metrics.items()}
    fields = {
        name: getattr(result, name) for name in ("path", "model_id") if isinstance(getattr(result, name, None), str)
    }
    if fields:
        told["fields"] = fields
    return told
