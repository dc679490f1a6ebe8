"""Random loss graphs that stay in the domain of their operations on their own random data."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.suite.losses import OPERATIONS, validate
from harness.suite.losses.domain import departure
from harness.suite.losses.float64 import evaluate
from harness.suite.scenario import Loss

KEYS = ("adv", "old")


@dataclass(frozen=True)
class Graph:
    """A valid scalar loss with one metric, and the data it is fit for."""

    loss: Loss
    logprobs: list[NDArray[Any]]
    fields: list[dict[str, NDArray[Any]]]


def random_graph(seed: int) -> Graph:
    """Draw a graph of up to 24 nodes on 1 to 6 datums, some of them 2-D; the same for the same seed."""
    chosen, numbers = random.Random(seed), np.random.default_rng(seed)
    shapes = [
        (chosen.randint(1, 4),) if chosen.random() < 0.8 else (chosen.randint(1, 3), 2)
        for _ in range(chosen.randint(1, 6))
    ]
    logprobs = [-numbers.random(shape).astype(np.float32) * 3 - np.float32(0.02) for shape in shapes]
    fields = [{key: numbers.normal(size=shape).astype(np.float32) for key in KEYS} for shape in shapes]
    nodes: list[tuple[Any, ...]] = [("lps",)]
    names = [name for name in OPERATIONS if name not in ("lps", "stop_grad")] + ["stop_grad"]
    for _ in range(chosen.randint(8, 60)):
        node = _candidate(chosen.choice(names), nodes, chosen, len(shapes))
        if _fits([*nodes, node], logprobs, fields):
            nodes.append(node)
    last = len(nodes) - 1
    shape = validate(Loss(tuple(nodes), last))[last]
    if shape.kind != "S":
        nodes.append(("mean", last))
    # Every datum has a gradient through this term, whatever the rest of the graph reaches.
    nodes += [("mean", 0), ("add", len(nodes) - 1, len(nodes))]
    return Graph(Loss(tuple(nodes), len(nodes) - 1, {"m": len(nodes) - 2}), logprobs, fields)


def _candidate(name: str, nodes: list[tuple[Any, ...]], chosen: random.Random, datums: int) -> tuple[Any, ...]:
    literals = sorted(round(chosen.uniform(-3, 3), 3) + step for step in (0.0, 0.5))
    made: list[Any] = [name]
    for kind in OPERATIONS[name].arguments:
        if kind == "node":
            made.append(chosen.randrange(len(nodes)))
        elif kind == "number":
            made.append(float(chosen.choice((2, 3, 0.5, -1))) if name == "pow" else literals.pop(0))
        elif kind == "datum":
            made.append(chosen.randrange(datums))
        elif kind == "key":
            made.append(chosen.choice(KEYS))
        else:
            made.append([chosen.randrange(datums) for _ in range(chosen.randint(1, 3))])
    return tuple(made)


def _fits(nodes: list[tuple[Any, ...]], logprobs: list[NDArray[Any]], fields: list[dict[str, NDArray[Any]]]) -> bool:
    loss = Loss(tuple(nodes), len(nodes) - 1)
    try:
        validate(loss)
        found = evaluate(loss, logprobs, fields)
    except Exception:  # noqa: BLE001 - a random node that does not fit is drawn again, whatever is wrong with it
        return False
    return departure(nodes[-1], found.values, found.values[-1]) is None
