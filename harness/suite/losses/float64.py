"""Loss graphs evaluated in float64 by hand-written derivatives: the second opinion.

It shares no code with the torch evaluator and uses no autodiff library: every operation gives its value and a function
that pulls a gradient back to its arguments. The operation vectors are made with it, and a graph can be rechecked with
it on the numbers of a run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.suite.losses.operations import OPERATIONS
from harness.suite.scenario import Loss

Array = NDArray[np.float64]
Pull = Callable[[Array], tuple[Array | None, ...]]
"""From the gradient of a node to those of its node arguments; None where nothing flows."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A loss graph on data, in float64.

    `values` holds the value of every node (a scalar has shape `[]`), `lengths` the number of elements of each datum.
    `gradients` has one entry per datum, in the shape of its logprobs, or None where the loss does not depend on them
    (reached through `lps`, every datum has one). It is None as a whole when the loss is not a scalar.
    """

    values: tuple[Array, ...]
    loss: Array
    metrics: dict[str, float]
    gradients: tuple[Array | None, ...] | None
    lengths: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Inputs:
    logprobs: tuple[Array, ...]
    fields: tuple[Mapping[str, NDArray[Any]], ...]
    lens: NDArray[np.int64]
    segments: NDArray[np.int64]


def evaluate(loss: Loss, logprobs: Sequence[NDArray[Any]], fields: Sequence[Mapping[str, NDArray[Any]]]) -> Evaluation:
    """Evaluate and differentiate a validated loss graph.

    `logprobs` holds one array per datum, of any shape (flattened row-major inside the graph), `fields` its inputs by
    name. `fail` is ignored: the graph is evaluated all the same. Outside an operation's domain the result is what
    IEEE arithmetic gives; a reduction of nothing that has no value is NaN.

    Raises KeyError for an unknown field, IndexError for an unknown datum or element, ValueError for unequal lengths.
    """
    if len(logprobs) != len(fields):
        raise ValueError(f"{len(logprobs)} logprobs but fields of {len(fields)} datums")
    leaves = tuple(np.asarray(leaf, dtype=np.float64) for leaf in logprobs)
    lens = np.array([leaf.size for leaf in leaves], dtype=np.int64)
    inputs = _Inputs(leaves, tuple(fields), lens, np.repeat(np.arange(len(leaves)), lens))
    values: list[Array] = []
    pulls: list[Pull | None] = []
    # Outside its domain an operation gives what IEEE arithmetic gives; the domain check reports it.
    with np.errstate(all="ignore"):
        for node in loss.nodes:
            value, pull = _node(node, values, inputs)
            values.append(value)
            pulls.append(pull)
        gradients = _backward(loss, values, pulls, inputs) if values[loss.loss].ndim == 0 else None
    metrics = {name: float(values[index]) for name, index in loss.metrics.items()}
    return Evaluation(tuple(values), values[loss.loss], metrics, gradients, tuple(lens.tolist()))


def _node(node: Sequence[Any], values: list[Array], inputs: _Inputs) -> tuple[Array, Pull | None]:
    name, *arguments = node
    if name in _LEAVES:
        return np.asarray(_LEAVES[name](inputs, *arguments), dtype=np.float64), None
    kinds = OPERATIONS[name].arguments
    operands = [
        values[argument] if kind == "node" else argument for kind, argument in zip(kinds, arguments, strict=True)
    ]
    if name in _RAGGED:
        value, pull = _RAGGED[name](inputs, *operands)
    else:
        arrays = [operand for operand, kind in zip(operands, kinds, strict=True) if kind == "node"]
        if len({array.shape for array in arrays if array.ndim}) > 1:
            raise ValueError(f"{name}: operands of lengths {[array.size for array in arrays]}")
        value, pull = _PLAIN[name](*operands)
    return np.asarray(value, dtype=np.float64), pull


def _backward(loss: Loss, values: list[Array], pulls: list[Pull | None], inputs: _Inputs) -> tuple[Array | None, ...]:
    flowing: list[Array | None] = [None] * len(values)
    flowing[loss.loss] = np.ones(())
    found: list[Array | None] = [None] * len(inputs.logprobs)
    ends = np.cumsum(inputs.lens)

    def give(datum: int, part: Array) -> None:
        part = part.reshape(inputs.logprobs[datum].shape)
        earlier = found[datum]
        found[datum] = part.copy() if earlier is None else earlier + part

    for index in range(loss.loss, -1, -1):
        gradient = flowing[index]
        if gradient is None:
            continue
        name, *arguments = loss.nodes[index]
        pull = pulls[index]
        if name == "lps":
            for datum, (end, length) in enumerate(zip(ends.tolist(), inputs.lens.tolist(), strict=True)):
                give(datum, gradient[end - length : end])
        elif name == "lp":
            give(arguments[0], gradient)
        elif pull is not None:
            targets = [a for a, kind in zip(arguments, OPERATIONS[name].arguments, strict=True) if kind == "node"]
            for target, part in zip(targets, pull(gradient), strict=True):
                if part is not None:
                    fitted = _fit(part, values[target])
                    earlier = flowing[target]
                    flowing[target] = fitted if earlier is None else earlier + fitted
    return tuple(found)


def _fit(gradient: Array, operand: Array) -> Array:
    """Sum over what a scalar operand was spread to; spread over what a reduction collapsed."""
    if operand.ndim == 0:
        return np.asarray(gradient.sum())
    return np.broadcast_to(gradient, operand.shape)


# --- leaves and ragged operations -------------------------------------------------------------------------------------


def _fields(inputs: _Inputs, key: str) -> Array:
    parts = [np.asarray(field[key], dtype=np.float64).ravel() for field in inputs.fields]
    for datum, (part, length) in enumerate(zip(parts, inputs.lens.tolist(), strict=True)):
        if part.size != length:
            raise ValueError(f"field {key!r} of datum {datum} has {part.size} values, its logprobs {length}")
    return np.concatenate(parts) if parts else np.zeros(0)


_LEAVES: dict[str, Callable[..., Any]] = {
    "lps": lambda inputs: np.concatenate([leaf.ravel() for leaf in inputs.logprobs] or [np.zeros(0)]),
    "fields": _fields,
    "lens": lambda inputs: inputs.lens,
    "lp": lambda inputs, datum: inputs.logprobs[datum].ravel(),
    "field": lambda inputs, datum, key: np.asarray(inputs.fields[datum][key]).ravel(),
    "const": lambda _inputs, number: number,
}

Result = tuple[Any, Pull]


def _sums(places: NDArray[np.int64], a: Array, count: int) -> Array:
    """Add up the elements of `a` that go to each of `count` places."""
    return np.bincount(places, weights=a, minlength=count).astype(np.float64)


def _seg_sum(inputs: _Inputs, a: Array) -> Result:
    value = _sums(inputs.segments, a, len(inputs.lens))
    return value, lambda g: (g[inputs.segments],)


def _seg_mean(inputs: _Inputs, a: Array) -> Result:
    lens = np.maximum(inputs.lens, 1)
    value = _sums(inputs.segments, a, len(lens)) / lens
    return value, lambda g: ((g / lens)[inputs.segments],)


def _expand(inputs: _Inputs, a: Array) -> Result:
    count = len(inputs.lens)
    return a[inputs.segments], lambda g: (_sums(inputs.segments, g, count),)


def _take(_inputs: _Inputs, a: Array, indices: Sequence[int]) -> Result:
    where = np.array(indices, dtype=np.int64)
    return a[where], lambda g: (_sums(where, g, a.size),)


_RAGGED: dict[str, Callable[..., Result]] = {
    "seg_sum": _seg_sum,
    "seg_mean": _seg_mean,
    "expand": _expand,
    "take": _take,
}

# --- elementwise ------------------------------------------------------------------------------------------------------


def _sigmoid(a: Array) -> Array:
    return np.asarray(np.exp(-np.logaddexp(0.0, -a)))


def _by(value: Any, slope: Any) -> Result:
    """Build the result of an elementwise operation of one argument from its value and its derivative."""
    return value, lambda g: (g * slope,)


def _exp(a: Array) -> Result:
    value = np.exp(a)
    return _by(value, value)


def _sqrt(a: Array) -> Result:
    value = np.sqrt(a)
    return _by(value, 0.5 / value)


def _tanh(a: Array) -> Result:
    value = np.tanh(a)
    return _by(value, 1.0 - value * value)


def _logistic(a: Array) -> Result:
    return _by(_sigmoid(a), _sigmoid(a) * _sigmoid(-a))


def _step(a: Array) -> Array:
    """Differentiate max(a, 0): one half at 0, as when both operands of a maximum share a tie."""
    return np.heaviside(a, 0.5)


def _pow(a: Array, exponent: float) -> Result:
    return _by(np.power(a, float(exponent)), exponent * np.power(a, exponent - 1.0) if exponent else np.zeros_like(a))


def _clip(a: Array, low: float, high: float) -> Result:
    return _by(np.minimum(np.maximum(a, low), high), _step(a - low) * _step(high - a))


def _extreme(pick: Callable[[Array, Array], Array], sign: float) -> Callable[[Array, Array], Result]:
    def operation(a: Array, b: Array) -> Result:
        share = np.heaviside(sign * (a - b), 0.5)
        return pick(a, b), lambda g: (g * share, g * (1.0 - share))

    return operation


def _comparison(compare: Callable[[Array, Array], Any]) -> Callable[[Array, Array], Result]:
    return lambda a, b: (np.asarray(compare(a, b), dtype=np.float64), lambda _g: (None, None))


def _where(condition: Array, a: Array, b: Array) -> Result:
    chosen = condition != 0
    return np.where(chosen, a, b), lambda g: (None, np.where(chosen, g, 0.0), np.where(chosen, 0.0, g))


# --- reductions and vectors -------------------------------------------------------------------------------------------


def _mean(a: Array) -> Result:
    value = a.mean() if a.size else np.nan
    return value, lambda g: (np.full_like(a, g / max(a.size, 1)),)


def _edge(pick: Callable[[Array], Any]) -> Callable[[Array], Result]:
    def operation(a: Array) -> Result:
        value = pick(a) if a.size else np.nan
        tied = (a == value).astype(np.float64)
        return value, lambda g: (g * tied / max(tied.sum(), 1.0),)

    return operation


def _shifted(a: Array) -> tuple[Any, Array]:
    """Return log(sum(exp(a))) and the softmax of a, without overflow."""
    if not a.size:
        return np.nan, a
    top = a.max()
    weights = np.exp(a - top)
    total = weights.sum()
    return top + np.log(total), weights / total


def _logsumexp(a: Array) -> Result:
    value, shares = _shifted(a)
    return _by(value, shares)


def _var(a: Array) -> Result:
    if not a.size:
        return np.nan, lambda _g: (a,)
    offsets = a - a.mean()
    return (offsets * offsets).mean(), lambda g: (g * 2.0 * offsets / a.size,)


def _softmax(a: Array) -> Result:
    shares = _shifted(a)[1]
    return shares, lambda g: (shares * (g - (g * shares).sum()),)


def _log_softmax(a: Array) -> Result:
    value, shares = _shifted(a)
    return a - value, lambda g: (g - shares * g.sum(),)


_PLAIN: dict[str, Callable[..., Result]] = {
    "neg": lambda a: _by(-a, -1.0),
    "abs": lambda a: _by(np.abs(a), np.sign(a)),
    "exp": _exp,
    "log": lambda a: _by(np.log(a), 1.0 / a),
    "log1p": lambda a: _by(np.log1p(a), 1.0 / (1.0 + a)),
    "expm1": lambda a: _by(np.expm1(a), np.exp(a)),
    "sqrt": _sqrt,
    "square": lambda a: _by(a * a, 2.0 * a),
    "recip": lambda a: _by(1.0 / a, -1.0 / (a * a)),
    "sigmoid": _logistic,
    "tanh": _tanh,
    "sin": lambda a: _by(np.sin(a), np.cos(a)),
    "cos": lambda a: _by(np.cos(a), -np.sin(a)),
    "softplus": lambda a: _by(np.logaddexp(a, 0.0), _sigmoid(a)),
    "logsigmoid": lambda a: _by(-np.logaddexp(0.0, -a), _sigmoid(-a)),
    "relu": lambda a: _by(np.maximum(a, 0.0), _step(a)),
    "add": lambda a, b: (a + b, lambda g: (g, g)),
    "sub": lambda a, b: (a - b, lambda g: (g, -g)),
    "mul": lambda a, b: (a * b, lambda g: (g * b, g * a)),
    "div": lambda a, b: (a / b, lambda g: (g / b, -g * a / (b * b))),
    "max": _extreme(np.maximum, 1.0),
    "min": _extreme(np.minimum, -1.0),
    "pow": _pow,
    "clip": _clip,
    "gt": _comparison(np.greater),
    "ge": _comparison(np.greater_equal),
    "lt": _comparison(np.less),
    "le": _comparison(np.less_equal),
    "where": _where,
    "stop_grad": lambda a: (a, lambda _g: (None,)),
    "sum": lambda a: (a.sum(), lambda g: (g,)),
    "mean": _mean,
    "rmax": _edge(np.max),
    "rmin": _edge(np.min),
    "logsumexp": _logsumexp,
    "var": _var,
    "dot": lambda a, b: (a @ b, lambda g: (g * b, g * a)),
    "softmax": _softmax,
    "log_softmax": _log_softmax,
    "cumsum": lambda a: (np.cumsum(a), lambda g: (np.cumsum(g[::-1])[::-1],)),
}
