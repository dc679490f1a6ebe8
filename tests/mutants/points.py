"""Mutants of 0.38.0 that run at 0.7.0 and at 0.15.0 as well: what turns red at one release proves that release only.

A mutant is `NAME@RELEASE` there. Most must redden what they redden at 0.38.0; where a release makes a mistake show
otherwise, `_AT` says how.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import breadth
import called
import caller
import composed
import faults
import passes
import ready_made
import weights
import wire
from mutant import QUICK, RACING, Mutant, checks

from harness.reference.behaviour import Behaviour

RELEASES = ("0.7.0", "0.15.0")

SOME = (
    "custom/sum-literal",
    "custom/nonlinear",
    "custom/targets-2d",
    "custom/extra-inputs",
    "custom/user-weights",
    "custom/cross-datum",
    "errors/missing-gradient",
    "errors/loss-raises",
    "metrics/reduction",
    "metrics/reduction-plain",
    "metrics/optim-step",
    "chunks/limits-from-config",
    "order/ids-are-shared",
    "state/load-with-optimizer",
    "state/load-weights",
    "session/model-options",
    "session/lifecycle",
    "session/forward-only",
    "training/five-steps-sgd",
    "futures/try-again",
)
"""Cheap scenarios, few of a kind."""

WIDE = tuple(
    dict.fromkeys(
        (
            *(name for name in QUICK if not name.startswith("chunks/count-")),
            *SOME,
            *RACING,
            "custom/batch-normalised",
            "custom/gradient-range",
            "custom/known-list-keys",
            "custom/logsumexp",
            "custom/loss-mutates-inputs",
            "custom/loss-mutates-targets",
            "custom/native-tensors",
            "custom/shape-flat",
            "custom/shape-omitted",
            "custom/some-weights",
            "custom/unused-datum",
            "custom/zero-length",
            "errors/fewer-outputs",
            "errors/longer-outputs",
            "errors/loss-appends-datum",
            "errors/loss-removes-datum",
            "errors/no-server-loss",
            "futures/paused",
            "futures/timeout-reply",
            "order/awaited-backwards",
            "order/custom-then-optim-spaced",
            "order/plain-concurrent",
            "order/plain-spaced",
            "order/ten-in-flight",
            "order/two-customs",
            "order/two-models",
            "printed/tinkex-basic-usage",
            "printed/tinkex-minimal-workflow",
            "printed/tinkex-regularizers",
            "state/load-into-other",
            "training/accumulate",
            "training/batch-normalised",
            "training/clipped-ratio",
            "training/five-steps-adamw",
            "training/identical-completions",
            "training/kl-penalty",
        )
    )
)
"""Every kind of scenario whose numbers or outputs a client can get wrong, without megabytes of data."""

COMPOSED = (
    "regularizers/one",
    "regularizers/several",
    "regularizers/tracking",
    "regularizers/weight-zero",
    "regularizers/weight-hundred",
    "regularizers/without-base",
    "regularizers/names",
    "regularizers/metrics",
    "regularizers/constant-term",
    "regularizers/built-in-divergences",
    "regularizers/raises",
    "regularizers/base-raises",
    "regularizers/async-raises",
    "regularizers/not-scalar",
    "regularizers/adapters-references-training",
    "regularizers/adapters-weight-hundred",
)
"""Losses with regularizers, few of a kind. Offline a release makes no difference."""

_MUTANTS = {
    mutant.name: mutant
    for module in (weights, passes, wire, caller, breadth, faults, composed, called, ready_made)
    for mutant in module.MUTANTS
}
_WIDE = ("sign", "outputs-reversed")
_SOME = (
    "wrong-datum",
    "input-leaked",
    "weights-int64",
    "targets-shifted",
    "missing-gradient-as-zeros",
    "extra-inputs-forward",
    "limit-one-less",
    "mean-unweighted",
    "metrics-unmerged",
    "optimizer-not-restored",
    "unknown-path",
    "unknown-field",
    "leaves-float64",
    "logprobs-halved",
    "loss-called-twice",
    "loss-sees-more",
    "result-of-own-type",
    "load-forgotten",
    "step-metrics-lost",
    "ids-from-two",
)
_OWN = ("infinite-logprobs-clipped", "optimizer-step-forgotten")
"""These run in the scenarios they have at 0.38.0: more of them only take longer."""

_COMPOSED = (
    "regularizers-reported-not-trained",
    "regularizers-ignored",
    "base-not-trained",
    "weight-not-applied",
    "weight-applied-twice",
    "last-regularizer-forgotten",
    "comparisons-without-gradient",
    "every-part-needs-a-gradient",
    "no-report",
    "nulls-left-out",
    "weighted-values",
    "values-for-contributions",
    "total-without-regularizers",
    "norms-exchanged",
    "norms-of-zero",
    "part-metrics-lost",
    "flat-without-weights",
    "regularizers-called-twice",
    "failing-regularizers-skipped",
    "vector-regularizer-summed",
    "name-lost",
)
"""These run in those of their scenarios that are in COMPOSED."""

_TRAINED_ON = {
    "reddens": checks("result.status", "error.sent", "training.gradient", "training.parameters"),
    "because": "A backward pass goes out where none must, and the next optimizer step trains on it: these releases go "
    "on after a failure. No error is left to judge.",
}

_AT: Mapping[str, Mapping[str, Any]] = {
    "missing-gradient-as-zeros": _TRAINED_ON,
    "failing-regularizers-skipped": _TRAINED_ON,
    "vector-regularizer-summed": _TRAINED_ON,
    "metrics-unmerged": {
        "reddens": checks("metrics.names"),
        "because": "Names are missing. loss:sum is the server's in these releases.",
    },
    "extra-inputs-forward": {
        "says": "The forward pass adds zero weights where the caller gave none.",
        "because": "Both releases send what the caller gave; a later one adds the weights.",
    },
}
"""What differs from the mutant's own entry at 0.38.0."""


