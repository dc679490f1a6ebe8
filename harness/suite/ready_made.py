"""Ready-made regularizers that an SDK may have of its own, by what they are made with.

Each is the function of `docs/regularizers.md` of that name. Its options are spelled here, never left to what an SDK
takes for granted, so that the graph beside it and the SDK's own function compute one thing.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

Target = Literal["logprobs", "probs"]
"""What sizes are taken of: the logprobs x, or e^x."""

Reduction = Literal["sum", "mean"]


class L1(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="l1"):
    """The sum, or mean, of absolute values."""

    target: Target = "logprobs"
    reduction: Reduction = "sum"


class L2(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="l2"):
    """The sum, or mean, of squares of the distance to `center`: 0, a number, or the mean of what is measured."""

    target: Target = "logprobs"
    reduction: Reduction = "sum"
    center: float | Literal["mean"] | None = None


class ElasticNet(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="elastic_net"):
    """`l1_ratio` of L1 and the rest of L2."""

    l1_ratio: float = 0.5
    target: Target = "logprobs"
    reduction: Reduction = "sum"


class Entropy(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="entropy"):
    """The entropy of the given logprobs, as a loss: what minimizes it, or with the other sign what maximizes it."""

    mode: Literal["minimize", "maximize"] = "minimize"


class KlDivergence(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="kl_divergence"):
    """The KL divergence from the logprobs in the input `reference` of the datums."""

    reference: str
    direction: Literal["forward", "reverse"] = "forward"
    symmetric: bool = False


class Consistency(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="consistency"):
    """The distance to paired logprobs, in the input `reference` of the datums."""

    reference: str
    metric: Literal["mse", "l1", "cosine"] = "mse"
    reduction: Reduction = "mean"


class GradientPenalty(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="gradient_penalty"):
    """The squared distance of the norm of a gradient, that of the sum of squares, to `target_norm`."""

    target_norm: float = 1.0


class Orthogonality(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="orthogonality"):
    """The squared cosines between the logprobs of different datums, which are rows of one length."""


ReadyMade = L1 | L2 | ElasticNet | Entropy | KlDivergence | Consistency | GradientPenalty | Orthogonality
"""The closed list. `kind` tells which one it is."""


def reference_of(adapter: ReadyMade) -> str:
    """Return the input of the datums that it reads, "" where it reads none."""
    return adapter.reference if isinstance(adapter, KlDivergence | Consistency) else ""
