"""Judging a recording: the wire-level checks of a scenario, without a driver, a server or a tensor library."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.checks.registry import judge
from harness.checks.verdict import Case
from harness.contracts.timeline import Timeline, load_timeline
from harness.drivers.registry import parse
from harness.engine.events import CheckJudged
from harness.engine.lookup import scenario_called
from harness.engine.prepare import golden_stores, ledger_for, open_suite, own_contract
from harness.errors import ParityError
from harness.ledger import Ledger, Subject
from harness.locations import Locations
from harness.recording.store import read_recording
from harness.suite.judging import checks_at
from harness.suite.loader import Suite
from harness.trace.normalise import make_trace

_USER = "a recording has what was on the wire, not what the user of the SDK saw"
_SERVER = "a recording does not have the numbers of the server's model"
_WAITING = "a recording does not tell which operations the server held back"
_REASONS = {
    "error.after": _USER,
    "error.kind": _USER,
    "error.raised_at": _USER,
    "gaps": _WAITING,
    "loss": _USER,
    "metrics": _USER,
    "regularizers": _USER,
    "result": _USER,
    "training": _SERVER,
}
"""Why a check, or a family of checks, cannot be judged from a recording."""


@dataclass(frozen=True, slots=True)
class Judged:
    """The outcome of every check that a recording can be judged by, and why the others were left out.

    `note` says what is missing from the recording itself, or "".
    """

    scenario: str
    contract: str
    results: tuple[CheckJudged, ...]
    left_out: tuple[tuple[str, str], ...]
    note: str = ""

    @property
    def holds(self) -> bool:
        """Whether every judged check passed, or failed as the ledger lists."""
        return all(result.outcome == "pass" for result in self.results)


def why_left_out(check: str) -> str:
    """Return why a check cannot be judged from a recording, or "" where it can."""
    return _REASONS.get(check) or _REASONS.get(check.partition(".")[0], "")


def check_recording(
    locations: Locations,
    folder: Path,
    *,
    scenario_id: str,
    contract: str,
    sdk: str | None = None,
    ledger: Path | None = None,
) -> Judged:
    """Judge a recording of one run of a scenario by the golden trace at a contract.

    `sdk` (`tinker==0.38.0`) says whose ledger applies, `ledger` is the user's own. Raises ParityError
    `scenario-unknown`, `contract-unknown`, `contract-undescribed`, and what reading the recording, the ledger and the
    golden trace raises.
    """
    suite, timeline = open_suite(locations), load_timeline(locations.timeline)
    scenario = scenario_called(suite, scenario_id)
    point = timeline.point(contract)
    stimulus = suite.digest(scenario)
    golden = golden_stores(locations, suite)(scenario.id).load(
        scenario.id, point.release, timeline.described, stimulus=stimulus
    )
    taken = read_recording(folder)
    observed = make_trace(scenario.id, stimulus, point.id, taken.record, ())
    case = Case(
        golden=golden,
        observed=observed,
        contract=point,
        tolerance=scenario.judge.tolerance,
        script=scenario.stimulus.server,
    )
    known = _ledger(locations, suite, timeline, contract=point.id, sdk=sdk, overlay=ledger)
    asked = checks_at(point.release, timeline.described)(scenario.judge)
    reasons = {check: why_left_out(check) for check in asked}
    return Judged(
        scenario=scenario.id,
        contract=point.id,
        results=tuple(_judged(check, case, known) for check, reason in reasons.items() if not reason),
        left_out=tuple((check, reason) for check, reason in reasons.items() if reason),
        note=taken.note,
    )


def _ledger(
    locations: Locations, suite: Suite, timeline: Timeline, *, contract: str, sdk: str | None, overlay: Path | None
) -> Ledger:
    if sdk is None:
        if overlay is None:
            return Ledger()
        raise ParityError(
            "ledger-subject", "a ledger is about an SDK, and none was named", hint="name it: --sdk NAME==VERSION"
        )
    name, version = parse(sdk)
    own = own_contract(timeline, f"{name}=={version}") if version in timeline.described else None
    return ledger_for(
        locations,
        Subject(name, version, contract, own is not None and own.id == contract),
        suite=suite,
        described=timeline.described,
        overlay=overlay,
    )


def _judged(check: str, case: Case, known: Ledger) -> CheckJudged:
    verdict = judge(check, case)
    settled = known.settle(verdict, scenario=case.golden.scenario, check=check)
    return CheckJudged(
        scenario=case.golden.scenario,
        check=check,
        outcome=settled.outcome,
        message=settled.message,
        expected=verdict.expected,
        observed=verdict.observed,
        where=verdict.where,
        cause=verdict.cause,
        certainty=verdict.certainty,
        detail=verdict.detail,
    )
