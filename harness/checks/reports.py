"""Reports of compositions: golden's, the subject's, and what they have to hold, step by step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.checks.numbers import all_close
from harness.checks.steps import both, groups_of
from harness.checks.verdict import Case
from harness.drivers.protocol import StepResult
from harness.suite.losses.parts import ComposedNumbers, Composition, Numbers, composed

SPELLED: Mapping[str, float] = {
    "NaN": float("nan"),
    "Infinity": float("inf"),
    "-Infinity": float("-inf"),
    "-0.0": -0.0,
}


@dataclass(frozen=True, slots=True)
class Told:
    """A step whose subject gave a report: the two results, the report, and the numbers it has to hold."""

    step: str
    golden: StepResult
    seen: StepResult
    report: Mapping[str, Any]
    composition: Composition
    numbers: ComposedNumbers

    def part(self, name: str) -> Mapping[str, Any]:
        """Return what the report says of a regularizer; nothing where it says nothing."""
        return _mapping(_mapping(self.report.get("regularizers")).get(name))

    @property
    def base(self) -> Mapping[str, Any]:
        """What the report says of the base."""
        return _mapping(self.report.get("base_loss"))

    @property
    def named(self) -> tuple[str, ...]:
        """The regularizers that the report names, in its order."""
        return tuple(_mapping(self.report.get("regularizers")))


def told(case: Case) -> Iterator[Told]:
    """Return the steps that have a report in golden and ended well with one in the subject, in step order."""
    for golden, seen in reported(case):
        if seen.report is None:
            continue
        composition = case.compositions.get(golden.step)
        if composition is not None:
            logprobs = logprobs_of(case, golden.step, composition)
            yield Told(golden.step, golden, seen, seen.report, composition, composed(composition, logprobs))


def reported(case: Case) -> Iterator[tuple[StepResult, StepResult]]:
    """Return the steps that have a report in golden and ended well on both sides."""
    for golden, seen in both(case):
        if golden.report is not None and golden.status == seen.status == "ok":
            yield golden, seen


def reason(case: Case) -> str:
    """Return why there is no report to look at."""
    if not any(step.report is not None for step in case.golden.steps):
        return "no step of golden has a report"
    if not any(True for _ in reported(case)):
        return "no step with a report in golden ended well"
    return "no report was given"


def logprobs_of(case: Case, step: str, composition: Composition) -> tuple[Numbers, ...]:
    """Return the logprobs that a step composes on: the scenario's, or those that the server sent this subject.

    Where not one for each datum was sent, golden's.
    """
    if composition.logprobs is not None:
        return composition.logprobs
    groups = groups_of(case, step, "forward")
    for side in ("observed", "golden"):
        outputs = [output for group in groups for request in getattr(group, side) for output in request.outputs]
        found = tuple(output["logprobs"].dense() for output in outputs if "logprobs" in output)
        if len(found) == len(composition.fields):
            return found
    raise ValueError(f"{step}: golden has no logprobs for each datum")


def flat_names(step: StepResult) -> frozenset[str]:
    """Return the metrics of a result that belong to the flat form of its report."""
    return frozenset(step.flat or ())


def number(value: Any) -> float | str | None:
    """Read a number of a report: null is null, what is no number is its text."""
    if isinstance(value, str):
        return SPELLED.get(value, value)
    if value is None:
        return None
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else repr(value)


def agree(case: Case, expected: float | None, observed: float | str | None) -> bool:
    """Return whether a number of a report is what it has to be; null is only null."""
    if expected is None or observed is None or isinstance(observed, str):
        return expected is None and observed is None
    tolerance = case.tolerance
    return all_close(np.array([expected]), np.array([observed]), rtol=tolerance.rtol, atol=tolerance.atol)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
