"""Why the weights of a composed loss are wrong: what else the subject may have added up."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import chain, combinations, islice

import numpy as np

from harness.checks.causes import Found, likely
from harness.checks.numbers import all_close
from harness.checks.outcome import listed
from harness.checks.reports import Told, agree, logprobs_of, number
from harness.checks.steps import groups_of
from harness.checks.verdict import Case
from harness.suite.losses.parts import Composition, Numbers, gradient_of
from mock_server.record import AnyArray

_OTHERWISE: Mapping[str, tuple[float, Callable[[float], float]]] = {
    "regularizer-ignored": (1.0, lambda _: 0.0),
    "base-ignored": (0.0, lambda weight: weight),
    "weight-not-applied": (1.0, lambda _: 1.0),
    "weight-applied-twice": (1.0, lambda weight: weight * weight),
}
"""By cause: how often the base counts, and what a regularizer's weight becomes."""

_TRIED = 256
"""So many sets of regularizers without a gradient are tried at most."""


def why_composed(case: Case) -> Found | None:
    """Tell weights that are the negative gradient of another sum of the same parts, in every call that composes."""
    remaining = dict(_OTHERWISE)
    looked = 0
    wrong: list[tuple[Composition, list[AnyArray], list[AnyArray]]] = []
    for step, composition in case.compositions.items():
        sent = _sent(case, step)
        if composition.logprobs is not None or len(sent) != len(composition.fields):
            continue
        logprobs = [np.asarray(each, dtype=np.float64) for each in logprobs_of(case, step, composition)]
        right = gradient_of(composition, logprobs, base=1.0, weigh=lambda weight: weight)
        if _is_sent(case, right, sent):
            continue
        looked += 1
        wrong.append((composition, logprobs, sent))
        remaining = {
            cause: (base, weigh)
            for cause, (base, weigh) in remaining.items()
            if _is_sent(case, _gradient(composition, logprobs, base, weigh), sent)
        }
    if looked and remaining:
        return likely(next(iter(remaining)), "as the graphs of the parts tell, computed in float64")
    lost = [_without_gradient(case, composition, logprobs, sent) for composition, logprobs, sent in wrong]
    if not lost or not all(lost):
        return None
    return likely("part-without-gradient", listed(dict.fromkeys(name for names in lost for name in names)))


def why_zero_norm(case: Case, each: Told) -> Found | None:
    """Tell norms of 0 that are those of a gradient: the norm of the whole is that of the other parts together."""
    lost = [
        name
        for name, term in each.numbers.terms.items()
        if term.part.grad_norm and number(each.part(name).get("grad_norm")) == 0.0
    ]
    logprobs = logprobs_of(case, each.step, each.composition)
    rest = _norm(each.composition, logprobs, without=lost)
    whole = number(each.report.get("total_grad_norm"))
    if not lost or not rest or not agree(case, rest, whole):
        return None
    return likely("part-without-gradient", listed(lost))


def _norm(composition: Composition, logprobs: Sequence[Numbers], *, without: Collection[str]) -> float:
    left = gradient_of(composition, logprobs, base=1.0, weigh=lambda weight: weight, without=without)
    return float(np.sqrt(sum(float(np.square(each).sum()) for each in left)))


def _without_gradient(
    case: Case, composition: Composition, logprobs: list[AnyArray], sent: list[AnyArray]
) -> tuple[str, ...]:
    """Return the fewest regularizers without whose gradient the rest is what was sent; none where there are none."""
    apart = composition.loss.apart
    names = [term.name for term in (apart and apart.regularizers) or ()]
    some = chain.from_iterable(combinations(names, size) for size in range(1, len(names)))
    for left_out in islice(some, _TRIED):
        rest = gradient_of(composition, logprobs, base=1.0, weigh=lambda weight: weight, without=left_out)
        if _is_sent(case, rest, sent):
            return left_out
    return ()


def _gradient(
    composition: Composition, logprobs: list[AnyArray], base: float, weigh: Callable[[float], float]
) -> list[AnyArray]:
    return gradient_of(composition, logprobs, base=base, weigh=weigh)


def _sent(case: Case, step: str) -> list[AnyArray]:
    return [
        datum.inputs["weights"].dense()
        for group in groups_of(case, step, "forward_backward")
        for request in group.observed
        if request.batch is not None
        for datum in request.batch.datums
        if "weights" in datum.inputs
    ]


def _is_sent(case: Case, gradients: list[AnyArray], sent: list[AnyArray]) -> bool:
    tolerance = case.tolerance
    return all(
        gradient.size == weights.size
        and all_close(-gradient, np.asarray(weights), rtol=tolerance.rtol, atol=tolerance.atol)
        for gradient, weights in zip(gradients, sent, strict=True)
    )
