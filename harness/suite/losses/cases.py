"""Makes the operation vectors: for each operation, graphs that use it in every shape it takes, on chosen numbers.

Each graph ends in a weighted sum with distinct weights, so that a gradient that lands on another element shows.
Numbers are exact in float32 and stay in the domain of the operation, its edges included.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.suite.losses.float64 import evaluate
from harness.suite.losses.operations import OPERATIONS
from harness.suite.losses.validate import validate
from harness.suite.losses.vectors import Expected, Vector
from harness.suite.scenario import Loss

Nodes = list[list[Any]]

_NEAR = (-2.5, -1.0, -0.25, 0.125, 0.75, 3.0)
_WIDE = (-60.0, -8.5, -0.5, 0.25, 6.0, 60.0)
_LARGE = (-15.5, -3.0, -0.125, 0.5, 2.25, 20.0)
_POSITIVE = (0.015625, 0.25, 1.0, 3.5, 40.0, 900.0)

_UNARY: dict[str, Sequence[float]] = {
    "neg": _LARGE,
    "abs": _LARGE,
    "exp": (-8.0, -1.5, -0.125, 0.0, 2.0, 6.25),
    "log": _POSITIVE,
    "log1p": (-0.96875, -0.5, 0.0009765625, 0.0, 3.5, 900.0),
    "expm1": (-8.0, -0.5, -0.0009765625, 0.0, 2.0, 6.25),
    "sqrt": _POSITIVE,
    "square": _LARGE,
    "recip": (-40.0, -0.5, -0.015625, 0.03125, 2.0, 100.0),
    "sigmoid": (*_WIDE[:5], 0.0),
    "tanh": (*_WIDE[:5], 0.0),
    "sin": _LARGE,
    "cos": _LARGE,
    "softplus": (*_WIDE[:5], 0.0),
    "logsigmoid": (*_WIDE[1:], 0.0),
    "relu": _LARGE,
    "stop_grad": _NEAR,
    "softmax": _NEAR,
    "log_softmax": _NEAR,
    "cumsum": _LARGE,
    "sum": _LARGE,
    "mean": _LARGE,
    "rmax": _LARGE,
    "rmin": _LARGE,
    "logsumexp": _WIDE,
    "var": _LARGE,
}
"""Operations of one argument, and six numbers to try them on."""

_BINARY = ("add", "sub", "mul", "div", "max", "min", "gt", "ge", "lt", "le", "dot")
_EXPONENTS = (2.0, 3.0, -1.0, 0.5, 2.5, 1.0, 0.0)
_BOUNDS = ((-1.5, 1.75), (0.25, 4.0), (-10.0, -0.375))
_OTHER = (2.0, -3.5, 0.5, -0.125, -0.75, 1.25)
_WEIGHTS = (1.0, -2.0, 0.5, 3.0, -0.25, 1.75)
_RAGGED = ((2,), (3,), (1,))
_SQUARE = ((2, 2), (1, 2))


def make_vectors() -> dict[str, tuple[Vector, ...]]:
    """Return the vectors of every operation, by file name without suffix; `compositions` and `empty` are more."""
    made = {name: tuple(_vectors(name)) for name in OPERATIONS}
    made["compositions"] = tuple(_compositions())
    made["empty"] = tuple(_empty())
    return made


def _vectors(name: str) -> Iterator[Vector]:
    if name in _UNARY:
        yield from _unary(name, _UNARY[name])
    elif name in _BINARY:
        yield from _binary(name)
    elif name == "pow":
        for exponent in _EXPONENTS:
            values = _NEAR if exponent.is_integer() else (*_POSITIVE[:4], 6.0, 8.0)
            yield _vector(f"pow/{exponent:g}", [["lps"], ["pow", 0, exponent], *_weigh(1, 2)], values)
    elif name == "clip":
        for low, high in _BOUNDS:
            yield _vector(f"clip/{low:g}..{high:g}", [["lps"], ["clip", 0, low, high], *_weigh(1, 2)], _LARGE)
    else:
        yield from _BY_NAME[name]()


def _weigh(node: int, following: int) -> Nodes:
    """Nodes that sum the elements of T node `node` under the weights; `following` is the index of the next node."""
    return [["fields", "w"], ["mul", node, following], ["sum", following + 1]]


def _tensor(array: NDArray[Any]) -> dict[str, Any]:
    dtype = "int64" if array.dtype.kind == "i" else "float32"
    data = [("-0.0" if value == 0 and np.signbit(value) else value) for value in array.ravel().tolist()]
    return {"dtype": dtype, "shape": list(array.shape), "data": data}


def _cut(values: Sequence[float], shapes: Sequence[tuple[int, ...]]) -> list[NDArray[Any]]:
    sizes = [int(np.prod(shape)) for shape in shapes]
    flat = np.array(values, dtype=np.float32)
    if flat.size != sum(sizes):
        raise ValueError(f"{flat.size} values for shapes {shapes}")
    parts = np.split(flat, np.cumsum(sizes)[:-1])
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]


def _vector(
    name: str,
    nodes: Nodes,
    values: Sequence[float],
    *,
    shapes: Sequence[tuple[int, ...]] = _RAGGED,
    other: Sequence[float] = _OTHER,
    metrics: dict[str, int] | None = None,
    extra: Sequence[dict[str, NDArray[Any]]] | None = None,
) -> Vector:
    """Build a vector from a graph whose last node is the loss; fields `w` and `b` are as long as the logprobs."""
    loss = Loss(nodes=tuple(tuple(node) for node in nodes), loss=len(nodes) - 1, metrics=metrics or {})
    validate(loss, place=name)
    logprobs = _cut(values, shapes)
    weights, others = _cut(_WEIGHTS[: len(values)], shapes), _cut(other[: len(values)], shapes)
    fields: list[dict[str, NDArray[Any]]] = [{"w": w, "b": b} for w, b in zip(weights, others, strict=True)]
    for datum, more in enumerate(extra or ()):
        fields[datum] |= more
    found = evaluate(loss, logprobs, fields)
    if found.gradients is None:
        raise ValueError(f"{name}: the loss is not a scalar")
    case = {
        "loss": {"nodes": nodes, "loss": loss.loss, "metrics": loss.metrics},
        "logprobs": [_tensor(part) for part in logprobs],
        "fields": [{key: _tensor(array) for key, array in datum.items()} for datum in fields],
    }
    gradients = tuple(None if part is None else tuple(map(_short, part.ravel().tolist())) for part in found.gradients)
    expected = Expected(
        loss=_short(float(found.loss)),
        metrics={key: _short(value) for key, value in found.metrics.items()},
        gradients=gradients,
    )
    return Vector(name=name, case=case, expected=expected)


def _short(value: float) -> float:
    """Keep 12 digits: far below every tolerance, and the same on every machine."""
    return float(f"{value:.12g}") + 0.0


def _unary(name: str, values: Sequence[float]) -> Iterator[Vector]:
    if OPERATIONS[name].shape == "reduce":
        yield _vector(f"{name}/ragged", [["lps"], [name, 0]], values)
        yield _vector(f"{name}/2-d", [["lps"], ["fields", "b"], ["mul", 0, 1], [name, 2]], values, shapes=_SQUARE)
        yield _vector(f"{name}/datum", [["lp", 1], [name, 0]], values)
        yield _vector(
            f"{name}/per-datum", [["lps"], ["seg_mean", 0], [name, 1], ["const", -0.5], ["mul", 2, 3]], values
        )
        yield _vector(f"{name}/metric", [["lps"], [name, 0], ["const", 0.5], ["mul", 1, 2]], values, metrics={"m": 1})
        return
    nodes: Nodes = [["lps"], [name, 0], *_weigh(1, 2)]
    if name == "stop_grad":
        nodes = [["lps"], [name, 0], ["mul", 0, 1], *_weigh(2, 3)]
    yield _vector(f"{name}/ragged", nodes, values)
    yield _vector(f"{name}/2-d", nodes, values, shapes=_SQUARE)
    yield _vector(f"{name}/datum", [["lp", 1], [name, 0], ["field", 1, "w"], ["mul", 0, 1], ["dot", 2, 3]], values)
    if OPERATIONS[name].shape == "same":
        picked: Nodes = [["lps"], ["take", 0, [3]], ["sum", 1], [name, 2], ["mul", 2, 3]]
        yield _vector(f"{name}/scalar", picked, values)
        held: Nodes = [["lps"], ["seg_mean", 0], ["seg_mean", 0], [name, 2], ["sub", 1, 3], ["sum", 4]]
        if name not in ("exp", "expm1"):
            yield _vector(f"{name}/per-datum", held, values)


def _binary(name: str) -> Iterator[Vector]:
    values = _LARGE
    # A comparison has no gradient of its own: it chooses what else has one.
    gate = name in ("gt", "ge", "lt", "le")

    def closed(start: Nodes, a: int, b: int, weigh: bool) -> Nodes:
        at = len(start)
        nodes = [*start, [name, a, b]]
        if gate:
            nodes.append(["mul", at, 0])
            at += 1
        if name == "dot":
            return nodes
        return [*nodes, *_weigh(at, at + 1)] if weigh else [*nodes, ["sum", at]]

    both: Nodes = [["lps"], ["fields", "b"]]
    yield _vector(f"{name}/ragged", closed(both, 0, 1, weigh=True), values)
    yield _vector(f"{name}/2-d", closed(both, 0, 1, weigh=True), values, shapes=_SQUARE)
    yield _vector(f"{name}/swapped", closed(both, 1, 0, weigh=True), values)
    if name == "dot":
        yield _vector("dot/itself", [["lps"], ["dot", 0, 0]], values)
        means: Nodes = [["lps"], ["seg_mean", 0], ["seg_sum", 0], ["dot", 1, 2]]
        yield _vector("dot/per-datum", means, values)
        return
    scalar: Nodes = [["lps"], ["const", 0.375]]
    yield _vector(f"{name}/scalar", closed(scalar, 0, 1, weigh=True), values)
    yield _vector(f"{name}/scalar-first", closed(scalar, 1, 0, weigh=True), values)
    mean: Nodes = [["lps"], ["mean", 0]]
    yield _vector(f"{name}/scalar-with-gradient", closed(mean, 0, 1, weigh=True), values)
    # Equal elements are outside the domain, but a comparison of exact numbers still has one value in every library.
    if gate:
        yield _vector(f"{name}/equal", closed(both, 0, 1, weigh=True), values, other=(*values[:3], 1.0, *values[4:]))
    elif name not in ("max", "min"):
        yield _vector(f"{name}/itself", closed([["lps"]], 0, 0, weigh=True), values)


def _lps() -> Iterator[Vector]:
    yield _vector("lps/ragged", [["lps"], *_weigh(0, 1)], _LARGE)
    yield _vector("lps/2-d", [["lps"], *_weigh(0, 1)], _LARGE, shapes=((3, 2),))
    yield _vector("lps/unused-element", [["lps"], ["take", 0, [0]], ["sum", 1]], _LARGE)
    yield _vector("lps/twice", [["lps"], ["lps"], ["square", 1], ["mul", 0, 2], ["sum", 3]], _NEAR)


def _fields() -> Iterator[Vector]:
    yield _vector(
        "fields/ragged", [["lps"], ["fields", "b"], ["mul", 0, 1], ["sum", 2], ["sum", 1], ["add", 3, 4]], _LARGE
    )
    extra = [{"k": np.array(part)} for part in ([1, 2], [3, 4, 5], [-6])]
    yield _vector("fields/int64", [["lps"], ["fields", "k"], ["mul", 0, 1], ["sum", 2]], _LARGE, extra=extra)


def _lens() -> Iterator[Vector]:
    nodes: Nodes = [["lps"], ["seg_sum", 0], ["lens"], ["div", 1, 2], ["dot", 2, 3]]
    yield _vector("lens/ragged", nodes, _LARGE)
    yield _vector("lens/2-d", [["lps"], ["seg_sum", 0], ["lens"], ["dot", 1, 2]], _LARGE, shapes=_SQUARE)


def _lp() -> Iterator[Vector]:
    yield _vector("lp/one-of-three", [["lp", 1], ["square", 0], ["sum", 1]], _LARGE)
    yield _vector("lp/two", [["lp", 0], ["lp", 2], ["sum", 0], ["mul", 1, 2], ["sum", 3]], _LARGE)
    yield _vector("lp/with-lps", [["lps"], ["lp", 2], ["sum", 0], ["sum", 1], ["mul", 2, 3]], _LARGE)
    yield _vector("lp/2-d", [["lp", 1], ["field", 1, "w"], ["dot", 0, 1]], _LARGE, shapes=_SQUARE)
    yield _vector("lp/no-path", [["lp", 0], ["lp", 1], ["stop_grad", 1], ["sum", 2], ["mul", 0, 3], ["sum", 4]], _NEAR)


def _field() -> Iterator[Vector]:
    extra = [{"c": np.array([2.0, -1.0, 0.5, 4.0], dtype=np.float32)}]
    nodes: Nodes = [["lps"], ["field", 0, "c"], ["logsumexp", 1], ["mul", 0, 2], ["sum", 3]]
    yield _vector("field/other-length", nodes, _LARGE, extra=extra)
    yield _vector("field/one-of-three", [["lp", 1], ["field", 1, "b"], ["dot", 0, 1]], _LARGE)


def _const() -> Iterator[Vector]:
    for number in (0.1, -3, 0.0, 1e-6):
        yield _vector(f"const/{number}", [["lps"], ["const", number], ["mul", 0, 1], ["sum", 2]], _LARGE)


def _seg(name: str) -> Iterator[Vector]:
    nodes: Nodes = [["lps"], [name, 0], ["square", 1], ["sum", 2]]
    yield _vector(f"{name}/ragged", nodes, _LARGE)
    yield _vector(f"{name}/2-d", nodes, _LARGE, shapes=_SQUARE)
    yield _vector(f"{name}/one-datum", nodes, _LARGE, shapes=((6,),))
    yield _vector(f"{name}/single-elements", nodes, _LARGE, shapes=((1,),) * 6)


def _expand() -> Iterator[Vector]:
    nodes: Nodes = [["lps"], ["seg_sum", 0], ["expand", 1], ["mul", 0, 2], *_weigh(3, 4)]
    yield _vector("expand/ragged", nodes, _LARGE)
    yield _vector("expand/2-d", nodes, _LARGE, shapes=_SQUARE)
    yield _vector("expand/lens", [["lens"], ["expand", 0], ["lps"], ["div", 2, 1], *_weigh(3, 4)], _LARGE)


def _take() -> Iterator[Vector]:
    yield _vector("take/elements", [["lps"], ["take", 0, [5, 0, 3]], ["square", 1], ["sum", 2]], _LARGE)
    yield _vector("take/repeated", [["lps"], ["take", 0, [1, 1, 4]], ["square", 1], ["cumsum", 2], ["sum", 3]], _LARGE)
    pairs: Nodes = [["lps"], ["seg_sum", 0], ["take", 1, [0, 2]], ["take", 1, [1, 1]], ["mul", 2, 3], ["sum", 4]]
    yield _vector("take/datums", pairs, _NEAR)
    yield _vector("take/of-a-datum", [["lp", 1], ["take", 0, [2]], ["sum", 1]], _LARGE)


def _where() -> Iterator[Vector]:
    above: Nodes = [["lps"], ["fields", "b"], ["gt", 0, 1]]
    yield _vector("where/ragged", [*above, ["square", 0], ["neg", 0], ["where", 2, 3, 4], *_weigh(5, 6)], _LARGE)
    scalars: Nodes = [*above, ["mean", 0], ["const", -1.0], ["where", 2, 3, 4], *_weigh(5, 6)]
    yield _vector("where/scalars", scalars, _LARGE)
    yield _vector(
        "where/field",
        [["lps"], ["fields", "b"], ["where", 1, 0, 1], *_weigh(2, 3)],
        _LARGE,
        other=(0, 1, -2, 0, 0.5, 0),
    )


def _compositions() -> Iterator[Vector]:
    yield _vector(
        "compositions/ppo",
        [
            ["lps"],
            ["fields", "b"],
            ["sub", 0, 1],
            ["exp", 2],
            ["clip", 3, 0.75, 1.25],
            ["fields", "w"],
            ["mul", 3, 5],
            ["mul", 4, 5],
            ["min", 6, 7],
            ["mean", 8],
            ["neg", 9],
            ["mean", 3],
            ["const", 0.0],
            ["mul", 11, 12],
            ["add", 10, 13],
        ],
        (-1.0, -2.0, -0.5, -3.0, -0.125, -1.5),
        other=(-1.125, -1.75, -0.5625, -2.0, -0.25, -2.75),
        metrics={"ratio": 11},
    )
    yield _vector(
        "compositions/dpo",
        [
            ["lps"],
            ["seg_sum", 0],
            ["take", 1, [0, 1]],
            ["take", 1, [1, 2]],
            ["sub", 2, 3],
            ["const", 0.25],
            ["mul", 4, 5],
            ["logsigmoid", 6],
            ["mean", 7],
            ["neg", 8],
        ],
        _NEAR,
    )
    yield _vector(
        "compositions/group",
        [
            ["lps"],
            ["seg_mean", 0],
            ["mean", 1],
            ["sub", 1, 2],
            ["var", 1],
            ["const", 0.125],
            ["add", 4, 5],
            ["sqrt", 6],
            ["div", 3, 7],
            ["stop_grad", 8],
            ["expand", 9],
            ["mul", 10, 0],
            ["sum", 11],
        ],
        _NEAR,
    )
    yield _vector(
        "compositions/softmax-over-datums",
        [
            ["lps"],
            ["seg_sum", 0],
            ["softmax", 1],
            ["log_softmax", 1],
            ["dot", 2, 3],
            ["logsumexp", 1],
            ["add", 4, 5],
        ],
        _NEAR,
    )
    chain: Nodes = [["lps"]]
    for index in range(40):
        chain += [["tanh", 2 * index], ["add", 2 * index, 2 * index + 1]]
    yield _vector("compositions/deep-and-shared", [*chain, ["mean", 80]], (-0.5, 0.25, 0.125, -0.75, 1.0, -1.25))


def _empty() -> Iterator[Vector]:
    """Make a datum without elements: sums and means over it are 0, and its gradient has no elements."""
    shapes = ((2,), (0,), (4,))
    for name in ("seg_sum", "seg_mean"):
        nodes: Nodes = [["lps"], [name, 0], ["exp", 1], ["sum", 2]]
        yield _vector(f"empty/{name}", nodes, _NEAR, shapes=shapes)
    nodes = [["lps"], ["lens"], ["expand", 1], ["mul", 0, 2], ["sum", 3]]
    yield _vector("empty/expand", nodes, _NEAR, shapes=shapes)


_BY_NAME = {
    "lps": _lps,
    "fields": _fields,
    "lens": _lens,
    "lp": _lp,
    "field": _field,
    "const": _const,
    "seg_sum": lambda: _seg("seg_sum"),
    "seg_mean": lambda: _seg("seg_mean"),
    "expand": _expand,
    "take": _take,
    "where": _where,
}
