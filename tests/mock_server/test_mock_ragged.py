"""Many small tensors as few flat arrays, there and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mock_server.ragged import Datums, FlatBuilder, RowsBuilder
from mock_server.record import Tensor

NUMPY = {"float32": np.float32, "int64": np.int64, "int32": np.int32, "bfloat16": np.float32}


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    """Draw a tensor as a wire may carry it: any shape, filled or not, or none; dense or sparse."""
    dtype = draw(st.sampled_from(sorted(NUMPY)))
    values = np.array(draw(st.lists(st.integers(0, 99), max_size=4)), dtype=NUMPY[dtype])
    shape = draw(st.none() | st.just((values.size,)) | st.lists(st.integers(0, 5), max_size=3).map(tuple))
    if draw(st.booleans()):
        return Tensor(dtype, shape, values)
    crow, col = (np.array(draw(st.lists(st.integers(0, 9), max_size=3)), dtype=np.int64) for _ in range(2))
    return Tensor(dtype, shape, values, "csr", crow, col)


def spelled(row: Any) -> Any:
    """Return a row as something that compares, keys in their order."""
    arrays = {key: (t.values, t.crow, t.col) for key, t in row.items()}
    return [
        (key, t.dtype, t.shape, t.layout, [None if a is None else (a.dtype, a.tobytes()) for a in arrays[key]])
        for key, t in row.items()
    ]


@given(st.lists(st.dictionaries(st.sampled_from("abc"), tensors(), max_size=3), max_size=5), st.slices(5))
def test_rows_come_back_as_they_were_put_in(rows: list[dict[str, Tensor]], part: slice) -> None:
    """One by one, all in turn and in slices: keys in order, dtypes, shapes, layouts and every byte."""
    builder, tokens = RowsBuilder(), FlatBuilder("q")
    for number, row in enumerate(rows):
        for key, tensor in row.items():
            column = builder.column(key, tensor.dtype, tensor.layout, tensor.shape)
            column.values.add(tensor.values)
            if tensor.crow is not None and tensor.col is not None:
                assert column.crow is not None
                assert column.col is not None
                column.crow.add(tensor.crow)
                column.col.add(tensor.col)
            column.end(builder.count, tensor.shape)
        builder.end()
        tokens.buffer.fromlist([number] * number)
        assert tokens.end() == number
    datums = Datums(tokens.finish(), builder.finish())
    wanted = [(number, [number] * number, spelled(row)) for number, row in enumerate(rows)]
    assert [(n, d.tokens.tolist(), spelled(d.inputs)) for n, d in enumerate(datums)] == wanted
    assert [(n, datums[n].tokens.tolist(), spelled(datums[n].inputs)) for n in range(len(datums))] == wanted
    assert [spelled(datum.inputs) for datum in datums[part]] == [spelled(row) for row in rows[part]]
    assert len(datums) == len(rows)
    if rows:
        assert spelled(datums[-1].inputs) == wanted[-1][2]


def test_numbers_are_not_written_to() -> None:
    """What a record holds is immutable, and there is no row beyond the last."""
    builder = RowsBuilder()
    column = builder.column("a", "float32", "dense", (1,))
    column.values.add(np.ones(1, np.float32))
    column.end(builder.count, (1,))
    builder.end()
    rows = builder.finish()
    with pytest.raises(ValueError, match="read-only"):
        rows[0]["a"].values[0] = 2
    with pytest.raises(IndexError):
        rows[1]


def test_many_small_datums_cost_little_more_than_their_numbers() -> None:
    """A batch of datums of four tokens takes less than three times the bytes of its numbers."""
    builder, tokens = RowsBuilder(), FlatBuilder("q")
    for _ in range(1000):
        column = builder.column("weights", "float32", "dense", (4,))
        column.values.add(np.ones(4, np.float32))
        column.end(builder.count, (4,))
        builder.end()
        tokens.buffer.fromlist([1, 2, 3, 4])
        tokens.end()
    datums = Datums(tokens.finish(), builder.finish())
    numbers = sum(datum.tokens.nbytes + datum.inputs["weights"].values.nbytes for datum in datums)
    assert numbers <= datums.nbytes < 3 * numbers
