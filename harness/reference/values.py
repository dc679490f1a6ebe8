"""Tensors and datums as the client holds them, and how the caller's containers become them.

A tensor of the caller's tensor library that is two-dimensional may be held as compressed sparse rows; which tensors
are is a strategy (`dense`, `csr_if_smaller`). A plain list has no dtype: its key gives one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from harness.reference.errors import InvalidInputError
from harness.suite.data import DatumValue

if TYPE_CHECKING:
    import torch

Array = npt.NDArray[Any]

TARGETS = "target_tokens"
WEIGHTS = "weights"

DTYPES: Mapping[str, np.dtype[Any]] = MappingProxyType({"float32": np.dtype("<f4"), "int64": np.dtype("<i8")})

SPARSE_KEYS = frozenset({TARGETS, WEIGHTS})
"""The inputs that may be held as compressed sparse rows. Observed in 0.18.0 to 0.38.0."""

LIST_DTYPES: Mapping[str, str] = MappingProxyType(
    {
        TARGETS: "int64",
        WEIGHTS: "float32",
        "advantages": "float32",
        "logprobs": "float32",
        "clip_low_threshold": "float32",
        "clip_high_threshold": "float32",
    }
)
"""The dtype a plain list takes from its key. Observed in 0.7.0 to 0.38.0."""


@dataclass(frozen=True, slots=True, eq=False)
class TensorValue:
    """A tensor. `values` is one-dimensional: all elements row-major, or the stored ones if `crow` and `col` are given.

    `dtype` is the declared one (`float32` or `int64`); in a result read from JSON, `values` may have another (numbers
    without a decimal point). `shape` is None where none was declared.
    """

    dtype: str
    shape: tuple[int, ...] | None
    values: Array
    crow: Array | None = None
    col: Array | None = None

    def dense(self) -> Array:
        """Return all elements in the declared dtype, one-dimensional, zeros where nothing is stored."""
        values = self.values.astype(DTYPES[self.dtype], copy=False)
        if self.crow is None or self.col is None or self.shape is None:
            return values
        full = np.zeros(self.shape, dtype=values.dtype)
        full[np.repeat(np.arange(self.shape[0]), np.diff(self.crow)), self.col] = values
        return full.reshape(-1)


@dataclass(frozen=True, slots=True, eq=False)
class Datum:
    """One datum: input tokens (int64, 1-D) and loss_fn_inputs."""

    tokens: npt.NDArray[np.int64]
    inputs: Mapping[str, TensorValue]


class TorchInputs(Mapping[str, "torch.Tensor"]):
    """The inputs of a datum as torch tensors, converted when a loss asks for them: copies, which a loss may keep."""

    def __init__(self, datum: Datum) -> None:
        self._datum = datum

    def __getitem__(self, name: str) -> torch.Tensor:
        import torch

        return torch.from_numpy(self._datum.inputs[name].dense().copy())

    def __iter__(self) -> Iterator[str]:
        return iter(self._datum.inputs)

    def __len__(self) -> int:
        return len(self._datum.inputs)


def dense(array: Array) -> TensorValue:
    """Hold every element of a float32 or int64 array. Observed in 0.7.0 to 0.16.1."""
    return TensorValue(dtype=_declared(array), shape=array.shape, values=array.reshape(-1))


def csr_if_smaller(array: Array) -> TensorValue:
    """Hold a 2-D array as compressed sparse rows if that takes fewer numbers: rows + 1 + 2 nnz < rows * columns.

    -0.0 counts as zero and is lost. Observed in 0.18.0 to 0.38.0.
    """
    if array.ndim != 2:
        return dense(array)
    rows, columns = array.shape
    stored = array != 0
    count = int(np.count_nonzero(stored))
    if rows + 1 + 2 * count >= rows * columns:
        return dense(array)
    crow = np.concatenate(([0], np.cumsum(stored.sum(axis=1)))).astype(np.int64)
    col = np.nonzero(stored)[1].astype(np.int64)
    return TensorValue(dtype=_declared(array), shape=array.shape, values=array[stored], crow=crow, col=col)


SPARSE: Mapping[str, Callable[[Array], TensorValue]] = MappingProxyType(
    {"dense": dense, "csr_if_smaller": csr_if_smaller}
)


def refuse_nested(key: str, array: Array) -> Array:
    """Refuse lists of lists. Observed in 0.7.0 to 0.15.0 (a validation error). Raises InvalidInputError."""
    if array.ndim > 1:
        raise InvalidInputError(f"{key}: a list must be flat")
    return array


def accept_nested(_key: str, array: Array) -> Array:
    """Accept lists of lists. Observed in 0.16.0 to 0.38.0."""
    return array


NESTED: Mapping[str, Callable[[str, Array], Array]] = MappingProxyType(
    {"refused": refuse_nested, "accepted": accept_nested}
)


def datum_from(
    value: DatumValue, *, sparse: Callable[[Array], TensorValue], nested: Callable[[str, Array], Array]
) -> Datum:
    """Make the client's datum of what the caller hands over. Raises InvalidInputError for a list that has no dtype."""
    inputs: dict[str, TensorValue] = {}
    for key, given in value.inputs.items():
        if given.container == "list":
            if key not in LIST_DTYPES:
                raise InvalidInputError(f"{key}: a plain list of this name has no dtype")
            inputs[key] = dense(nested(key, given.array).astype(DTYPES[LIST_DTYPES[key]]))
        elif given.container == "native" and key in SPARSE_KEYS:
            inputs[key] = sparse(given.array)
        else:
            inputs[key] = dense(given.array)
    return Datum(tokens=value.tokens, inputs=MappingProxyType(inputs))


def _declared(array: Array) -> str:
    return "float32" if array.dtype.kind == "f" else "int64"
