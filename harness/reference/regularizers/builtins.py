"""Regularizers as loss graphs, so that every driver has them: the formulas are in docs/regularizers.md.

x stands for the logprobs of all datums, one after the other, q for an input of the datums that has as many values.
What each computes is what `Tinkex.Regularizers.*` and NxPenalties 0.1.2 compute of one tensor of logprobs (read at
Tinkex 0.4.0).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from harness.reference.regularizers.spec import PartFn
from harness.reference.values import Datum, TorchInputs
from harness.suite.scenario import Loss

if TYPE_CHECKING:
    import torch

Target = Literal["logprobs", "probs"]
Reduction = Literal["sum", "mean"]
Node = tuple[Any, ...]


class _Graph:
    """Nodes, one after the other. A constant is written once."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []

    def add(self, *node: Any) -> int:
        """Append a node, unless there is the same one, and return its index."""
        if node in self.nodes:
            return self.nodes.index(node)
        self.nodes.append(node)
        return len(self.nodes) - 1

    def target(self, target: Target) -> int:
        """Return the node of the logprobs, or of the probabilities they stand for."""
        logprobs = self.add("lps")
        return logprobs if target == "logprobs" else self.add("exp", logprobs)

    def scaled(self, factor: float, node: int) -> int:
        """Return `factor` times a node."""
        return self.add("mul", self.add("const", factor), node)

    def length(self, vector: int) -> int:
        """Return the L2 norm of a vector."""
        return self.add("sqrt", self.add("dot", vector, vector))

    def loss(self, node: int, about: str, **metrics: int) -> Loss:
        """Return the graph with that node as its loss."""
        return Loss(nodes=tuple(self.nodes), loss=node, metrics=metrics, about=about)


def l1(*, target: Target = "logprobs", reduction: Reduction = "sum") -> Loss:
    """Return sum |x|, or its mean."""
    graph = _Graph()
    size = graph.add("abs", graph.target(target))
    mean = graph.add("mean", size)
    penalty = mean if reduction == "mean" else graph.add("sum", size)
    return graph.loss(penalty, "L1: the sum of absolute values.", l1_raw=penalty, l1_mean=mean)


def l2(
    *, target: Target = "logprobs", reduction: Reduction = "sum", center: float | Literal["mean"] | None = None
) -> Loss:
    """Return sum (x - center)^2, or its mean; the center is 0, a number or the mean of x."""
    graph = _Graph()
    x = graph.target(target)
    if center is None:
        moved = x
    else:
        moved = graph.add("sub", x, graph.add("mean", x) if center == "mean" else graph.add("const", center))
    penalty = graph.add(reduction, graph.add("square", moved))
    mean = graph.add("mean", graph.add("square", x))
    return graph.loss(penalty, "L2: the sum of squares.", l2_raw=penalty, l2_mean=mean)


def elastic_net(*, l1_ratio: float = 0.5, target: Target = "logprobs", reduction: Reduction = "sum") -> Loss:
    """Return l1_ratio * sum |x| + (1 - l1_ratio) * sum x^2, or the same of means."""
    graph = _Graph()
    x = graph.target(target)
    first = graph.scaled(l1_ratio, graph.add(reduction, graph.add("abs", x)))
    second = graph.scaled(1.0 - l1_ratio, graph.add(reduction, graph.add("square", x)))
    penalty = graph.add("add", first, second)
    return graph.loss(penalty, "Elastic net: a mixture of L1 and L2.", elastic_net=penalty)


def entropy(*, mode: Literal["minimize", "maximize"] = "minimize") -> Loss:
    """Return H = -sum exp(x) x, or -H: a loss that is minimized maximizes it then."""
    graph = _Graph()
    x = graph.target("logprobs")
    negative = graph.add("dot", graph.add("exp", x), x)
    value = negative if mode == "maximize" else graph.add("neg", negative)
    return graph.loss(value, "Entropy of the logprobs that were given.", entropy=value)


