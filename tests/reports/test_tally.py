"""What makes a run fail."""

from __future__ import annotations

import pytest

from harness.engine.events import CheckJudged, RunFinished
from harness.reports.tally import DIVERGED, HELD, NOT_RUN, OUTCOMES, Tally


def _status(*results, interrupted=False):
    tally = Tally()
    for result in results:
        tally.handle(result)
    tally.handle(RunFinished(0.1, interrupted=interrupted))
    return tally.exit_status


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_exit_status_of_each_outcome(outcome):
    """pass, known and an optional unsupported hold; fail, fixed, error and not_run fail the run."""
    expected = HELD if outcome in {"pass", "known", "unsupported"} else DIVERGED
    assert _status(CheckJudged("a/b", "c.c", "pass"), CheckJudged("a/b", "c.d", outcome)) == expected


def test_a_missing_required_capability_fails_the_run():
    """Unsupported is red where the contract requires the capability."""
    assert _status(CheckJudged("a/b", "c.d", "unsupported", required=True)) == DIVERGED


def test_a_run_in_which_nothing_is_supported_does_not_hold():
    """Green needs something that held."""
    assert _status(CheckJudged("a/b", "c.d", "unsupported")) == DIVERGED
    assert _status() == DIVERGED


def test_an_interrupted_run_could_not_be_run():
    """A run cut short ends with status 2, whatever it had found, and so does one that never ended."""
    assert _status(CheckJudged("a/b", "c.d", "fail"), interrupted=True) == NOT_RUN
    assert Tally().exit_status == NOT_RUN


def test_totals_name_every_outcome(events, play):
    """Every outcome has a count, those that did not occur too."""
    assert play(events).totals == dict.fromkeys(OUTCOMES, 1)
    assert Tally().totals == dict.fromkeys(OUTCOMES, 0)


def test_results_come_in_plan_order(events, play):
    """Whatever order verdicts came in, reports list them as planned."""
    tally = play(events)
    planned = [(check.scenario, check.check) for check in tally.started.planned]
    assert [(result.scenario, result.check) for result in tally.in_plan_order()] == planned
