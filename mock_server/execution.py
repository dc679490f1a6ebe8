"""What an operation does to a model: logprobs, gradient, optimizer step, save and load.

A `Trainer` is one model's numbers. It is not thread-safe; its tenant's lock guards it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mock_server import model, optimizer
from mock_server.model import Ints, Matrix
from mock_server.optimizer import AdamState, StepParams
from mock_server.ragged import RowsBuilder, Shape
from mock_server.record import AnyArray, Batch, Datum, Tensor
from mock_server.script import Script

MAX_ELEMENTS = 2**27
"""Bound on the elements of one CSR tensor once it is written out."""

BLOCK = 2**15
"""So many logprobs are computed at a time: what is computed on the way stays small beside the body it is about."""

OUTPUT_TYPE = "ArrayRecord"


class UncomputableError(Exception):
    """An operation that cannot be computed: the caller's mistake. Its future fails with category `user`."""


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """What save_weights keeps: parameters and optimizer state (None where logprobs are scripted)."""

    base_model: str
    rank: int | None
    parameters: Matrix | None
    adam: AdamState | None


@dataclass(frozen=True, slots=True, eq=False)
class Pass:
    """The outcome of a forward or forward_backward."""

    outputs: Sequence[Mapping[str, Tensor]]
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True, eq=False)
class _Layout:
    """Datums laid out flat: one entry per logprob, in the width of the wire; the first datum is number `first`.

    `shapes` are those of target_tokens, per datum. `positions` is empty unless asked for.
    """

    first: int
    tokens: Ints
    targets: Ints
    positions: Ints
    weights: AnyArray
    bounds: Ints
    shapes: tuple[Shape, ...]

    def blocks(self) -> Iterator[_Layout]:
        """Yield the entries in blocks; bounds and shapes stay those of the whole."""
        for start in range(0, self.tokens.size, BLOCK):
            here = slice(start, start + BLOCK)
            yield replace(
                self,
                tokens=self.tokens[here],
                targets=self.targets[here].astype(np.int64, copy=False),
                positions=self.positions[here],
                weights=self.weights[here].astype(np.float64, copy=False),
            )


