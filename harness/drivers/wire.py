"""Tensors and datums as they travel to a driver and back (`docs/driver-protocol.md`).

Small arrays stand on the line; large ones are raw little-endian bytes in one file per run, named by path and offset.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.drivers.protocol import TensorSummary, WireDatum, WireTensor
from harness.drivers.python import spelling
from harness.suite.data import DatumValue, InputValue
from harness.suite.scenario import Container

INLINE_ELEMENTS = 1024
"""An array with more elements than this goes into the file."""

INLINE_TOTAL = 1 << 18
"""So does every array after this many elements have been put on one line."""


class DataEncoder:
    """Encodes the data of one run. `path` is the file for large arrays, written by `save` if anything needs it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._parts: list[bytes] = []
        self._offset = 0
        self._inline = 0

    def data(self, data: Mapping[str, Sequence[DatumValue]]) -> dict[str, list[WireDatum]]:
        """Encode every named list of datums."""
        return {name: [self._datum(datum) for datum in datums] for name, datums in data.items()}

    def tensor(self, array: npt.NDArray[Any], *, container: Container = "tensor") -> WireTensor:
        """Encode one array; its dtype must be one the protocol has."""
        dtype = array.dtype.name
        shape = list(array.shape)
        if array.size <= INLINE_ELEMENTS and self._inline + array.size <= INLINE_TOTAL:
            self._inline += array.size
            return WireTensor(dtype, shape, data=spelling.spell(array), container=container)
        raw = spelling.raw_bytes(array, dtype)
        tensor = WireTensor(dtype, shape, file=str(self._path), offset=self._offset, container=container)
        self._parts.append(raw)
        self._offset += len(raw)
        return tensor

    def save(self) -> None:
        """Write the file that the encoded tensors refer to; nothing is written when all of them stand on the line."""
        if self._parts:
            self._path.write_bytes(b"".join(self._parts))

    def _datum(self, datum: DatumValue) -> WireDatum:
        inputs = {name: self.tensor(value.array, container=value.container) for name, value in datum.inputs.items()}
        return WireDatum(tokens=self.tensor(datum.tokens), inputs=inputs)


def decode_tensor(tensor: WireTensor) -> npt.NDArray[Any]:
    """Return the array of a wire tensor, in its dtype and shape.

    Raises ValueError when the dtype is unknown, when it has neither or both of `data` and `file`, or when the number
    of elements does not fit the shape; OSError when the file cannot be read.
    """
    if (tensor.data is None) == (tensor.file is None):
        raise ValueError("a tensor has either data or file")
    count = int(np.prod(tensor.shape, dtype=np.int64))
    if tensor.data is not None:
        flat = spelling.unspell(tensor.data, tensor.dtype)
    else:
        if tensor.dtype not in spelling.LITTLE_ENDIAN:
            raise ValueError(f"dtype {tensor.dtype!r} is none of {', '.join(spelling.LITTLE_ENDIAN)}")
        flat = np.fromfile(
            Path(str(tensor.file)), dtype=spelling.LITTLE_ENDIAN[tensor.dtype], count=count, offset=tensor.offset
        )
    if flat.size != count:
        raise ValueError(f"{flat.size} elements do not fit the shape {tensor.shape}")
    return flat.reshape(tensor.shape)


def decode_datum(datum: WireDatum) -> DatumValue:
    """Return the datum that was encoded."""
    return DatumValue(
        tokens=decode_tensor(datum.tokens),
        inputs={
            name: InputValue(array=decode_tensor(tensor), container=tensor.container)
            for name, tensor in datum.inputs.items()
        },
    )


def summarise(
    array: npt.NDArray[Any], *, dtype: str | None = None, shape: Sequence[int] | None = None
) -> TensorSummary:
    """Describe a tensor that the SDK's user saw; `dtype` and `shape` are what the SDK says, else the array's own."""
    name = array.dtype.name if dtype is None else dtype
    return TensorSummary(
        dtype=name,
        shape=list(array.shape if shape is None else shape),
        digest=spelling.digest(array, name),
        first=spelling.first(array, name),
    )
