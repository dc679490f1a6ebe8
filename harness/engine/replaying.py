"""Replay: golden responses instead of a computing server, and what cannot be judged then."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from harness.contracts.timeline import load_timeline
from harness.engine.events import PlannedCheck
from harness.engine.lookup import scenario_called
from harness.engine.plan import Plan, PlannedScenario
from harness.engine.prepare import digest_of, golden_stores, open_suite
from harness.errors import ParityError
from harness.locations import Locations
from harness.trace.replay import answers
from mock_server.replay import Replay
from mock_server.script import Script

TRAINING = "training."
"""Checks about what the server's model became: in replay there is no model."""

LEFT_OUT = "in replay the server trains nothing, so that there is no optimizer state to judge"


def replayed(plan: Plan) -> Plan:
    """Return the plan of the same run in replay, with the checks that can be judged then.

    Raises ParityError `selection-empty` where nothing is left.
    """
    scenarios, left_out = _replayable(plan.scenarios)
    return replace(
        plan,
        scenarios=scenarios,
        suite=digest_of(scenarios),
        replay=True,
        left_out=left_out,
        arguments=(*plan.arguments, "--replay"),
    )


def _replayable(
    scenarios: Sequence[PlannedScenario],
) -> tuple[tuple[PlannedScenario, ...], tuple[PlannedCheck, ...]]:
    left_out = tuple(
        PlannedCheck(planned.scenario.id, check)
        for planned in scenarios
        for check in planned.checks
        if check.startswith(TRAINING)
    )
    kept = tuple(
        replace(planned, checks=checks)
        for planned in scenarios
        if (checks := tuple(check for check in planned.checks if not check.startswith(TRAINING)))
    )
    if not kept:
        raise ParityError(
            "selection-empty",
            f"the {len(left_out)} selected checks cannot be judged: {LEFT_OUT}",
            hint="leave --replay out, or select other checks",
        )
    return kept, left_out


def served(locations: Locations, scenario_id: str, contract: str | None) -> tuple[Script, Replay, str]:
    """Return what a server is told that replays a scenario, and the id of the contract.

    Without a contract it is the newest described one. Raises ParityError `scenario-unknown`, `contract-unknown`,
    `contract-undescribed`, and what loading the golden trace raises.
    """
    suite, timeline = open_suite(locations), load_timeline(locations.timeline)
    scenario = scenario_called(suite, scenario_id)
    point = timeline.point(contract or f"tinker-{timeline.described[-1]}")
    golden = golden_stores(locations, suite)(scenario.id).load(
        scenario.id, point.release, timeline.described, stimulus=suite.digest(scenario)
    )
    return scenario.stimulus.server, answers(golden), point.id