class Trainer:
    """One model's parameters, accumulated gradient and optimizer state, answering as its script says."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._scripted = script.logprobs.kind != "model"
        self.parameters: Matrix | None = None
        self.gradient: Matrix | None = None
        self._adam: AdamState | None = None
        self._logprobs: Matrix | None = None
        self._executed: dict[str, int] = {}
        if not self._scripted:
            self._set(model.initial_table(script.model), None)
            self.gradient = optimizer.zeros(self._table().shape)

    def begin(self, kind: str, batch: Batch | None) -> None:
        """Note that an operation takes effect now. A model that computes needs no notice."""

    def pass_over(self, kind: str, batch: Batch | None) -> None:
        """Note that an operation fails now, as scripted. A model that computes needs no notice."""

    def forward(self, batch: Batch) -> Pass:
        """Compute logprobs; nothing changes."""
        return self._pass("forward", batch, backward=False)

    def forward_backward(self, batch: Batch) -> Pass:
        """Compute logprobs and add the gradient of sum(-logprob * weight) to the accumulated one."""
        return self._pass("forward_backward", batch, backward=True)

    def optim_step(self, params: StepParams) -> tuple[Mapping[str, float], Matrix | None]:
        """Apply and clear the accumulated gradient. Returns the metrics and the gradient found (None when scripted)."""
        found = self.gradient
        if found is not None:
            table = self._table()
            if self._script.model.optimizer == "sgd":
                self._set(optimizer.sgd(table, found, params), self._adam)
            else:
                nothing = optimizer.zeros(table.shape)
                state = self._adam or AdamState(nothing, nothing)
                self._set(*optimizer.adamw(table, found, state, params))
            self.gradient = optimizer.zeros(table.shape)
        return self._metrics("optim_step", {}), found

    def checkpoint(self, base_model: str, rank: int | None) -> Checkpoint:
        """Return what a save keeps. Arrays are never changed in place, so that sharing them is safe."""
        return Checkpoint(base_model, rank, self.parameters, self._adam)

    def restore(self, checkpoint: Checkpoint, *, with_optimizer: bool) -> None:
        """Load parameters, and the optimizer state if asked for; without it the optimizer starts afresh.

        The accumulated gradient stays: it belongs to the requests that made it.
        """
        if checkpoint.parameters is not None:
            self._set(checkpoint.parameters, checkpoint.adam if with_optimizer else None)

    def _table(self) -> Matrix:
        assert self.parameters is not None, "scripted logprobs have no parameters"
        return self.parameters

    def _set(self, parameters: Matrix, adam: AdamState | None) -> None:
        if parameters is not self.parameters:
            self.parameters, self._logprobs = parameters, None
        self._adam = adam

    def _pass(self, kind: str, batch: Batch, *, backward: bool) -> Pass:
        outputs = RowsBuilder()
        loss, found = 0.0, None
        for layout in _lay_out(batch, positions=self._script.logprobs.kind == "hash"):
            seen = np.empty(layout.tokens.size, dtype=np.float32)
            done = 0
            for block in layout.blocks():
                here = seen[done : done + block.tokens.size]
                here[:] = self._gather(block, done)
                done += here.size
                with np.errstate(invalid="ignore"):  # an infinity of the table under a weight of zero: NaN
                    loss += float(np.sum(here.astype(np.float64) * block.weights))
                if backward and self._logprobs is not None:
                    part = model.gradient(self._logprobs, block.tokens, block.targets, block.weights)
                    found = part if found is None else found + part
            self._add_outputs(outputs, layout, seen)
        if found is not None and self.gradient is not None:
            self.gradient = self.gradient + found
        rows = outputs.finish()
        drop = self._script.outputs.drop if kind == "forward" else 0
        # a sum over nothing is 0.0, not -0.0
        return Pass(rows[: len(rows) - drop] if drop else rows, self._metrics(kind, {"loss:sum": 0.0 - loss}))

    def _gather(self, block: _Layout, start: int) -> Matrix:
        kind = self._script.logprobs.kind
        if kind == "hash":
            return model.hash_logprobs(block.tokens, block.targets, block.positions)
        if kind == "table":
            return model.table_logprobs(self._script.logprobs.table, block.targets)
        self._check_vocabulary(block, start)
        if self._logprobs is None:
            self._logprobs = model.log_softmax(self._table())
        result: Matrix = self._logprobs[block.tokens, block.targets]
        return result

    def _check_vocabulary(self, block: _Layout, start: int) -> None:
        vocab = self._script.model.vocab
        for name, values in (("input token", block.tokens), ("target token", block.targets)):
            bad = np.flatnonzero((values < 0) | (values >= vocab))
            if bad.size:
                datum = block.first + int(np.searchsorted(block.bounds, start + bad[0], side="right")) - 1
                raise UncomputableError(f"datum {datum}: {name} {values[bad[0]]} is outside the vocabulary of {vocab}")

    def _add_outputs(self, rows: RowsBuilder, layout: _Layout, seen: AnyArray) -> None:
        outputs = self._script.outputs
        extra = np.full(outputs.extend, -1.0, dtype=np.float32)
        bounds = layout.bounds.tolist()
        for start, end, declared in zip(bounds[:-1], bounds[1:], layout.shapes, strict=True):
            shape: Shape | None = declared
            if outputs.shape == "omitted":
                shape = None
            elif outputs.shape == "flat" or outputs.extend:
                # an extended tensor no longer fills its declared shape
                shape = (end - start + outputs.extend,)
            column = rows.column("logprobs", "float32", "dense", shape)
            column.values.add(seen[start:end])
            column.values.add(extra)
            column.end(rows.count, shape)
            rows.end()

    def _metrics(self, kind: str, own: Mapping[str, float]) -> Mapping[str, float]:
        scripted = getattr(self._script.metrics, kind)
        ordinal = self._executed.get(kind, 0)
        self._executed[kind] = ordinal + 1
        return scripted[ordinal] if ordinal < len(scripted) else own


def _lay_out(batch: Batch, *, positions: bool) -> Iterator[_Layout]:
    """Check every datum's shapes and lay the batch out flat, `BLOCK` tokens or one datum at a time.

    Raises UncomputableError naming the datum.
    """
    waiting: list[Datum] = []
    first = size = 0
    for datum in batch.datums:
        if waiting and size + datum.tokens.size > BLOCK:
            yield _flat_out(waiting, first, positions=positions)
            first, size = first + len(waiting), 0
            waiting.clear()
        waiting.append(datum)
        size += datum.tokens.size
    if waiting:
        yield _flat_out(waiting, first, positions=positions)


def _flat_out(datums: Sequence[Datum], first: int, *, positions: bool) -> _Layout:
    tokens: list[AnyArray] = []
    targets: list[AnyArray] = []
    places: list[AnyArray] = []
    weights: list[AnyArray] = []
    shapes: list[Shape] = []
    for index, datum in enumerate(datums, start=first):
        wanted, shape = _targets(datum, index)
        length = datum.tokens.size
        each = wanted.size // length if length else 0
        tokens.append(datum.tokens if each == 1 else np.repeat(datum.tokens, each))
        if positions:
            places.append(np.repeat(np.arange(length, dtype=np.int64), each))
        targets.append(wanted)
        weights.append(_weights(datum, index, wanted.size))
        shapes.append(shape)
    bounds = np.zeros(len(targets) + 1, dtype=np.int64)
    np.cumsum([t.size for t in targets], out=bounds[1:])
    return _Layout(
        first, _flat(tokens).astype(np.int64, copy=False), _flat(targets),
        _flat(places) if places else _NOWHERE, _flat(weights), bounds, tuple(shapes),
    )  # fmt: skip


def _flat(parts: list[AnyArray]) -> AnyArray:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


_NOWHERE: Ints = np.zeros(0, dtype=np.int64)


def _targets(datum: Datum, index: int) -> tuple[AnyArray, tuple[int, ...]]:
    tensor = datum.inputs.get("target_tokens")
    if tensor is None:
        raise UncomputableError(f"datum {index}: loss_fn_inputs has no target_tokens, which cross_entropy needs")
    if tensor.dtype not in ("int64", "int32"):
        raise UncomputableError(f"datum {index}: target_tokens is {tensor.dtype}, expected int64")
    values = _dense(tensor, "target_tokens", index)
    shape = tensor.shape if tensor.shape is not None else (values.size,)
    if not shape or shape[0] != datum.tokens.size:
        raise UncomputableError(
            f"datum {index}: target_tokens has shape {list(shape)}, its first dimension must be the number of input "
            f"tokens, {datum.tokens.size}"
        )
    return values, shape


def _weights(datum: Datum, index: int, size: int) -> AnyArray:
    tensor = datum.inputs.get("weights")
    if tensor is None:
        return np.ones(size)
    values = _dense(tensor, "weights", index)
    if values.size != size:
        raise UncomputableError(f"datum {index}: weights has {values.size} elements, target_tokens has {size}")
    return values


def _dense(tensor: Tensor, name: str, index: int) -> AnyArray:
    """Write a tensor out, after checking that its parts fit together."""
    where = f"datum {index}: {name}"
    if tensor.layout == "csr":
        _check_csr(tensor, where)
        return tensor.dense()
    if tensor.shape is not None and math.prod(tensor.shape) != tensor.values.size:
        raise UncomputableError(
            f"{where} has {tensor.values.size} elements, which do not fill its shape {list(tensor.shape)}"
        )
    return tensor.values


def _check_csr(tensor: Tensor, where: str) -> None:
    shape, crow, col = tensor.shape, tensor.crow, tensor.col
    if shape is None or len(shape) != 2 or crow is None or col is None:
        raise UncomputableError(
            f"{where} is sparse and needs a shape of two dimensions, row pointers and column indices"
        )
    rows, columns = shape
    if rows * columns > MAX_ELEMENTS:
        raise UncomputableError(f"{where} has {rows * columns} elements, more than {MAX_ELEMENTS}")
    steps = np.diff(crow)
    if crow.size != rows + 1 or crow[0] != 0 or crow[-1] != tensor.values.size or (steps < 0).any():
        raise UncomputableError(
            f"{where}: the row pointers do not fit {rows} rows and {tensor.values.size} stored values"
        )
    if col.size != tensor.values.size or (col < 0).any() or (col >= columns).any():
        raise UncomputableError(
            f"{where}: the column indices do not fit {columns} columns and {tensor.values.size} stored values"
        )
