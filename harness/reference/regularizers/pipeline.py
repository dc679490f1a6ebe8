"""From a structured loss and logprobs to gradient and report: call the parts, add up, differentiate, report.

`compute` needs no server and no client: it is what `forward_backward_custom` does between its two passes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.reference.errors import BASE, LossFailedError, PartFailedError
from harness.reference.regularizers import calling, composing
from harness.reference.regularizers.composing import Leaves
from harness.reference.regularizers.flat import Flat, flatten
from harness.reference.regularizers.norms import l2_norm
from harness.reference.regularizers.results import Called
from harness.reference.regularizers.spec import (
    Composition,
    PartFn,
    Regularizer,
    RegularizerSpec,
    read_composition,
)
from harness.reference.regularizers.stepping import grad_mode, stepping
from harness.reference.regularizers.telemetry import BaseLoss, LossReport, loss_report, term_report
from harness.reference.values import Array

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Computed:
    """What a structured loss gave.

    `gradients` has one array per datum, in the shape of its logprobs: d loss_total / d logprobs. `value` is the
    composed loss as the tensor library added it up; `metrics` are those of the base loss, under their own names.
    """

    gradients: list[Array]
    value: float
    metrics: Mapping[str, float]
    report: LossReport

    @property
    def flat(self) -> Flat:
        """The report in its flat form."""
        return flatten(self.report)


@dataclass(frozen=True, slots=True)
class Structured:
    """The steps of a structured loss. A client that is wrong on purpose replaces one.

    `read` checks the arguments, `call_base` and `call_regularizers` get values, `compose` adds them up,
    `differentiate` gives the gradient that is sent, `norm` measures gradients, `report` makes the document of the base,
    the terms and the total norm, `flat` its flat form.
    """

    read: Callable[..., Composition] = read_composition
    call_base: Callable[..., Any] = calling.call_base
    call_regularizers: Callable[..., Any] = calling.call_regularizers
    compose: Callable[[Called | None, Sequence[tuple[Regularizer, Called]]], torch.Tensor] = composing.compose
    differentiate: Callable[[torch.Tensor, Leaves], list[Array]] = composing.differentiate
    norm: Callable[[Sequence[Array | None]], float] = l2_norm
    report: Callable[..., LossReport] = loss_report
    flat: Callable[[LossReport], Flat] = flatten


STRUCTURED = Structured()


async def compute(
    data: Sequence[Any],
    logprobs: Sequence[Any],
    base_loss_fn: PartFn | None = None,
    regularizers: Sequence[Regularizer | RegularizerSpec] | None = None,
    *,
    track_grad_norms: bool = False,
    run_sync_in_executor: bool = False,
    regularizer_timeout: float | None = None,
    structured: Structured = STRUCTURED,
) -> Computed:
    """Compute a structured loss on logprobs, one float tensor or array per datum; `data` is what the parts are given.

    Raises InvalidInputError for arguments that cannot be used, PartFailedError, PartNotScalarError or
    RegularizerTimeoutError for a part that fails, NoGradientError when the sum has no gradient, LossFailedError when
    it cannot be differentiated.
    """
    composition = structured.read(
        base_loss_fn,
        regularizers,
        track_grad_norms=track_grad_norms,
        run_sync_in_executor=run_sync_in_executor,
        timeout=regularizer_timeout,
    )
    return await run(composition, data, lambda: composing.leaves_of(logprobs), workers=None, structured=structured)


async def run(
    composition: Composition,
    data: Sequence[Any],
    make_leaves: Callable[[], list[torch.Tensor]],
    *,
    workers: Executor | None,
    structured: Structured,
) -> Computed:
    """Run a structured loss. `make_leaves` gives new leaves of the same logprobs each time.

    A synchronous base loss and the backward pass run in `workers`. Gradients are found whatever grad mode torch is in
    meanwhile. Raises what `compute` raises.
    """
    return await stepping(_run(composition, data, make_leaves, workers, structured))


async def _run(
    composition: Composition,
    data: Sequence[Any],
    make_leaves: Callable[[], list[torch.Tensor]],
    workers: Executor | None,
    structured: Structured,
) -> Computed:
    base, base_leaves = None, []
    leaves: list[list[torch.Tensor]] = []
    if composition.base is not None:
        base_leaves = make_leaves()
        leaves.append(base_leaves)
        base = await structured.call_base(composition.base, data, base_leaves, workers=workers)
    term_leaves = [make_leaves() for _ in composition.regularizers]
    leaves += term_leaves
    called = await structured.call_regularizers(
        composition.regularizers,
        data,
        term_leaves,
        in_executor=composition.run_sync_in_executor,
        limit=composition.timeout,
    )
    terms = list(zip(composition.regularizers, called, strict=True))
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(workers, _settle, base, terms, leaves, composition.track_grad_norms, structured)


@grad_mode()  # a part may have left this thread in another one
def _settle(
    base: Called | None,
    terms: Sequence[tuple[Regularizer, Called]],
    leaves: Leaves,
    track: bool,
    structured: Structured,
) -> Computed:
    """Add up, differentiate, measure. The gradient that is sent is there before any norm is looked for."""
    total = structured.compose(base, terms)
    try:
        gradients = structured.differentiate(total, leaves)
    except LossFailedError:
        _blame(base, terms, leaves)
        raise

    def norm(called: Called, regularizer: Regularizer | None) -> float | None:
        try:
            gradient = composing.gradient_of(called, leaves, composing.part_of(regularizer)) if track else None
        except PartFailedError:
            # The whole could be differentiated: what cannot be measured apart takes nothing away from it.
            return None
        return None if gradient is None else structured.norm(gradient)

    report = structured.report(
        None if base is None else BaseLoss(base.value, norm(base, None), dict(base.metrics)),
        [
            (each.name, term_report(called.value, each.weight, norm(called, each), called.metrics))
            for each, called in terms
        ],
        structured.norm(gradients) if track else None,
    )
    return Computed(
        gradients=gradients,
        value=float(total.detach().item()),
        metrics={} if base is None else base.metrics,
        report=report,
    )


def _blame(base: Called | None, terms: Sequence[tuple[Regularizer, Called]], leaves: Leaves) -> None:
    """Raise PartFailedError of the first part that cannot be differentiated on its own."""
    if base is not None:
        composing.gradient_of(base, leaves, BASE)
    for regularizer, called in terms:
        composing.gradient_of(called, leaves, composing.part_of(regularizer))
