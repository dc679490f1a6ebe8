"""Clients that misuse the caller's loss or data, or report other results than the server gave."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mutant import Mutant, checks

from harness.contracts.model import Wire
from harness.reference.behaviour import Behaviour
from harness.reference.calls import Call, Pending
from harness.reference.client import ReferenceClient
from harness.reference.custom_loss import LossFn
from harness.reference.encoding import Encoded, PassOutput, PassRequest, encode_protobuf
from harness.reference.training import TrainingClient
from harness.reference.values import Datum
from harness.suite.data import DatumValue

if TYPE_CHECKING:
    import torch


class WrappedLosses(ReferenceClient):
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


class CallsTwice(WrappedLosses):
    """Calls the loss once for its metrics and once for its gradient."""

    def wrapped(self, loss_fn: LossFn, data: Sequence[DatumValue]) -> LossFn:
        """Call it, forget the result, call it again."""
        del data

        def twice(datums: Sequence[Datum], leaves: list[torch.Tensor]) -> tuple[torch.Tensor, Mapping[str, float]]:
            loss_fn(datums, leaves)
            return loss_fn(datums, leaves)

        return twice


class Scribbles(WrappedLosses):
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


class HidesInputs(WrappedLosses):
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


class _AlteredResults(ReferenceClient):
    """Hands the result of every custom call to `altered` before the caller gets it."""

    async def create_model(
        self, base_model: str, *, rank: int, seed: int | None = None, call: str = ""
    ) -> TrainingClient:
        """Create the model, its results altered."""
        made = await super().create_model(base_model, rank=rank, seed=seed, call=call)
        plain = made.forward_backward_custom

        async def custom(*given: Any, **options: Any) -> Pending[PassOutput]:
            return self.altered(await plain(*given, **options))

        made.forward_backward_custom = custom  # type: ignore[method-assign]
        return made

    def altered(self, pending: Pending[PassOutput]) -> Pending[PassOutput]:
        """Return what the caller gets instead."""
        raise NotImplementedError


class ReversesOutputs(_AlteredResults):
    """Gives the outputs of a call in the opposite order."""

    def altered(self, pending: Pending[PassOutput]) -> Pending[PassOutput]:
        """Turn the outputs."""

        async def turned() -> PassOutput:
            output = await pending.result()
            return replace(output, outputs=output.outputs[::-1])

        return Pending(self.spawn(turned()), pending.type)


class OtherType(_AlteredResults):
    """Gives a result of a type of its own."""

    def altered(self, pending: Pending[PassOutput]) -> Pending[PassOutput]:
        """Call the type something else."""
        return Pending(pending.task, "CustomLossOutput")


class NeverAnswers(_AlteredResults):
    """Leaves the caller waiting."""

    def altered(self, pending: Pending[PassOutput]) -> Pending[PassOutput]:
        """Wait for what never comes."""
        never: asyncio.Future[PassOutput] = asyncio.get_running_loop().create_future()

        async def waiting() -> PassOutput:
            return await never

        return Pending(self.spawn(waiting()), pending.type)


class ForgetsStep(ReferenceClient):
    """Answers optim_step without asking the server."""

    async def create_model(
        self, base_model: str, *, rank: int, seed: int | None = None, call: str = ""
    ) -> TrainingClient:
        """Create the model, its optimizer steps forgotten."""
        made = await super().create_model(base_model, rank=rank, seed=seed, call=call)

        async def nothing() -> dict[str, Any]:
            return {"metrics": {}}

        def forget(params: Mapping[str, float], *, call: str = "") -> Pending[dict[str, Any]]:
            del params, call
            return Pending(self.spawn(nothing()), "OptimStepResponse")

        made.optim_step = forget  # type: ignore[method-assign]
        return made


class OtherPath(ReferenceClient):
    """Gives the caller another path than the server's."""

    async def poll(self, submitted: Mapping[str, Any], request_type: str, call: Call, *, roundtrip: float) -> bytes:
        """Cut the path of a save for the sampler short."""
        content = await super().poll(submitted, request_type, call, roundtrip=roundtrip)
        return content.replace(b"sampler_weights", b"weights") if request_type == "SaveWeightsForSampler" else content


def _plain_doubled(behaviour: Behaviour) -> Behaviour:
    def encode(request: PassRequest, wire: Wire) -> Encoded:
        data = request.data
        if not request.forward_only and any(datum.inputs["weights"].values.max(initial=0) > 0 for datum in data):
            data = [
                Datum(
                    tokens=datum.tokens,
                    inputs={
                        **datum.inputs,
                        "weights": replace(datum.inputs["weights"], values=datum.inputs["weights"].values * 2),
                    },
                )
                for datum in data
            ]
        return behaviour.codec.encode(replace(request, data=data), wire)

    return replace(behaviour, codec=replace(behaviour.codec, encode=encode))


def _protobuf_at_15(behaviour: Behaviour) -> Behaviour:
    return replace(behaviour, codec=replace(behaviour.codec, encode=encode_protobuf))


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
        checks("loss.unchanged", "chunks.complete", "metrics.values"),
        "The next call with the same data trains on something else; so does the backward pass of this one.",
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
        "Outputs of a custom call are handed on in the opposite order.",
        checks("result.outputs"),
        "Logprobs belong to other datums.",
        client=ReversesOutputs,
    ),
    Mutant(
        "result-of-own-type",
        "A custom call gives a CustomLossOutput.",
        checks("result.type"),
        "Callers hand the result on as a ForwardBackwardOutput.",
        client=OtherType,
    ),
    Mutant(
        "never-answers",
        "A custom call is never done.",
        checks("result.hang"),
        "The caller waits until the scenario's time is up, and sees no result; the client is never closed.",
        scenarios=("custom/sum-literal",),
        silences=checks("loss.calls", "metrics.names", "metrics.values", "result.outputs", "session.end"),
        client=NeverAnswers,
    ),
    Mutant(
        "optimizer-step-forgotten",
        "optim_step answers without a request.",
        checks("order.phases", "training.steps", "weights.values", "metrics.values"),
        "Every result looks right and nothing is trained: later steps compute their loss on the first parameters.",
        scenarios=(
            "training/five-steps-sgd",
            "session/forward-only",
            "order/plain-concurrent",
            "order/plain-spaced",
        ),
        silences=checks("training.gradient", "training.parameters"),
        client=ForgetsStep,
    ),
    Mutant(
        "sampler-path-changed",
        "The path of a save for the sampler is not the server's.",
        checks("result.fields"),
        "What the caller would sample from does not exist.",
        client=OtherPath,
    ),
    Mutant(
        "plain-weights-doubled",
        "A plain forward_backward doubles the caller's weights.",
        checks("plain.values", "metrics.values", "training.gradient"),
        "The server accumulates twice the gradient. AdamW does not see a factor: the parameters stay right.",
        scenarios=("state/load-weights", "session/lifecycle"),
        change=_plain_doubled,
    ),
    Mutant(
        "protobuf-too-early",
        "0.15.0 sends its passes in protobuf.",
        checks("wire.encoding"),
        "A server of that era reads JSON; the forms of JSON have nothing to look at.",
        silences=checks("wire.forms"),
        contract="tinker-0.15.0",
        scenarios=("custom/sum-literal", "custom/nonlinear"),
        change=_protobuf_at_15,
    ),
)
