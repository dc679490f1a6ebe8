"""What the wrong clients of structured losses have in common: scenarios, checks, how one step is replaced."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from mutant import checks

from harness.reference.behaviour import Behaviour

Change = Callable[[Behaviour], Behaviour]


def scenarios_of(*names: str) -> tuple[str, ...]:
    """Return the ids of the scenarios of regularizers with these names, separated by spaces."""
    return tuple(f"regularizers/{name}" for name in " ".join(names).split())


TRAINED = scenarios_of(
    "design-example one several tracking without-base weight-zero weight-hundred sixty-four names async-and-sync",
    "side-by-side executor executor-each cancels-base metrics constant-term a-datum-each chunked two-dimensions",
    "training training-on-regularizers built-in-sizes built-in-divergences built-in-pairs in-time",
    "returns-number",
)
OFFLINE = scenarios_of(
    "compute-design-example compute-several compute-without-base compute-weight-zero compute-sixty-four",
    "compute-async-and-sync compute-side-by-side compute-cancels-base compute-built-in-sizes",
    "compute-built-in-divergences compute-built-in-pairs",
)
WITHOUT = ("custom/sum-literal", "regularizers/empty-list")
"""Nothing to get wrong: a mutant that is run here, too, is not caught everywhere."""
REPORT = checks(
    "regularizers.document regularizers.names regularizers.order regularizers.values regularizers.contributions",
    "regularizers.total regularizers.norms regularizers.custom regularizers.flat",
)
"""Checks that find nothing where there is no report."""


def structured(**changes: Any) -> Change:
    """Return what replaces steps of a structured loss."""
    return lambda behaviour: replace(behaviour, structured=replace(behaviour.structured, **changes))


CALLED = checks("regularizers.calls")
LATER = REPORT | CALLED
