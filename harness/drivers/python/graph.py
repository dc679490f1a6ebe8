"""Evaluates a loss graph with torch: the loss callback of every Python driver.

The format is described in `docs/losses.md`. This module needs the standard library and torch only: it is run by the
interpreter of the SDK under test, which cannot import `harness`.

Values keep the dtype of the logprobs: constants and fields are converted to it, so that float32 stays float32.
Ragged operations use one flat tensor of all tokens and a segment index; the cost is linear in nodes and tokens, and
the only loops over datums are the ones that collect the tensors to concatenate.

A graph is expected to be valid (`harness.suite.losses.validate`). What only the data can show - an unknown field, a
field of another length, vectors of unequal length, an index past the end - raises `GraphError`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

Fields = Sequence[Mapping[str, Tensor]]


class GraphError(ValueError):
    """The graph does not fit the data it is evaluated on, or is not a graph."""


class _Inputs:
    """The logprobs and fields of one evaluation, and what the ragged operations derive from them."""

    def __init__(self, logprobs: Sequence[Tensor], fields: Fields) -> None:
        if len(logprobs) != len(fields):
            raise GraphError(f"{len(logprobs)} logprobs but fields of {len(fields)} datums")
        self.logprobs = logprobs
        self.fields = fields
        self.dtype = logprobs[0].dtype if logprobs else torch.float32
        self.device = logprobs[0].device if logprobs else torch.device("cpu")
        self.lengths = [leaf.numel() for leaf in logprobs]
        self._lens: Tensor | None = None
        self._segments: Tensor | None = None

    @property
    def lens(self) -> Tensor:
        """The number of elements of each datum's logprobs, int64, shape `[n]`."""
        if self._lens is None:
            self._lens = torch.tensor(self.lengths, dtype=torch.int64, device=self.device)
        return self._lens

    @property
    def segments(self) -> Tensor:
        """The datum each token belongs to, int64, shape `[tokens]`."""
        if self._segments is None:
            datums = torch.arange(len(self.lengths), device=self.device)
            self._segments = torch.repeat_interleave(datums, self.lens)
        return self._segments

    def constant(self, value: float) -> Tensor:
        """Return a scalar of the dtype of the logprobs."""
        return torch.tensor(float(value), dtype=self.dtype, device=self.device)

    def index(self, datum: int) -> int:
        """Return `datum` if there is such a datum."""
        if not 0 <= datum < len(self.logprobs):
            raise GraphError(f"no datum {datum}: there are {len(self.logprobs)}")
        return datum

    def field_of(self, datum: int, key: str) -> Tensor:
        """Return one datum's field, flattened row-major."""
        try:
            return self.fields[datum][key].reshape(-1)
        except KeyError:
            raise GraphError(f"datum {datum} has no field {key!r}") from None

    def concat(self, parts: list[Tensor]) -> Tensor:
        """Concatenate into one flat tensor; an empty one when there is no datum."""
        return torch.cat(parts) if parts else torch.zeros(0, dtype=self.dtype, device=self.device)


# --- leaves -----------------------------------------------------------------------------------------------------------


def _lps(inputs: _Inputs) -> Tensor:
    return inputs.concat([leaf.reshape(-1) for leaf in inputs.logprobs])


def _fields(inputs: _Inputs, key: str) -> Tensor:
    parts = [inputs.field_of(datum, key) for datum in range(len(inputs.fields))]
    for datum, (part, length) in enumerate(zip(parts, inputs.lengths, strict=True)):
        if part.numel() != length:
            raise GraphError(f"field {key!r} of datum {datum} has {part.numel()} values, its logprobs {length}")
    return inputs.concat(parts).to(device=inputs.device, dtype=inputs.dtype)


def _lens(inputs: _Inputs) -> Tensor:
    return inputs.lens.to(inputs.dtype)


def _lp(inputs: _Inputs, datum: int) -> Tensor:
    return inputs.logprobs[inputs.index(datum)].reshape(-1)


