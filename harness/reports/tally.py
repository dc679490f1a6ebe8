"""What a run has said so far: the state every report is written from."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, get_args

from harness.checks.verdict import Outcome
from harness.engine.events import (
    Account,
    BaselineHeld,
    CheckJudged,
    Event,
    Labelled,
    LedgerHeld,
    RecordingOpened,
    RunFinished,
    RunStarted,
    ScenarioFinished,
    ScenarioPictured,
    ScenarioStarted,
    Shard,
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
        self.pictures: dict[str, ScenarioPictured] = {}
        self.running: list[str] = []
        self.recording: RecordingOpened | None = None
        self.ledger: tuple[Account, ...] = ()
        self.baseline: BaselineHeld | None = None
        self.labels: dict[tuple[str, str], Labelled] = {}
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
            case ScenarioPictured():
                self.pictures[event.scenario] = event
            case ScenarioFinished():
                self.scenarios[event.scenario] = event
                if event.scenario in self.running:
                    self.running.remove(event.scenario)
            case RecordingOpened():
                self.recording = event
            case LedgerHeld():
                self.ledger = event.accounts
            case BaselineHeld():
                self.baseline = event
                self.labels = {(each.scenario, each.check): each for each in event.labels}
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

        A run in which nothing held, because nothing was supported, did not hold either; nor one whose ledger has an
        entry that says nothing any more. What is unscored decides nothing, nor do labels against an earlier report. A
        part of a run holds where nothing in it fails: the rest is for the whole to say.
        """
        if self.interrupted:
            return NOT_RUN
        held = self.shard is not None or any(
            result.outcome in {"pass", "known"} and not result.unscored for result in self.results
        )
        failing = any(fails(result) for result in self.results) or bool(self.unused)
        return HELD if held and not failing else DIVERGED

    @property
    def shard(self) -> Shard | None:
        """The part of a run that this is, where it is one."""
        return self.started.edition.shard if self.started else None

    @property
    def unused(self) -> tuple[Account, ...]:
        """The ledger's entries that say nothing any more; none in a part of a run, where another part may use them."""
        return () if self.shard else tuple(entry for entry in self.ledger if entry.unused)


def by_area(results: Iterable[CheckJudged]) -> dict[str, dict[Outcome, int]]:
    """Return the number of checks per outcome in each area: the family of a check."""
    rows: dict[str, dict[Outcome, int]] = {}
    for result in results:
        area = result.check.partition(".")[0]
        rows.setdefault(area, dict.fromkeys(OUTCOMES, 0))[result.outcome] += 1
    return rows


def fails(result: CheckJudged) -> bool:
    """Return whether this result makes the run fail.

    `fail`, `error` and `not_run` always do, so does `fixed` (its ledger entry has to go) and `unsupported` where the
    contract requires the capability. What is unscored never does.
    """
    return not result.unscored and (result.outcome in {"fail", "fixed", "error", "not_run"} or result.required)
