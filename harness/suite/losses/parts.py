"""What a loss that is taken apart must come to, in float64 and apart from the reference."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.suite.composition import ExpectedReport, ExpectedTerm
from harness.suite.data import expand
from harness.suite.losses.float64 import Array, evaluate
from harness.suite.losses.pruning import pruned
from harness.suite.scenario import ComputeRegularizers, ForwardBackwardCustom, Loss, Scenario

Numbers = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Composition:
    """What a step composes: the loss, the inputs of each datum, and whether norms are asked for.

    `logprobs` has one array per datum where the scenario gives them; None where the server does. `closed` are the
    numbers that the scenario knows by hand.
    """

    loss: Loss
    fields: tuple[Mapping[str, Numbers], ...]
    logprobs: tuple[Numbers, ...] | None
    tracked: bool
    closed: ExpectedReport


@dataclass(frozen=True, slots=True)
class PartNumbers:
    """One part: its value, the L2 norm of its gradient (None where it depends on no logprob), its metrics."""

    value: float
    grad_norm: float | None
    custom: dict[str, float]


@dataclass(frozen=True, slots=True)
class TermNumbers:
    """A regularizer: as a part, and with its weight."""

    part: PartNumbers
    weight: float
    contribution: float
    grad_norm_weighted: float | None


@dataclass(frozen=True, slots=True)
class ComposedNumbers:
    """The whole. `terms` are in the order of declaration; `total_grad_norm` is the norm of the whole's gradient."""

    base: PartNumbers | None
    terms: dict[str, TermNumbers]
    regularizer_total: float
    loss_total: float
    total_grad_norm: float


def compositions(scenario: Scenario, losses: Mapping[str, Loss]) -> dict[str, Composition]:
    """Return what the steps of a scenario compose, by step; empty where no loss of it is taken apart."""
    closed = {expected.step: expected for expected in scenario.judge.expect}
    found = {}
    for step in scenario.stimulus.steps:
        if not isinstance(step, ForwardBackwardCustom | ComputeRegularizers):
            continue
        loss = losses[step.loss]
        if loss.apart is None:
            continue
        data = expand(scenario.stimulus.data[step.data])
        fields = tuple({name: value.array for name, value in datum.inputs.items()} for datum in data)
        found[step.id] = Composition(
            loss=loss,
            fields=fields,
            logprobs=tuple(given[step.logprobs] for given in fields) if isinstance(step, ComputeRegularizers) else None,
            tracked=step.track_grad_norms,
            closed=closed.get(step.id, ExpectedReport(step=step.id)),
        )
    return found


def composed(composition: Composition, logprobs: Sequence[Numbers]) -> ComposedNumbers:
    """Compute every number of a report on `logprobs`, one array per datum. Closed forms win over what is computed.

    Raises ValueError where the composition has no numbers: a part is no scalar, a weight is none.
    """
    apart = composition.loss.apart
    assert apart is not None, "a composition is of a loss that is taken apart"
    total: list[Array | None] = [None] * len(logprobs)
    closed = composition.closed
    base = None
    if apart.base is not None:
        base = _part(composition, apart.base, composition.loss.metrics, logprobs, 1.0, total)
        base = PartNumbers(_known(closed.base, base.value), _norm(closed.base_grad_norm, base.grad_norm), base.custom)
    terms: dict[str, TermNumbers] = {}
    for term in apart.regularizers or ():
        if isinstance(term.weight, str):
            raise ValueError(f"the weight of {term.name!r} is {term.weight}")
        part = _part(composition, term.node, term.metrics, logprobs, term.weight, total)
        known = closed.regularizers.get(term.name, ExpectedTerm())
        part = PartNumbers(_known(known.value, part.value), _norm(known.grad_norm, part.grad_norm), part.custom)
        weighted = None if part.grad_norm is None else term.weight * part.grad_norm
        terms[term.name] = TermNumbers(
            part=part,
            weight=term.weight,
            contribution=_known(known.contribution, term.weight * part.value),
            grad_norm_weighted=_norm(known.grad_norm_weighted, weighted),
        )
    regularizer_total = _known(closed.regularizer_total, sum(term.contribution for term in terms.values()))
    return ComposedNumbers(
        base=base,
        terms=terms,
        regularizer_total=regularizer_total,
        loss_total=_known(closed.loss_total, (0.0 if base is None else base.value) + regularizer_total),
        total_grad_norm=_known(closed.total_grad_norm, _length(total)),
    )


def gradient_of(
    composition: Composition,
    logprobs: Sequence[Numbers],
    *,
    base: float,
    weigh: Callable[[float], float],
    without: Collection[str] = (),
) -> list[Array]:
    """Return the gradient of the base times `base` plus each regularizer times what `weigh` makes of its weight.

    One array per datum, zeros where nothing depends on it. Regularizers named in `without` are left out. Raises
    ValueError as `composed` does.
    """
    apart = composition.loss.apart
    assert apart is not None, "a composition is of a loss that is taken apart"
    total: list[Array | None] = [None] * len(logprobs)
    if apart.base is not None:
        _part(composition, apart.base, {}, logprobs, base, total)
    for term in apart.regularizers or ():
        if isinstance(term.weight, str):
            raise ValueError(f"the weight of {term.name!r} is {term.weight}")
        if term.name not in without:
            _part(composition, term.node, {}, logprobs, weigh(term.weight), total)
    return [np.zeros(np.shape(given)) if found is None else found for found, given in zip(total, logprobs, strict=True)]


def _part(
    composition: Composition,
    node: int,
    metrics: Mapping[str, int],
    logprobs: Sequence[Numbers],
    weight: float,
    total: list[Array | None],
) -> PartNumbers:
    """Evaluate one part, and add its weighted gradient to `total`."""
    nodes, places = pruned(composition.loss.nodes, (node, *metrics.values()))
    graph = Loss(nodes, places[node], metrics={name: places[index] for name, index in metrics.items()})
    found = evaluate(graph, logprobs, composition.fields)
    if found.gradients is None:
        raise ValueError(f"node {node} is no scalar")
    for datum, gradient in enumerate(found.gradients):
        if gradient is not None:
            before = total[datum]
            total[datum] = weight * gradient if before is None else before + weight * gradient
    reached = any(gradient is not None for gradient in found.gradients)
    return PartNumbers(float(found.loss), _length(found.gradients) if reached else None, found.metrics)


def _length(gradients: Sequence[Array | None]) -> float:
    """Return the L2 norm over the logprobs of all datums, taken as one vector."""
    return float(np.sqrt(sum(float(np.square(each).sum()) for each in gradients if each is not None)))


def _known(closed: float | None, computed: float) -> float:
    return computed if closed is None else closed


def _norm(closed: float | None, computed: float | None) -> float | None:
    return computed if closed is None else closed
