"""A small finished run, with every outcome in it and a subject that writes hostile text."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from harness.engine.events import (
    CheckJudged,
    Event,
    PlannedCheck,
    RunFinished,
    RunStarted,
    ScenarioFinished,
    ScenarioStarted,
    SubjectReady,
)
from harness.reports.tally import Report, Tally

HOSTILE = "\x1b]0;owned\x07\x1b[2Jboo\u202e \x00 \ud800 ]]> <&> \ufffe"

RESULTS = (
    CheckJudged("chunks/limit", "chunks.limits", "pass"),
    CheckJudged("chunks/limit", "chunks.nonempty", "fail", HOSTILE, "1024", HOSTILE, "fb seq 3", "cut at 1023"),
    CheckJudged("custom/sum", "weights.values", "known", "opposite sign (known: a bug)"),
    CheckJudged("custom/sum", "weights.dtype", "fixed", "listed, but it holds"),
    CheckJudged("state/load", "state.optimizer", "unsupported", "no load_state_with_optimizer"),
    CheckJudged("state/load", "result.status", "error", "crash: killed by SIGSEGV\nlast words"),
    CheckJudged("state/load", "order.seq", "not_run", "nothing to look at"),
)

REPEATED = {"chunks/limit": {"runs": 5, "failed_runs": 2}}


@pytest.fixture(scope="session")
def events() -> tuple[Event, ...]:
    """Return a whole run in which every outcome occurs once, results coming in another order than planned."""
    scenarios = list(dict.fromkeys(result.scenario for result in RESULTS))
    return (
        RunStarted(
            sdk="tinker",
            version="0.38.0",
            contract="tinker-0.38.0",
            suite="abc",
            planned=tuple(PlannedCheck(result.scenario, result.check) for result in RESULTS),
            jobs=2,
            arguments=("--sdk", "tinker==0.38.0"),
            slow=(PlannedCheck("faults/beats", "result.hang"), PlannedCheck("faults/beats", "session.end")),
        ),
        SubjectReady(
            sdk={"name": "tinker", "version": "0.38.0", "file": "/x/tinker/__init__.py", "digest": "d1"},
            language="python",
            runtime="CPython 3.11",
            libraries={"torch": "2.13.0"},
            capabilities=("forward",),
        ),
        *(ScenarioStarted(scenario) for scenario in scenarios),
        *reversed(RESULTS),
        *(
            ScenarioFinished(
                scenario, f"Title of {scenario}", 0.5, exchange="+0.1 ms POST \x1b[31m", **REPEATED.get(scenario, {})
            )
            for scenario in scenarios
        ),
        RunFinished(1.5),
    )


@pytest.fixture(scope="session")
def play() -> Callable[..., Tally]:
    """Play events into a tally and the reports that `make(tally)` returns."""

    def play(events: Sequence[Event], make: Callable[[Tally], Sequence[Report]] = lambda _tally: ()) -> Tally:
        tally = Tally()
        reports = make(tally)
        for event in events:
            tally.handle(event)
            for report in reports:
                report.handle(event)
        return tally

    return play


@pytest.fixture
def same_as_snapshot() -> Callable[[str, str], None]:
    """Compare a text with a file of `snapshots/`; with UPDATE_SNAPSHOTS=1 in the environment, write it instead."""

    def same(name: str, text: str) -> None:
        file = Path(__file__).parent / "snapshots" / name
        if os.environ.get("UPDATE_SNAPSHOTS") == "1":
            file.parent.mkdir(exist_ok=True)
            file.write_text(text, encoding="utf-8")
        assert text == file.read_text(encoding="utf-8"), "if that is meant: UPDATE_SNAPSHOTS=1, and look at the diff"

    return same
