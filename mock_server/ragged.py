"""Tensors of many datums as a few flat arrays: a small array of its own costs a datum ten times what it holds.

A `RowsBuilder` takes tensors one after the other, `Rows` gives them back, each made when it is asked for. Tensors of
equal key, dtype, layout and rank share a column.
"""

from __future__ import annotations

import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, overload

import numpy as np
import numpy.typing as npt

from mock_server.record import AnyArray, Datum, Layout, Tensor

Ints = npt.NDArray[np.int64]
Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Flat:
    """Arrays laid end to end; the k-th ends before element `ends[k]`."""

    values: AnyArray
    ends: Ints

    def __getitem__(self, place: int) -> AnyArray:
        """Return the k-th array, a view."""
        return self.values[int(self.ends[place - 1]) if place else 0 : int(self.ends[place])]

    @property
    def nbytes(self) -> int:
        """The memory that the arrays take."""
        return self.values.nbytes + self.ends.nbytes

    def __iter__(self) -> Iterator[AnyArray]:
        """Yield all arrays, as views."""
        start, values = 0, self.values
        for end in self.ends.tolist():
            yield values[start:end]
            start = end


@dataclass(frozen=True, slots=True, eq=False)
class Column:
    """Tensors of equal key, dtype, layout and rank.

    `shapes` is None where the wire named none, "filled" where each tensor is one-dimensional and as long as its
    values, else an int64 array `[tensors, rank]`. `rows` are the rows the tensors belong to, None where every row has
    one.
    """

    key: str
    dtype: str
    layout: Layout
    values: Flat
    shapes: Ints | Literal["filled"] | None
    rows: Ints | None = None
    crow: Flat | None = None
    col: Flat | None = None

    def tensor(self, row: int) -> Tensor:
        """Return the tensor of a row that has one."""
        place = row if self.rows is None else int(np.searchsorted(self.rows, row))
        values = self.values[place]
        shape: Shape | None = None
        if isinstance(self.shapes, str):
            shape = (values.size,)
        elif self.shapes is not None:
            shape = tuple(self.shapes[place].tolist())
        if self.crow is None or self.col is None:
            return Tensor(self.dtype, shape, values, self.layout)
        return Tensor(self.dtype, shape, values, self.layout, self.crow[place], self.col[place])

    @property
    def nbytes(self) -> int:
        """The memory that the tensors take."""
        flats = sum(flat.nbytes for flat in (self.values, self.crow, self.col) if flat is not None)
        return flats + sum(side.nbytes for side in (self.shapes, self.rows) if isinstance(side, np.ndarray))

    def tensors(self) -> Iterator[Tensor]:
        """Yield all tensors, in the order of their rows."""
        dtype, layout = self.dtype, self.layout
        shapes: Iterator[Shape | None]
        if isinstance(self.shapes, str):
            for values in self.values:
                yield Tensor(dtype, (values.size,), values, layout)
            return
        shapes = iter([None] * len(self.values.ends)) if self.shapes is None else map(tuple, self.shapes.tolist())
        if self.crow is None or self.col is None:
            for shape, values in zip(shapes, self.values, strict=True):
                yield Tensor(dtype, shape, values, layout)
            return
        for shape, values, crow, col in zip(shapes, self.values, self.crow, self.col, strict=True):
            yield Tensor(dtype, shape, values, layout, crow, col)


class Rows(Sequence[Mapping[str, Tensor]]):
    """One mapping of tensors per datum, kept as columns.

    `forms` are the distinct sets of columns, in the order of a row's keys; `form_of` says which one each row has, None
    where there is one form only.
    """

    __slots__ = ("_count", "columns", "form_of", "forms")

    def __init__(
        self,
        count: int,
        columns: tuple[Column, ...],
        forms: tuple[tuple[int, ...], ...],
        form_of: Ints | None = None,
    ) -> None:
        self._count = count
        self.columns = columns
        self.forms = forms
        self.form_of = form_of

    def __len__(self) -> int:
        """Return the number of rows."""
        return self._count

    @overload
    def __getitem__(self, index: int) -> Mapping[str, Tensor]: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Mapping[str, Tensor], ...]: ...
    def __getitem__(self, index: int | slice) -> Mapping[str, Tensor] | tuple[Mapping[str, Tensor], ...]:
        """Return a row, or a tuple of rows."""
        if isinstance(index, slice):
            return tuple(self[i] for i in range(*index.indices(self._count)))
        row = range(self._count)[index]
        form = self.forms[0 if self.form_of is None else int(self.form_of[row])]
        return {self.columns[column].key: self.columns[column].tensor(row) for column in form}

    def __iter__(self) -> Iterator[Mapping[str, Tensor]]:
        """Yield all rows."""
        keys = [column.key for column in self.columns]
        ahead = [column.tensors() for column in self.columns]
        forms = [[(keys[column], ahead[column]) for column in form] for form in self.forms]
        if self.form_of is None:
            for _ in range(self._count):
                yield {key: next(tensors) for key, tensors in forms[0]}
        else:
            for form in self.form_of.tolist():
                yield {key: next(tensors) for key, tensors in forms[form]}


