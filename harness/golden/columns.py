"""Tensors of many datums as few arrays, and repeated values as runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mock_server.record import AnyArray, Tensor


def to_columns(rows: Sequence[Mapping[str, Tensor]]) -> list[dict[str, Any]]:
    """Return tensors of datums as columns: one per key and form (dtype, layout, number of dimensions).

    A column names the rows it is of, unless it is of all; `lengths` are the numbers of stored values.
    """
    members: dict[tuple[str, str, str, int], list[int]] = {}
    for index, row in enumerate(rows):
        for key, tensor in row.items():
            rank = -1 if tensor.shape is None else len(tensor.shape)
            members.setdefault((key, tensor.dtype, tensor.layout, rank), []).append(index)
    columns = []
    for (key, dtype, layout, rank), indices in sorted(members.items()):
        tensors = [rows[index][key] for index in indices]
        column: dict[str, Any] = {
            "key": key,
            "dtype_on_wire": dtype,
            "layout": layout,
            "lengths": _integers([t.values.size for t in tensors]),
            "values": _concatenated([t.values for t in tensors]),
        }
        if len(indices) != len(rows):
            column["rows"] = _integers(indices)
        if rank == 1 and all(t.shape == (t.values.size,) for t in tensors):
            column["shape"] = "lengths"
        elif rank >= 0:
            column["shape"] = np.array([t.shape for t in tensors], dtype=np.int64).reshape(len(tensors), rank)
        if layout == "csr":
            column["crow_lengths"] = _integers([_indices(t.crow).size for t in tensors])
            column["crow"] = _concatenated([_indices(t.crow) for t in tensors])
            column["col"] = _concatenated([_indices(t.col) for t in tensors])
        columns.append(column)
    return columns


def from_columns(columns: Sequence[Mapping[str, Any]], count: int) -> list[dict[str, Tensor]]:
    """Return the tensors of `count` datums. Raises KeyError or ValueError where the columns do not fit."""
    rows: list[dict[str, Tensor]] = [{} for _ in range(count)]
    for column in columns:
        lengths = column["lengths"]
        indices = column["rows"].tolist() if "rows" in column else range(count)
        if len(lengths) != len(indices) or int(lengths.sum()) != column["values"].size:
            raise ValueError(f"column {column['key']} does not fit its lengths")
        values = _split(column["values"], lengths)
        shapes = _shapes(column.get("shape"), lengths)
        sparse = column["layout"] == "csr"
        crows = _split(column["crow"], column["crow_lengths"]) if sparse else [None] * len(values)
        cols = _split(column["col"], lengths) if sparse else [None] * len(values)
        for place, index in enumerate(indices):
            rows[index][column["key"]] = Tensor(
                dtype=column["dtype_on_wire"],
                shape=shapes[place],
                values=values[place],
                layout=column["layout"],
                crow=crows[place],
                col=cols[place],
            )
    return rows


def to_runs(values: Sequence[Any]) -> list[Any]:
    """Return values as `[count, value]` runs."""
    runs: list[Any] = []
    for value in values:
        if runs and runs[-1][1] == value:
            runs[-1][0] += 1
        else:
            runs.append([1, value])
    return runs


def from_runs(runs: Sequence[Sequence[Any]]) -> list[Any]:
    """Return the values of runs."""
    return [value for count, value in runs for _ in range(count)]


def _shapes(shape: Any, lengths: AnyArray) -> list[tuple[int, ...] | None]:
    if shape is None:
        return [None] * len(lengths)
    return [(size,) for size in lengths.tolist()] if isinstance(shape, str) else [*map(tuple, shape.tolist())]


def _integers(values: Sequence[int]) -> AnyArray:
    return np.array(values, dtype=np.int64)


def _indices(array: AnyArray | None) -> AnyArray:
    return np.zeros(0, np.int64) if array is None else array.astype(np.int64)


def _concatenated(arrays: Sequence[AnyArray]) -> AnyArray:
    return np.concatenate([array.reshape(-1) for array in arrays]) if arrays else np.zeros(0)


def _split(values: AnyArray, lengths: AnyArray) -> list[AnyArray]:
    ends = np.cumsum(lengths).tolist()
    return [values[start:end] for start, end in zip([0, *ends], ends, strict=False)]
