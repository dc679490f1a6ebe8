"""What an operation does to a model: logprobs, gradient, optimizer step, save and load.

A `Trainer` is one model's numbers. It is not thread-safe; its tenant's lock guards it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mock_server import model, optimizer
from mock_server.model import Ints, Matrix
from mock_server.optimizer import AdamState, StepParams
from mock_server.record import AnyArray, Batch, Datum, Tensor
from mock_server.script import Script

MAX_ELEMENTS = 2**27
"""Bound on the elements of one CSR tensor once it is written out."""

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

    outputs: tuple[Mapping[str, Tensor], ...]
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True, eq=False)
class _Layout:
    """A batch laid out flat: one entry per logprob. `shapes` are those of target_tokens, per datum."""

    tokens: Ints
    targets: Ints
    positions: Ints
    weights: Matrix
    bounds: Ints
    shapes: tuple[tuple[int, ...], ...]


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
            self.gradient = np.zeros_like(self._table())

    def begin(self, kind: str, batch: Batch | None) -> None:
        """Note that an operation takes effect now. A model that computes needs no notice."""

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
                state = self._adam or AdamState(np.zeros_like(table), np.zeros_like(table))
                self._set(*optimizer.adamw(table, found, state, params))
            self.gradient = np.zeros_like(table)
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
        self.parameters, self._adam, self._logprobs = parameters, adam, None

    def _pass(self, kind: str, batch: Batch, *, backward: bool) -> Pass:
        layout = _lay_out(batch)
        exact = self._gather(layout)
        seen = exact.astype(np.float32)
        if backward and self._logprobs is not None and self.gradient is not None:
            self.gradient = self.gradient + model.gradient(
                self._logprobs, layout.tokens, layout.targets, layout.weights
            )
        outputs = self._outputs(layout, seen)
        drop = self._script.outputs.drop if kind == "forward" else 0
        loss = -float(np.sum(seen.astype(np.float64) * layout.weights))
        # a sum over nothing is 0.0, not -0.0
        return Pass(outputs[: len(outputs) - drop] if drop else outputs, self._metrics(kind, {"loss:sum": loss + 0.0}))

    def _gather(self, layout: _Layout) -> Matrix:
        kind = self._script.logprobs.kind
        if kind == "hash":
            return model.hash_logprobs(layout.tokens, layout.targets, layout.positions)
        if kind == "table":
            return model.table_logprobs(self._script.logprobs.table, layout.targets)
        self._check_vocabulary(layout)
        if self._logprobs is None:
            self._logprobs = model.log_softmax(self._table())
        result: Matrix = self._logprobs[layout.tokens, layout.targets]
        return result

    def _check_vocabulary(self, layout: _Layout) -> None:
        vocab = self._script.model.vocab
        for name, values in (("input token", layout.tokens), ("target token", layout.targets)):
            bad = np.flatnonzero((values < 0) | (values >= vocab))
            if bad.size:
                datum = int(np.searchsorted(layout.bounds, bad[0], side="right")) - 1
                raise UncomputableError(f"datum {datum}: {name} {values[bad[0]]} is outside the vocabulary of {vocab}")

    def _outputs(self, layout: _Layout, seen: AnyArray) -> tuple[Mapping[str, Tensor], ...]:
        outputs = self._script.outputs
        extra = np.full(outputs.extend, -1.0, dtype=np.float32)
        result: list[Mapping[str, Tensor]] = []
        for start, end, declared in zip(
            layout.bounds[:-1].tolist(), layout.bounds[1:].tolist(), layout.shapes, strict=True
        ):
            values = seen[start:end]
            shape: tuple[int, ...] | None = declared
            if outputs.extend:
                values = np.concatenate([values, extra])
            if outputs.shape == "omitted":
                shape = None
            elif outputs.shape == "flat" or outputs.extend:
                # an extended tensor no longer fills its declared shape
                shape = (values.size,)
            result.append({"logprobs": Tensor("float32", shape, values)})
        return tuple(result)

    def _metrics(self, kind: str, own: Mapping[str, float]) -> Mapping[str, float]:
        scripted = getattr(self._script.metrics, kind)
        ordinal = self._executed.get(kind, 0)
        self._executed[kind] = ordinal + 1
        return scripted[ordinal] if ordinal < len(scripted) else own


def _lay_out(batch: Batch) -> _Layout:
    """Check every datum's shapes and lay the batch out flat. Raises UncomputableError naming the datum."""
    tokens: list[AnyArray] = []
    targets: list[AnyArray] = []
    positions: list[AnyArray] = []
    weights: list[AnyArray] = []
    shapes: list[tuple[int, ...]] = []
    for index, datum in enumerate(batch.datums):
        wanted, shape = _targets(datum, index)
        length = datum.tokens.size
        each = wanted.size // length if length else 0
        place = np.arange(length, dtype=np.int64)
        tokens.append(datum.tokens if each == 1 else np.repeat(datum.tokens, each))
        positions.append(place if each == 1 else np.repeat(place, each))
        targets.append(wanted)
        weights.append(_weights(datum, index, wanted.size))
        shapes.append(shape)
    bounds = np.zeros(len(targets) + 1, dtype=np.int64)
    np.cumsum([t.size for t in targets], out=bounds[1:])
    return _Layout(
        _flat(tokens, np.int64), _flat(targets, np.int64), _flat(positions, np.int64), _flat(weights, np.float64),
        bounds, tuple(shapes),
    )  # fmt: skip


def _flat(parts: list[AnyArray], dtype: type) -> AnyArray:
    return np.concatenate(parts).astype(dtype, copy=False) if parts else np.zeros(0, dtype=dtype)


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
