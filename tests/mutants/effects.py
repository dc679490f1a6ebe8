"""Clients that are right with a quick loss that only computes, and wrong with a slow one or one that writes."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from breadth import NO_BACKWARD, NO_RESULT
from caller import WrappedLosses
from mutant import Mutant, checks

from harness.reference.behaviour import Behaviour
from harness.reference.calls import Pending
from harness.reference.client import ReferenceClient
from harness.reference.custom_loss import LossFn, strict
from harness.reference.encoding import PassOutput
from harness.reference.order import PER_PASS
from harness.reference.training import TrainingClient
from harness.reference.values import Datum
from harness.suite.data import DatumValue

if TYPE_CHECKING:
    import torch

PATIENCE_SECONDS = 0.2
"""Shorter than the suite's slow losses."""


class GivesUpOnLoss(WrappedLosses):
    """Fails a call whose loss takes too long."""

    def wrapped(self, loss_fn: LossFn, data: Sequence[DatumValue]) -> LossFn:
        """Raise where the loss was slow."""
        del data

        def hurried(datums: Sequence[Datum], leaves: list[torch.Tensor]) -> tuple[torch.Tensor, Mapping[str, float]]:
            started = time.monotonic()
            result = loss_fn(datums, leaves)
            if time.monotonic() - started > PATIENCE_SECONDS:
                raise TimeoutError("the loss takes too long")
            return result

        return hurried


class QuickLossFirst(ReferenceClient):
    """Sends backward passes in the order in which the losses end."""

    async def create_model(
        self, base_model: str, *, rank: int, seed: int | None = None, call: str = ""
    ) -> TrainingClient:
        """Create the model, its custom calls strangers to each other."""
        made = await super().create_model(base_model, rank=rank, seed=seed, call=call)
        plain = made.forward_backward_custom

        async def alone(data: Sequence[DatumValue], loss_fn: LossFn, *, call: str = "") -> Pending[PassOutput]:
            made._last_custom = None
            return await plain(data, loss_fn, call=call)

        made.forward_backward_custom = alone  # type: ignore[method-assign]
        return made


class HandsOutCopies(WrappedLosses):
    """Gives the loss copies: what it writes into them is lost."""

    def wrapped(self, loss_fn: LossFn, data: Sequence[DatumValue]) -> LossFn:
        """Call it on a copy, and leave the caller's data as it was."""

        def copied(datums: Sequence[Datum], leaves: list[torch.Tensor]) -> tuple[torch.Tensor, Mapping[str, float]]:
            before = list(data)
            result = loss_fn(list(datums), leaves)
            assert isinstance(data, list)
            data[:] = before
            return result

        return copied


class LinearizesEarlierData(WrappedLosses):
    """Makes the backward pass of the datums as they were before the loss."""

    def wrapped(self, loss_fn: LossFn, data: Sequence[DatumValue]) -> LossFn:
        """Let the loss write into the caller's data, not into the client's."""
        del data
        return lambda datums, leaves: loss_fn(list(datums), leaves)


def _per_pass(behaviour: Behaviour) -> Behaviour:
    return replace(behaviour, reservation=PER_PASS)


def _strict(behaviour: Behaviour) -> Behaviour:
    return replace(behaviour, pair=strict)


MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "slow-loss-given-up",
        "A loss that takes longer than two tenths of a second fails its call.",
        checks("result.status chunks.complete order.phases training.steps"),
        "No release limits the time of a loss. No backward pass is sent.",
        silences=NO_RESULT | NO_BACKWARD | checks("training.gradient training.parameters"),
        scenarios=("custom/slow-loss", "custom/sum-literal"),
        client=GivesUpOnLoss,
    ),
    Mutant(
        "quick-loss-first",
        "0.38.0 takes ids for the backward pass when the loss has ended, whichever ends first.",
        checks("order.phases training.gradient training.parameters"),
        "The quick loss of the second call overtakes the slow one of the first, and the optimizer step both.",
        scenarios=("order/slow-before-quick", "custom/sum-literal"),
        change=_per_pass,
        client=QuickLossFirst,
    ),
    Mutant(
        "loss-gets-copies",
        "The loss is given copies of the caller's datums.",
        checks("loss.unchanged", "plain.values"),
        "What the loss writes into its data is lost for the next call.",
        scenarios=("custom/loss-mutates-inputs", "custom/extra-inputs"),
        client=HandsOutCopies,
    ),
    Mutant(
        "backward-of-earlier-data",
        "The backward pass is made of the datums as they were before the loss.",
        checks("weights.targets"),
        "Every release reads target_tokens after the loss.",
        scenarios=("custom/loss-mutates-targets", "custom/loss-mutates-inputs"),
        client=LinearizesEarlierData,
    ),
    Mutant(
        "changed-list-unnoticed",
        "0.38.0 goes on although the loss has removed target_tokens or a datum, or added one.",
        checks("result.status error.sent error.after"),
        "It works with the datums as they were; the release has none to pair with its gradients.",
        silences=checks("error.kind error.raised_at"),
        scenarios=("errors/loss-drops-targets", "errors/loss-appends-datum", "errors/loss-removes-datum"),
        client=LinearizesEarlierData,
    ),
    Mutant(
        "strict-too-early",
        "0.7.0 refuses data that the loss has made longer or shorter.",
        checks("result.status training.gradient training.parameters"),
        "That release pairs as far as both go.",
        contract="tinker-0.7.0",
        silences=checks("metrics.values result.outputs") | NO_BACKWARD,
        scenarios=("errors/loss-appends-datum", "errors/loss-removes-datum", "custom/sum-literal"),
        change=_strict,
    ),
)