def _without(route: str, key: str) -> Callable[[Behaviour], Behaviour]:
    def change(behaviour: Behaviour) -> Behaviour:
        def body(name: str, given: Mapping[str, Any]) -> Any:
            filled = behaviour.body(name, given)
            return {k: value for k, value in filled.items() if k != key} if name == route else filled

        return replace(behaviour, body=body)

    return change


_SINCE_7 = (
    replace(
        _MUTANTS["metadata-not-allowed"],
        name="metadata-not-allowed@0.15.0",
        scenarios=("futures/metadata-only", "custom/sum-literal"),
    ),
    replace(
        _MUTANTS["no-400-budget"],
        name="no-400-budget@0.15.0",
        says="0.15.0 fails at the first poll that is answered 400.",
    ),
    replace(
        _MUTANTS["fewer-outputs-accepted"],
        name="fewer-outputs-accepted@0.15.0",
        says="0.15.0 pairs datums and outputs as far as both go.",
    ),
    Mutant(
        "ttl-left-out",
        "0.15.0 saves without ttl_seconds.",
        checks("wire.bodies"),
        "It is null where the caller names none, since 0.9.0.",
        scenarios=("state/load-weights", "custom/sum-literal"),
        change=_without("save_weights", "ttl_seconds"),
    ),
    Mutant(
        "project-left-out",
        "0.15.0 starts its session without project_id.",
        checks("wire.bodies"),
        "It is null where the caller names none, since 0.15.0.",
        scenarios=("custom/sum-literal",),
        change=_without("create_session", "project_id"),
    ),
)
"""What came between 0.7.0 and 0.15.0, done as before."""


def _again() -> Iterator[Mutant]:
    for release in RELEASES:
        for name in dict.fromkeys((*_WIDE, *_SOME, *_OWN, *_COMPOSED)):
            mutant = replace(_MUTANTS[name], **_AT.get(name, {}))
            if name == "ids-from-two":
                mutant = replace(mutant, scenarios=("custom/sum-literal",))  # a hole in the ids: seconds of waiting
            elif name in _COMPOSED:
                mutant = replace(mutant, scenarios=tuple(each for each in mutant.scenarios if each in COMPOSED))
            elif name not in _OWN:
                mutant = replace(mutant, scenarios=WIDE if name in _WIDE else SOME)
            yield replace(mutant, name=f"{name}@{release}", contract=f"tinker-{release}")


MUTANTS: tuple[Mutant, ...] = (
    *_again(),
    *(replace(mutant, contract="tinker-0.15.0") for mutant in _SINCE_7),
)
