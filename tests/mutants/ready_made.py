"""Clients whose ready-made regularizers have no gradient, although their values count."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mutant import Mutant, checks

from harness.drivers.python import graph
from harness.drivers.reference.watching import WatchedLoss
from harness.reference.behaviour import Behaviour
from harness.reference.calls import Pending
from harness.reference.client import ReferenceClient
from harness.reference.encoding import PassOutput
from harness.reference.regularizers import calling
from harness.reference.regularizers.results import Called
from harness.reference.training import TrainingClient
from harness.reference.values import Datum, TorchInputs

if TYPE_CHECKING:
    import torch

COMPARING = frozenset(("kl", "kl_reverse", "kl_symmetric", "consistency", "cosine"))
"""What the suite calls regularizers that compare with an input of the datums."""

ENTROPIES = frozenset(("entropy", "exploration"))


def _all(*names: str) -> tuple[str, ...]:
    return tuple(f"regularizers/{name}" for name in " ".join(names).split())


def _constant(loss: torch.Tensor) -> torch.Tensor:
    """Return the same number with a gradient of zeros."""
    return 0.0 * loss + loss.detach()


def _in_parts(kind: Collection[str]) -> Any:
    """Lose the gradients of regularizers that the client is given one by one."""

    async def called(regularizers: Any, data: Any, logprobs: Any, **options: Any) -> list[Called]:
        found = await calling.call_regularizers(regularizers, data, logprobs, **options)
        named = zip(regularizers, found, strict=True)
        return [replace(one, loss=_constant(one.loss)) if each.name in kind else one for each, one in named]

    def change(behaviour: Behaviour) -> Behaviour:
        return replace(behaviour, structured=replace(behaviour.structured, call_regularizers=called))

    return change


def _in_the_callback(kind: Collection[str]) -> type[ReferenceClient]:
    """Lose the gradients of regularizers that a callback takes from the client and adds up itself."""

    class Client(ReferenceClient):
        async def create_model(
            self, base_model: str, *, rank: int, seed: int | None = None, call: str = ""
        ) -> TrainingClient:
            made = await super().create_model(base_model, rank=rank, seed=seed, call=call)
            right = made.forward_backward_custom

            async def custom(data: Any, loss: Any, *given: Any, **options: Any) -> Pending[PassOutput]:
                return await right(data, _without(loss, kind), *given, **options)

            made.forward_backward_custom = custom  # type: ignore[method-assign,assignment]
            return made

    return Client


def _without(loss: Any, kind: Collection[str]) -> Any:
    apart = loss.graph.get("apart") if isinstance(loss, WatchedLoss) else None
    if apart is None or not apart["folded"]:
        return loss

    def callback(data: Sequence[Datum], logprobs: list[torch.Tensor]) -> tuple[torch.Tensor, Mapping[str, float]]:
        value, metrics = loss(data, logprobs)
        for term in apart["regularizers"]:
            if term["name"] in kind:
                part = {"nodes": loss.graph["nodes"], "loss": term["node"]}
                lost, _ = graph.evaluate(part, logprobs, [TorchInputs(datum) for datum in data])
                value = value - term["weight"] * (lost - lost.detach())
        return value, metrics

    return callback


WEIGHTS_AND_NORMS = checks("weights.values regularizers.norms")

MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "comparisons-without-gradient",
        "Regularizers that compare with an input of the datums are constant where they are differentiated.",
        WEIGHTS_AND_NORMS,
        "Values are right and count; what is sent, and every norm, lacks their gradient.",
        scenarios=_all(
            "adapters-references-offline adapters-datums-offline adapters-references-training adapters-weight-hundred",
            "built-in-divergences compute-built-in-divergences adapters-training adapters-offline",
        ),
        change=_in_parts(COMPARING),
        client=_in_the_callback(COMPARING),
    ),
    Mutant(
        "entropies-without-gradient",
        "The entropy is constant where it is differentiated.",
        WEIGHTS_AND_NORMS,
        "It is the one of nine regularizers that nobody would miss.",
        scenarios=_all("adapters-offline adapters-training adapters-weight-hundred"),
        change=_in_parts(ENTROPIES),
        client=_in_the_callback(ENTROPIES),
    ),
)
