"""A loss graph without what some of its nodes do not need: a part of a loss is evaluated alone, not with all others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from harness.suite.losses.operations import OPERATIONS

Node = Sequence[Any]


def pruned(nodes: Sequence[Node], roots: Iterable[int]) -> tuple[tuple[tuple[Any, ...], ...], dict[int, int]]:
    """Return the nodes that `roots` are computed from, these included, and the new index of each by its old one."""
    needed: set[int] = set()
    waiting = list(roots)
    while waiting:
        index = waiting.pop()
        if index not in needed:
            needed.add(index)
            waiting += _operands(nodes[index])
    kept = sorted(needed)
    places = {old: new for new, old in enumerate(kept)}
    return tuple(_moved(nodes[old], places) for old in kept), places


def _operands(node: Node) -> list[int]:
    kinds = OPERATIONS[node[0]].arguments
    return [argument for kind, argument in zip(kinds, node[1:], strict=True) if kind == "node"]


def _moved(node: Node, places: dict[int, int]) -> tuple[Any, ...]:
    kinds = OPERATIONS[node[0]].arguments
    moved = (places[each] if kind == "node" else each for kind, each in zip(kinds, node[1:], strict=True))
    return (node[0], *moved)