def _field(inputs: _Inputs, datum: int, key: str) -> Tensor:
    return inputs.field_of(inputs.index(datum), key).to(device=inputs.device, dtype=inputs.dtype)


_LEAVES: dict[str, Callable[..., Tensor]] = {
    "lps": _lps,
    "fields": _fields,
    "lens": _lens,
    "lp": _lp,
    "field": _field,
    "const": _Inputs.constant,
}

# --- ragged operations, and those that take literals ------------------------------------------------------------------


def _seg_sum(inputs: _Inputs, a: Tensor) -> Tensor:
    _same_length(a, inputs.segments)
    start = torch.zeros(len(inputs.lengths), dtype=a.dtype, device=a.device)
    return start.index_add(0, inputs.segments, a)


def _seg_mean(inputs: _Inputs, a: Tensor) -> Tensor:
    # A datum without tokens has mean 0: its sum, 0, is divided by 1 instead of by 0.
    return _seg_sum(inputs, a) / inputs.lens.clamp(min=1).to(a.dtype)


def _expand(inputs: _Inputs, a: Tensor) -> Tensor:
    _same_length(a, inputs.lens)
    return a.index_select(0, inputs.segments)


def _take(inputs: _Inputs, a: Tensor, indices: Sequence[int]) -> Tensor:
    for index in indices:
        if not 0 <= index < a.numel():
            raise GraphError(f"take: no element {index}: there are {a.numel()}")
    return a.index_select(0, torch.tensor(list(indices), dtype=torch.int64, device=inputs.device))


def _pow(_inputs: _Inputs, a: Tensor, exponent: float) -> Tensor:
    return torch.pow(a, float(exponent))


def _clip(inputs: _Inputs, a: Tensor, low: float, high: float) -> Tensor:
    return torch.minimum(torch.maximum(a, inputs.constant(low)), inputs.constant(high))


_WITH_LITERALS: dict[str, Callable[..., Tensor]] = {
    "seg_sum": _seg_sum,
    "seg_mean": _seg_mean,
    "expand": _expand,
    "take": _take,
    "pow": _pow,
    "clip": _clip,
}

# --- operations on tensors only ---------------------------------------------------------------------------------------


def _relu(a: Tensor) -> Tensor:
    return torch.maximum(a, torch.zeros((), dtype=a.dtype, device=a.device))


def _softplus(a: Tensor) -> Tensor:
    # Not torch.nn.functional.softplus: above its threshold that is the identity.
    return torch.logaddexp(a, torch.zeros_like(a))


_UNARY: dict[str, Callable[[Tensor], Tensor]] = {
    "neg": torch.neg,
    "abs": torch.abs,
    "exp": torch.exp,
    "log": torch.log,
    "log1p": torch.log1p,
    "expm1": torch.expm1,
    "sqrt": torch.sqrt,
    "square": torch.square,
    "recip": torch.reciprocal,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "sin": torch.sin,
    "cos": torch.cos,
    "softplus": _softplus,
    "logsigmoid": torch.nn.functional.logsigmoid,
    "relu": _relu,
    "stop_grad": torch.Tensor.detach,
    "sum": torch.sum,
    "mean": torch.mean,
    "rmax": torch.amax,
    "rmin": torch.amin,
    "logsumexp": lambda a: torch.logsumexp(a, dim=0),
    "var": lambda a: torch.var(a, correction=0),
    "softmax": lambda a: torch.softmax(a, dim=0),
    "log_softmax": lambda a: torch.log_softmax(a, dim=0),
    "cumsum": lambda a: torch.cumsum(a, dim=0),
}


