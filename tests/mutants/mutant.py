"""What a deliberately wrong client is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from harness.reference.behaviour import Behaviour
from harness.reference.client import ReferenceClient

QUICK = (
    "custom/sum-literal",
    "custom/gradient-literal",
    "custom/last-token",
    "custom/nonlinear",
    "custom/cross-datum",
    "custom/targets-2d",
    "custom/targets-2d-sparse",
    "custom/extra-inputs",
    "custom/user-weights",
    "custom/plain-lists",
    "custom/clipped-ratio",
    "errors/missing-gradient",
    "errors/loss-raises",
    "errors/loss-not-scalar",
    "errors/loss-constant",
    "errors/unusable-metric",
    "chunks/count-1024",
    "chunks/count-1025",
    "chunks/limits-from-config",
    "metrics/reduction",
    "metrics/single-chunk",
    "metrics/collision",
    "order/custom-then-optim",
    "order/ids-are-shared",
    "state/load-weights",
    "state/load-with-optimizer",
    "training/five-steps-sgd",
    "futures/try-again",
    "futures/metadata-only",
    "session/lifecycle",
    "session/forward-only",
)
"""What a mutant runs unless it names its own: no scenario with megabytes of data, and none of RACING."""

RACING = ("order/custom-then-optim-concurrent", "order/two-customs-concurrent")
"""Exclusive scenarios. A mutant that has one is run with nothing beside it: only where it shows something."""


CONSEQUENCES: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "weights.values": frozenset(("metrics.values", "training.gradient", "training.parameters")),
        "weights.targets": frozenset(("weights.values", "metrics.values", "training.gradient", "training.parameters")),
        "loss.calls": frozenset(("loss.saw_shape", "loss.saw_values")),
        "loss.saw_values": frozenset(("weights.values", "metrics.values", "training.gradient", "training.parameters")),
        "plain.values": frozenset(("metrics.values", "training.gradient", "training.parameters")),
        "training.parameters": frozenset(("weights.values", "metrics.values", "training.gradient")),
    }
)
"""What may turn red after a check, said once: the server's loss is sum(-logprob * weight), its gradient is made of the
weights, and a model that was trained otherwise answers other logprobs from then on. A loss that is called for other
data than its own may see that last."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """The reference client with one thing wrong.

    `says` is the mistake in a sentence. `reddens` are the ids of the checks that must fail somewhere in `scenarios`,
    exactly these and what may follow from them (CONSEQUENCES), and `because` says why each of them must. `silences` are
    checks that find nothing to look at because of the mistake (`not_run`). `equivalent` says why nobody can tell the
    client from a right one; it must then stay green. `change` alters the behaviour, `client` replaces the client.
    """

    name: str
    says: str
    reddens: frozenset[str]
    because: str
    contract: str = "tinker-0.38.0"
    scenarios: tuple[str, ...] = QUICK
    silences: frozenset[str] = frozenset()
    equivalent: str = ""
    change: Callable[[Behaviour], Behaviour] = lambda behaviour: behaviour
    client: type[ReferenceClient] = ReferenceClient


def checks(*names: str) -> frozenset[str]:
    """Return a set of check ids, each given as one word or several separated by blanks."""
    return frozenset(word for name in names for word in name.split())