def kl_reference(
    *,
    field: str = "reference_logprobs",
    direction: Literal["forward", "reverse"] = "forward",
    symmetric: bool = False,
) -> Loss:
    """Return KL(p || q) = sum exp(x) (x - q), KL(q || p) = sum exp(q) (q - x), or half their sum."""
    graph = _Graph()
    x, q = graph.target("logprobs"), graph.add("fields", field)

    def divergence(one: int, other: int) -> int:
        return graph.add("dot", graph.add("exp", one), graph.add("sub", one, other))

    if symmetric:
        value = graph.scaled(0.5, graph.add("add", divergence(x, q), divergence(q, x)))
    else:
        value = divergence(x, q) if direction == "forward" else divergence(q, x)
    return graph.loss(value, "KL divergence from reference logprobs.", kl_divergence=value)


def consistency(
    *,
    field: str = "original_logprobs",
    metric: Literal["mse", "l1", "cosine"] = "mse",
    reduction: Reduction = "mean",
) -> Loss:
    """Return the mean (or sum) of (x - q)^2 or of |x - q|, or 1 - x.q / (|x| |q|)."""
    graph = _Graph()
    x, q = graph.target("logprobs"), graph.add("fields", field)
    if metric == "cosine":
        lengths = graph.add("mul", graph.length(x), graph.length(q))
        cosine = graph.add("div", graph.add("dot", x, q), lengths)
        value = graph.add("sub", graph.add("const", 1.0), cosine)
    else:
        value = graph.add(reduction, graph.add("square" if metric == "mse" else "abs", graph.add("sub", x, q)))
    return graph.loss(value, "Consistency with paired logprobs.")


def gradient_penalty(
    gradient: Callable[[Callable[..., int], int], int] | None = None, *, target_norm: float = 1.0
) -> Loss:
    """Return (|grad f(x)| - target_norm)^2.

    Graphs have no operation that differentiates, so `gradient` writes grad f down: given a function that appends a
    node and the node of x, it returns the node of the gradient, of the shape of x. By default f = sum x^2.
    """
    graph = _Graph()
    x = graph.target("logprobs")
    slope = graph.scaled(2.0, x) if gradient is None else gradient(graph.add, x)
    norm = graph.length(slope)
    value = graph.add("square", graph.add("sub", norm, graph.add("const", target_norm)))
    return graph.loss(value, "Gradient penalty of the sum of squares.", grad_norm=norm)


def orthogonality(rows: int, *, normalize: bool = True) -> Loss:
    """Return the sum over i != j of (x_i . x_j)^2, of the logprobs of `rows` datums of equal length.

    With `normalize` each x_i is divided by its length first.
    """
    graph = _Graph()
    vectors = [graph.add("lp", datum) for datum in range(rows)]
    total = graph.add("const", 0.0)
    for one, other in combinations(vectors, 2):
        product = graph.add("dot", one, other)
        if normalize:
            product = graph.add("div", product, graph.add("mul", graph.length(one), graph.length(other)))
        total = graph.add("add", total, graph.scaled(2.0, graph.add("square", product)))
    return graph.loss(total, "Orthogonality of the logprobs of datums.", orthogonality=total)


BUILTINS: Mapping[str, Loss] = MappingProxyType(
    {
        "l1": l1(),
        "l2": l2(),
        "elastic_net": elastic_net(),
        "entropy": entropy(),
        "kl_reference": kl_reference(),
        "consistency": consistency(),
        "gradient_penalty": gradient_penalty(),
        "orthogonality": orthogonality(3),
    }
)
"""Each with its defaults: `fixtures/losses/regularizer_<name>.json`."""


def regularizer_of(loss: Loss) -> PartFn:
    """Make a regularizer of a loss graph, for datums of the reference client."""
    written = msgspec.to_builtins(loss)

    def regularizer(data: Sequence[Datum], logprobs: list[torch.Tensor]) -> tuple[torch.Tensor, Mapping[str, float]]:
        from harness.drivers.python import graph

        return graph.evaluate(written, logprobs, [TorchInputs(datum) for datum in data])

    return regularizer
