"""Slow scenarios in a plan: left out and named, unless they are asked for."""

from __future__ import annotations

import pytest

from harness.engine.prepare import open_suite, prepare
from harness.errors import ParityError
from harness.locations import locate

EXPRESSION = "faults/heartbeat or faults/cancel-plain"


def test_slow_scenarios_are_left_out_by_default():
    """The plan says which of their checks were not asked for; the others are planned."""
    plan = prepare(locate(), sdk="reference", expression=EXPRESSION)
    assert [planned.scenario.id for planned in plan.scenarios] == ["faults/cancel-plain"]
    assert {check.scenario for check in plan.slow} == {"faults/heartbeat"}
    assert "--slow" not in plan.arguments


def test_slow_scenarios_are_planned_when_asked_for():
    """With `slow` nothing is left out, and the command that does it again says so."""
    plan = prepare(locate(), sdk="reference", expression=EXPRESSION, slow=True)
    assert {planned.scenario.id for planned in plan.scenarios} == {"faults/cancel-plain", "faults/heartbeat"}
    assert plan.slow == ()
    assert plan.arguments[-1] == "--slow"


def test_a_selection_of_slow_scenarios_only_is_refused_with_the_way_out():
    """Nothing would be run."""
    with pytest.raises(ParityError, match="only slow scenarios are selected: faults/heartbeat") as caught:
        prepare(locate(), sdk="reference", expression="faults/heartbeat")
    assert caught.value.code == "selection-empty"
    assert "--slow" in caught.value.hint


def test_every_scenario_that_idles_for_seconds_is_slow():
    """What waits for five seconds or more is not paid for by everybody."""
    suite = open_suite(locate())
    idle = {
        name: sum(getattr(step, "seconds", 0.0) for step in scenario.stimulus.steps)
        for name, scenario in suite.scenarios.items()
    }
    assert [name for name, seconds in idle.items() if seconds >= 5 and not suite.scenarios[name].slow] == []
