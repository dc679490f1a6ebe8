"""Whether a loss stays, on given data, where every tensor library means the same.

Outside the documented domain libraries raise, overflow or disagree, and at a kink they choose different gradients. A
graph is therefore only fit together with the numbers it is evaluated on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.suite.losses import operations as ops
from harness.suite.losses.float64 import Evaluation
from harness.suite.scenario import Loss

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Departure:
    """A node whose arguments, or whose value, lie outside the domain."""

    node: int
    operation: str
    what: str


def departures(loss: Loss, evaluation: Evaluation) -> tuple[Departure, ...]:
    """Return where an evaluated loss leaves the domain of its operations; empty when it is fit.

    Every node counts, also one that the loss does not need: Nx raises for it all the same.
    """
    found = []
    for index, node in enumerate(loss.nodes):
        what = departure(node, evaluation.values, evaluation.values[index])
        if what is not None:
            found.append(Departure(index, str(node[0]), what))
    return tuple(found)


def departure(node: Sequence[Any], values: Sequence[Array], value: Array) -> str | None:
    """Say how one node with value `value`, over the values of earlier nodes, leaves its domain; None if it does not."""
    operation = ops.OPERATIONS[node[0]]
    operands = [
        values[argument] for kind, argument in zip(operation.arguments, node[1:], strict=True) if kind == "node"
    ]
    if not np.all(np.abs(value) <= ops.MAGNITUDE):
        return f"a value is not finite or exceeds {ops.MAGNITUDE:g}"
    for guard in operation.guards:
        guards = _of_literals(node) if isinstance(guard, ops.OfLiterals) else (guard,)
        for each in guards:
            what = _leaves(each, operands)
            if what is not None:
                return what
    return None


def _of_literals(node: Sequence[Any]) -> tuple[ops.Guard, ...]:
    if node[0] == "clip":
        return (ops.KinkAt(float(node[2])), ops.KinkAt(float(node[3])))
    exponent = float(node[2])
    if not exponent.is_integer():
        return (ops.Within(0.01, 1e6),)
    return (ops.NotNear(0.01),) if exponent < 0 else ()


def _leaves(guard: ops.Guard, operands: list[Array]) -> str | None:
    if isinstance(guard, ops.Within):
        inside = (operands[guard.argument] >= guard.low) & (operands[guard.argument] <= guard.high)
        return None if np.all(inside) else f"an argument is outside [{guard.low:g}, {guard.high:g}]"
    if isinstance(guard, ops.NotNear):
        inside = np.abs(operands[guard.argument]) >= guard.distance
        return None if np.all(inside) else f"an argument is within {guard.distance:g} of 0"
    if isinstance(guard, ops.KinkAt):
        return _kink(operands[guard.argument], np.float64(guard.point))
    if isinstance(guard, ops.KinkWhereEqual):
        return _kink(operands[0], operands[1])
    if isinstance(guard, ops.KinkAtTie):
        ordered = np.sort(operands[0] if guard.smallest else -operands[0])
        return _kink(ordered[:1], ordered[1:2]) if ordered.size > 1 else None
    return None if operands[0].size else "there is no element"


def _kink(a: Array, b: Array | np.float64) -> str | None:
    near = np.abs(a - b) < ops.KINK_DISTANCE * np.maximum(1.0, np.abs(a))
    return "an argument is at a kink" if np.any(near) else None
