"""What a run has said so far: the state every report is written from."""

from __future__ import annotations

from typing import Protocol, get_args

from harness.checks.verdict import Outcome
from harness.engine.events import (
    CheckJudged,
    Event,
    RunFinished,
    RunStarted,
    ScenarioFinished,
    ScenarioStarted,
    SubjectReady,
)

OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
"""Every outcome, in the order reports list them."""

HELD = 0
DIVERGED = 1
NOT_RUN = 2


class Report(Protocol):
    """A handler of the event stream. It is told every event once, in order."""

    def handle(self, event: Event) -> None:
        """Take notice of `event`."""
        ...


class Tally:
    """Every event of a run, put where reports find it. It is a handler itself."""

    def __init__(self) -> None:
        self.started: RunStarted | None = None
        self.subject: SubjectReady | None = None
        self.results: list[CheckJudged] = []
        self.scenarios: dict[str, ScenarioFinished] = {}
        self.running: list[str] = []
        self.finished: RunFinished | None = None

    def handle(self, event: Event) -> None:
        """Take notice of `event`."""
        match event:
            case RunStarted():
                self.started = event
            case SubjectReady():
                self.subject = event
            case ScenarioStarted():
                if event.scenario not in self.running:
                    self.running.append(event.scenario)
            case CheckJudged():
                self.results.append(event)
            case ScenarioFinished():
                self.scenarios[event.scenario] = event
                if event.scenario in self.running:
                    self.running.remove(event.scenario)
            case RunFinished():
                self.finished = event

    @property
    def totals(self) -> dict[Outcome, int]:
        """Number of checks per outcome, every outcome named."""
        totals: dict[Outcome, int] = dict.fromkeys(OUTCOMES, 0)
        for result in self.results:
            totals[result.outcome] += 1
        return totals

    def in_plan_order(self) -> list[CheckJudged]:
        """Return the results in the order of the plan, whatever order they came in."""
        planned = self.started.planned if self.started else ()
        rank = {(check.scenario, check.check): place for place, check in enumerate(planned)}
        return sorted(self.results, key=lambda result: rank.get((result.scenario, result.check), len(rank)))

    def of_scenario(self, scenario: str) -> list[CheckJudged]:
        """Return the results of one scenario."""
        return [result for result in self.results if result.scenario == scenario]

    @property
    def interrupted(self) -> bool:
        """Whether the run did not come to its end."""
        return self.finished is None or self.finished.interrupted

    @property
    def exit_status(self) -> int:
        """What the process ends with: 0 everything held, 1 something did not, 2 the run was cut short.

        A run in which nothing held, because nothing was supported, did not hold either.
        """
        if self.interrupted:
            return NOT_RUN
        held = any(result.outcome in {"pass", "known"} for result in self.results)
        return HELD if held and not any(fails(result) for result in self.results) else DIVERGED


def fails(result: CheckJudged) -> bool:
    """Return whether this result makes the run fail.

    `fail`, `error` and `not_run` always do, so does `fixed` (its ledger entry has to go) and `unsupported` where the
    contract requires the capability.
    """
    return result.outcome in {"fail", "fixed", "error", "not_run"} or result.required
