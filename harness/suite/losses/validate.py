"""The static check of a loss graph: operations, arguments and shapes, before any data is seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.errors import ParityError
from harness.suite.losses.apart import malformed_apart
from harness.suite.losses.effects import malformed_effects
from harness.suite.losses.operations import OPERATIONS, ArgumentKind, Operation
from harness.suite.losses.shapes import SCALAR, Shape
from harness.suite.scenario import Loss


class _BrokenError(Exception):
    """What is wrong with one node."""


def validate(loss: Loss, *, place: str = "loss") -> tuple[Shape, ...]:
    """Return the shape of every node of a loss graph.

    The loss node may have any shape (`shapes[loss.loss]` tells): that a callback returns a vector is something a
    scenario may want. Metrics must be scalars. `place` names the loss in errors.

    Raises ParityError `loss-malformed` for an unknown operation, wrong arguments, an index that is not an earlier
    node, shapes that an operation does not take, a delay beyond a second, effects that make no sense on any data, and
    parts that make no sense or of which one callback is no equal.
    """
    shapes: list[Shape] = []
    for position, node in enumerate(loss.nodes):
        try:
            shapes.append(_shape_of(node, shapes))
        except _BrokenError as broken:
            raise _malformed(f"{place}: nodes[{position}]", str(broken)) from None
    if not shapes:
        raise _malformed(f"{place}: nodes", "there is no node")
    if not 0 <= loss.loss < len(shapes):
        raise _malformed(f"{place}: loss", f"{loss.loss} is not a node: there are {len(shapes)}")
    for name, index in loss.metrics.items():
        _check_scalar(index, shapes, place=f"{place}: metrics[{name!r}]", what="a metric")
    if what := malformed_effects(loss) or malformed_apart(loss, shapes):
        raise _malformed(place, what)
    return tuple(shapes)


def _check_scalar(index: int, shapes: Sequence[Shape], *, place: str, what: str) -> None:
    if not 0 <= index < len(shapes):
        raise _malformed(place, f"{index} is not a node: there are {len(shapes)}")
    if shapes[index] != SCALAR:
        raise _malformed(place, f"node {index} is {shapes[index]}, {what} is a scalar")


def _malformed(place: str, what: str) -> ParityError:
    return ParityError("loss-malformed", f"{place}: {what}", hint="docs/losses.md lists the operations")


def _shape_of(node: Sequence[Any], earlier: Sequence[Shape]) -> Shape:
    if not node or not isinstance(node[0], str):
        raise _BrokenError("a node is [operation, argument, ...]")
    operation = OPERATIONS.get(node[0])
    if operation is None:
        raise _BrokenError(f"there is no operation {node[0]!r}")
    arguments = node[1:]
    if len(arguments) != len(operation.arguments):
        wanted = ", ".join(operation.arguments) or "nothing"
        raise _BrokenError(f"{operation.name} takes {wanted}; {len(arguments)} arguments are given")
    for kind, argument in zip(operation.arguments, arguments, strict=True):
        _check_argument(operation.name, kind, argument, len(earlier))
    shapes = [
        earlier[argument] for kind, argument in zip(operation.arguments, arguments, strict=True) if kind == "node"
    ]
    if operation.name == "clip" and not arguments[1] < arguments[2]:
        raise _BrokenError(f"clip: {arguments[1]} is not below {arguments[2]}")
    return _result(operation, shapes, arguments)


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _check_argument(name: str, kind: ArgumentKind, argument: Any, earlier: int) -> None:
    if kind == "node":
        if not _whole(argument) or not 0 <= argument < earlier:
            raise _BrokenError(f"{name}: {argument!r} is not the index of an earlier node")
    elif kind == "number":
        # Whole numbers of any size are JSON; beyond this they are no float64 either.
        if not (_whole(argument) or isinstance(argument, float)) or not -1e300 <= argument <= 1e300:
            raise _BrokenError(f"{name}: {argument!r} is not a finite number")
    elif kind == "datum":
        if not _whole(argument) or argument < 0:
            raise _BrokenError(f"{name}: {argument!r} is not the index of a datum")
    elif kind == "key":
        if not isinstance(argument, str) or not argument:
            raise _BrokenError(f"{name}: {argument!r} is not the name of an input")
    elif not isinstance(argument, list | tuple) or not argument or not all(_whole(i) and i >= 0 for i in argument):
        raise _BrokenError(f"{name}: {argument!r} is not a list of element indices (from 0, at least one)")


def _result(operation: Operation, shapes: list[Shape], arguments: Sequence[Any]) -> Shape:
    name, rule = operation.name, operation.shape
    if rule in ("S", "D", "T", "V"):
        return Shape(rule)
    first = shapes[0]
    if rule == "same":
        return first
    if rule == "join":
        return _join(name, shapes)
    if rule in ("segments", "expand"):
        taken, given = ("T", "D") if rule == "segments" else ("D", "T")
        if first.kind != taken:
            raise _BrokenError(f"{name} takes {taken}, not {first}")
        return Shape("D" if given == "D" else "T")
    if any(shape.kind == "S" for shape in shapes):
        raise _BrokenError(f"{name} takes D, T or V, not S")
    if rule == "take":
        indices = arguments[1]
        if first.length is not None and max(indices) >= first.length:
            raise _BrokenError(f"take: there is no element {max(indices)} in {first}")
        return Shape("V", len(indices))
    if rule == "dot":
        _join(name, shapes)
        return SCALAR
    return SCALAR if rule == "reduce" else first


def _join(name: str, shapes: list[Shape]) -> Shape:
    result = SCALAR
    for shape in shapes:
        if shape == SCALAR:
            continue
        lengths = {result.length, shape.length} - {None}
        if result != SCALAR and (result.kind != shape.kind or len(lengths) > 1):
            raise _BrokenError(f"{name}: {result} and {shape} are neither equal nor scalar")
        if result == SCALAR or result.length is None:
            result = shape
    return result
