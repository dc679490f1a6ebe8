"""Clients that misuse the caller's loss or data, or report other results than the server gave."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from mutant import Mutant, checks

from harness.reference.behaviour import Behaviour
from harness.reference.client import Pending, ReferenceClient, TrainingClient
from harness.reference.custom_loss import LossFn
from harness.reference.encoding import PassOutput
from harness.reference.values import Datum
from harness.suite.data import DatumValue

if TYPE_CHECKING:
    import torch


class _WrappedLosses(ReferenceClient):
    """Hands every loss to `wrapped` before it is used."""

    async def create_model(
        self, base_model: str, *, rank: int, seed: int | None = None, call: str = ""
    ) -> TrainingClient:
        """Create the model, its custom calls altered."""
        made = await super().create_model(base_model, rank=rank, seed=seed, call=call)
        plain = made.forward_backward_custom

        async def altered(data: Sequence[DatumValue], loss_fn: LossFn, *, call: str = "") -> Pending[PassOutput]:
            return await plain(data, self.wrapped(loss_fn, data), call=call)

        made.forward_backward_custom = altered  # type: ignore[method-assign]
        return made

    def wrapped(self, loss_fn: LossFn, data: Sequence[DatumValue]) -> LossFn:
        """Return what is called instead."""
        raise NotImplementedError


class CallsTwice(_WrappedLosses):
    """Calls the loss once for its metrics and once for its gradient."""

    def wrapped(self, loss_fn: LossFn, data: Sequence[DatumValue]) -> LossFn:
        """Call it, forget the result, call it again."""
        del data

        def twice(datums: Sequence[Datum], leaves: list[torch.Tensor]) -> tuple[torch.Tensor, Mapping[str, float]]:
            loss_fn(datums, leaves)
            return loss_fn(datums, leaves)

        return twice


class Scribbles(_WrappedLosses):
    """Writes into the caller's tokens while the loss runs."""

    def wrapped(self, loss_fn: LossFn, data: Sequence[DatumValue]) -> LossFn:
        """Change a token of the caller's first datum after the loss."""

        def scribbling(datums: Sequence[Datum], leaves: list[torch.Tensor]) -> tuple[torch.Tensor, Mapping[str, float]]:
            result = loss_fn(datums, leaves)
            tokens = data[0].tokens
            base = tokens if tokens.base is None else tokens.base
            base.setflags(write=True)
            tokens.setflags(write=True)
            tokens[0] ^= 1
            return result

        return scribbling


class HidesInputs(_WrappedLosses):
    """Adds an input of its own to what the loss sees."""

    def wrapped(self, loss_fn: LossFn, data: Sequence[DatumValue]) -> LossFn:
        """Show the loss one input more than the caller gave."""
        del data

        def shown(datums: Sequence[Datum], leaves: list[torch.Tensor]) -> tuple[torch.Tensor, Mapping[str, float]]:
            more = [
                Datum(tokens=datum.tokens, inputs={**datum.inputs, "mask": datum.inputs["target_tokens"]})
                for datum in datums
            ]
            return loss_fn(more, leaves)

        return shown


def _reversed_outputs(behaviour: Behaviour) -> Behaviour:
    decode = behaviour.codec.decode

    def turned(content: bytes) -> PassOutput:
        output = decode(content)
        return replace(output, outputs=output.outputs[::-1])

    return replace(behaviour, codec=replace(behaviour.codec, decode=turned))


MUTANTS = (
    Mutant(
        "loss-called-twice",
        "The loss is called twice.",
        checks("loss.calls"),
        "A callback with a side effect, or a random one, is not the same the second time.",
        client=CallsTwice,
    ),
    Mutant(
        "caller-data-changed",
        "The caller's tokens are changed in place.",
        checks("loss.unchanged"),
        "The next call with the same data trains on something else.",
        scenarios=("custom/sum-literal", "custom/nonlinear", "custom/targets-2d"),
        client=Scribbles,
    ),
    Mutant(
        "loss-sees-more",
        "The loss sees an input the caller never gave.",
        checks("loss.saw_keys"),
        "The callback gets the caller's own datums in every release.",
        client=HidesInputs,
    ),
    Mutant(
        "outputs-reversed",
        "Outputs of a pass are handed on in the opposite order.",
        checks(
            "loss.saw_values",
            "loss.saw_shape",
            "weights.values",
            "weights.shape",
            "metrics.values",
            "result.outputs",
            "training.gradient",
            "training.parameters",
        ),
        "Logprobs belong to other datums, in the callback and in the result.",
        change=_reversed_outputs,
    ),
)