def _where(condition: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return torch.where(condition != 0, a, b)


_ELEMENTWISE: dict[str, Callable[..., Tensor]] = {
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "div": torch.div,
    "max": torch.maximum,
    "min": torch.minimum,
    "gt": lambda a, b: (a > b).to(a.dtype),
    "ge": lambda a, b: (a >= b).to(a.dtype),
    "lt": lambda a, b: (a < b).to(a.dtype),
    "le": lambda a, b: (a <= b).to(a.dtype),
    "where": _where,
    "dot": torch.dot,
}


def _same_length(a: Tensor, b: Tensor) -> None:
    if a.shape != b.shape:
        raise GraphError(f"{a.numel()} values where {b.numel()} are needed")


def _same_shapes(tensors: Sequence[Tensor]) -> None:
    """Refuse what torch would broadcast: all operands that are not scalars have one shape."""
    shapes = {tensor.shape for tensor in tensors if tensor.dim()}
    if len(shapes) > 1:
        raise GraphError(f"operands of lengths {sorted(shape[0] for shape in shapes)}")


# --- evaluation -------------------------------------------------------------------------------------------------------


def _node(node: Sequence[Any], values: list[Tensor], inputs: _Inputs) -> Tensor:
    op, *arguments = node
    leaf = _LEAVES.get(op)
    if leaf is not None:
        return leaf(inputs, *arguments)
    unary = _UNARY.get(op)
    if unary is not None:
        return unary(values[arguments[0]])
    special = _WITH_LITERALS.get(op)
    if special is not None:
        return special(inputs, values[arguments[0]], *arguments[1:])
    elementwise = _ELEMENTWISE.get(op)
    if elementwise is None:
        raise GraphError(f"unknown operation {op!r}")
    operands = [values[argument] for argument in arguments]
    _same_shapes(operands)
    return elementwise(*operands)


def _regularizers(loss: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    return (loss.get("apart") or {}).get("regularizers") or ()


def evaluate(loss: Mapping[str, Any], logprobs: Sequence[Tensor], fields: Fields) -> tuple[Tensor, dict[str, float]]:
    """Evaluate a loss graph: what a loss callback returns.

    `loss` is the content of a loss file: `nodes`, `loss`, and optionally `metrics`, `fail` and `apart`, of which only
    counts that a regularizer may `fail`. `logprobs` holds one
    floating-point tensor per datum, of any shape (flattened row-major inside the graph); gradients reach those that
    require them. `fields` holds the loss_fn_inputs of each datum, by name.

    Returns the loss node (attached to the autograd graph, of the dtype of the logprobs; a scalar unless the graph
    says otherwise) and the metrics as Python floats.

    Raises RuntimeError with the message of `fail` when that is given, of the loss or of one of its regularizers, and
    GraphError when the graph does not fit the data.
    """
    for failure in (loss.get("fail"), *(term.get("fail") for term in _regularizers(loss))):
        if failure is not None:
            raise RuntimeError(failure)
    inputs = _Inputs(logprobs, fields)
    values: list[Tensor] = []
    for position, node in enumerate(loss["nodes"]):
        try:
            values.append(_node(node, values, inputs))
        except GraphError as error:
            raise GraphError(f"nodes[{position}] {node[0]}: {error}") from None
    metrics = {name: float(values[index].detach()) for name, index in (loss.get("metrics") or {}).items()}
    return values[loss["loss"]], metrics


def value_and_gradients(
    loss: Mapping[str, Any], logprobs: Sequence[Tensor], fields: Fields
) -> tuple[Tensor, dict[str, float], list[Tensor | None]]:
    """Evaluate a scalar loss graph and differentiate it with respect to every datum's logprobs.

    Returns the detached loss, the metrics, and per datum the gradient in the shape and dtype of its logprobs, or
    None where the loss does not depend on that tensor. A datum that is reached through `lps` always has a gradient,
    if only zeros. Raises what `evaluate` raises.
    """
    leaves = [leaf.detach().clone().requires_grad_() for leaf in logprobs]
    value, metrics = evaluate(loss, leaves, fields)
    if value.requires_grad:
        value.backward()  # type: ignore[no-untyped-call]  # torch ships it without annotations
    return value.detach(), metrics, [leaf.grad for leaf in leaves]