class Datums(Sequence[Datum]):
    """The datums of a batch: input tokens (int64) and inputs, each made when it is asked for."""

    __slots__ = ("inputs", "tokens")

    def __init__(self, tokens: Flat, inputs: Rows) -> None:
        self.tokens = tokens
        self.inputs = inputs

    def __len__(self) -> int:
        """Return the number of datums."""
        return len(self.inputs)

    @overload
    def __getitem__(self, index: int) -> Datum: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Datum, ...]: ...
    def __getitem__(self, index: int | slice) -> Datum | tuple[Datum, ...]:
        """Return a datum, or a tuple of datums."""
        if isinstance(index, slice):
            return tuple(self[i] for i in range(*index.indices(len(self))))
        row = range(len(self))[index]
        return Datum(self.tokens[row], self.inputs[row])

    @property
    def nbytes(self) -> int:
        """The memory that the datums take."""
        inputs = self.inputs
        forms = 0 if inputs.form_of is None else inputs.form_of.nbytes
        return self.tokens.nbytes + forms + sum(column.nbytes for column in inputs.columns)

    def __iter__(self) -> Iterator[Datum]:
        """Yield all datums."""
        return map(Datum, self.tokens, self.inputs)


class FlatBuilder:
    """Takes numbers of one dtype: `add` them, or put Python's into `buffer`, then `end` their array."""

    __slots__ = ("_ends", "buffer")

    def __init__(self, code: str) -> None:
        self.buffer: array.array[Any] = array.array(code)
        self._ends = array.array("q")

    def add(self, numbers: AnyArray) -> None:
        """Take the numbers of a flat array, widened to the dtype of all."""
        self.buffer.frombytes(numbers.astype(self.buffer.typecode, copy=False).view(np.uint8).data)

    def end(self) -> int:
        """End an array; return how many elements it has."""
        start = self._ends[-1] if self._ends else 0
        self._ends.append(len(self.buffer))
        return len(self.buffer) - start

    def finish(self) -> Flat:
        """Return the arrays; nothing can be added any more."""
        return Flat(_frozen(self.buffer), _frozen(self._ends))


class ColumnBuilder:
    """Takes the tensors of one column: fill `values` (and `crow` and `col` of a sparse one), then `end` the tensor."""

    __slots__ = ("_dims", "_dtype", "_filled", "_key", "_layout", "_rank", "_rows", "col", "crow", "values")

    def __init__(self, key: str, dtype: str, layout: Layout, rank: int) -> None:
        self._key, self._dtype, self._layout, self._rank = key, dtype, layout, rank
        self._dims, self._rows = array.array("q"), array.array("q")
        self._filled = rank == 1 and layout == "dense"
        self.values = FlatBuilder(_CODES[dtype])
        self.crow: FlatBuilder | None = FlatBuilder("q") if layout == "csr" else None
        self.col: FlatBuilder | None = FlatBuilder("q") if layout == "csr" else None

    def end(self, row: int, shape: Shape | None) -> None:
        """End the tensor of a row. OverflowError where a dimension does not fit into int64."""
        size = self.values.end()
        if self.crow is not None and self.col is not None:
            self.crow.end()
            self.col.end()
        if shape is not None:
            self._dims.extend(shape)
            self._filled = self._filled and shape[0] == size
        self._rows.append(row)

    def finish(self, count: int) -> Column:
        """Return the column of a batch of `count` rows."""
        shapes: Ints | Literal["filled"] | None = None
        if self._filled:
            shapes = "filled"
        elif self._rank >= 0:
            shapes = _frozen(self._dims).reshape(len(self._rows), self._rank)
        return Column(
            key=self._key,
            dtype=self._dtype,
            layout=self._layout,
            values=self.values.finish(),
            shapes=shapes,
            rows=None if len(self._rows) == count else _frozen(self._rows),
            crow=None if self.crow is None else self.crow.finish(),
            col=None if self.col is None else self.col.finish(),
        )


class RowsBuilder:
    """Takes rows one after the other: `column` for each of their tensors, then `end` the row."""

    __slots__ = ("_columns", "_form_of", "_forms", "_row")

    def __init__(self) -> None:
        self._columns: dict[tuple[str, str, Layout, int], tuple[int, ColumnBuilder]] = {}
        self._forms: dict[tuple[int, ...], int] = {}
        self._form_of = array.array("q")
        self._row: list[int] = []

    def column(self, key: str, dtype: str, layout: Layout, shape: Shape | None) -> ColumnBuilder:
        """Return where the row's next tensor belongs."""
        head = (key, dtype, layout, -1 if shape is None else len(shape))
        found = self._columns.get(head)
        if found is None:
            found = self._columns[head] = (len(self._columns), ColumnBuilder(*head))
        self._row.append(found[0])
        return found[1]

    @property
    def count(self) -> int:
        """How many rows were ended: the number of the row that is being taken."""
        return len(self._form_of)

    @property
    def width(self) -> int:
        """How many columns there are."""
        return len(self._columns)

    def end(self) -> None:
        """End a row."""
        self._form_of.append(self._forms.setdefault(tuple(self._row), len(self._forms)))
        self._row.clear()

    def finish(self) -> Rows:
        """Return the rows."""
        count = self.count
        columns = tuple(builder.finish(count) for _, builder in self._columns.values())
        return Rows(count, columns, tuple(self._forms), _frozen(self._form_of) if len(self._forms) > 1 else None)


def _frozen(numbers: array.array[Any]) -> AnyArray:
    """Return the numbers of an array as they lie there, not to be written to any more."""
    flat = np.frombuffer(numbers, dtype=_NATIVE[numbers.typecode])
    flat.flags.writeable = False
    return flat


_CODES: Mapping[str, str] = {"float32": "f", "bfloat16": "f", "int64": "q", "int32": "i"}
"""How the values of each dtype on the wire are kept; bfloat16 as the float32 it stands for."""
_NATIVE: Mapping[str, Any] = {"f": np.float32, "q": np.int64, "i": np.int32}
