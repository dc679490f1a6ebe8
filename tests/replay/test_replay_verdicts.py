"""The reference is judged the same in replay as against a server that computes."""

from __future__ import annotations

import asyncio
import sys
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest

from harness.checks.registry import judge
from harness.checks.verdict import Case
from harness.drivers.registry import PYTHON_VARIABLES
from harness.drivers.spec import DriverSpec, base_environment
from harness.engine.events import CheckJudged
from harness.engine.prepare import prepare
from harness.engine.replaying import TRAINING, replayed
from harness.engine.run import run
from harness.errors import ParityError
from harness.locations import locate

ROOT = Path(__file__).parents[2]
FOLLOWS = {"weights.values", "metrics.values", "training.gradient", "training.parameters"}


async def _outcomes(plan):
    outcomes = {}
    async with aclosing(run(plan)) as events:
        async for event in events:
            if isinstance(event, CheckJudged):
                outcomes[event.scenario, event.check] = (event.outcome, event.message, event.where)
    return outcomes


def _live(plan):
    """Return the verdicts about the reference's live run, which is what a golden trace is."""
    outcomes = {}
    for planned in plan.scenarios:
        scenario = planned.scenario
        case = Case(planned.golden, planned.golden, plan.contract, scenario.judge.tolerance, scenario.stimulus.server)
        for check in planned.checks:
            verdict = judge(check, case)
            outcomes[scenario.id, check] = (verdict.outcome, verdict.message, verdict.where)
    return outcomes


@pytest.mark.parametrize("contract", ["tinker-0.7.0", "tinker-0.38.0"])
def test_live_and_replay_give_the_same_verdicts(contract):
    """Every check of every scenario has the same verdict, but training.*, which is not planned in replay."""
    live = prepare(locate(ROOT), sdk="reference", contract=contract, jobs=2)
    plan = replace(replayed(live), rerun=False, vectors=())
    expected = {key: verdict for key, verdict in _live(live).items() if not key[1].startswith(TRAINING)}
    assert asyncio.run(_outcomes(plan)) == expected
    assert {check.check.partition(".")[0] for check in plan.left_out} == {"training"}
    assert len(expected) + len(plan.left_out) == len(live.checks)
    assert plan.arguments[-1] == "--replay"


def test_a_selection_of_nothing_but_training_cannot_be_replayed():
    """What is left out is said; a run without a check is refused."""
    plan = prepare(locate(ROOT), sdk="reference", expression="training.gradient", contract="tinker-0.38.0")
    with pytest.raises(ParityError, match="optimizer state") as caught:
        replayed(plan)
    assert caught.value.code == "selection-empty"


def test_one_wrong_request_does_not_colour_later_checks():
    """Live, weights of the opposite sign train the model wrongly, and later answers differ; in replay they do not."""
    live = prepare(locate(ROOT), sdk="reference", contract="tinker-0.38.0", expression="training/five-steps-sgd")
    spec = DriverSpec(
        argv=(sys.executable, "-s", str(ROOT / "tests" / "mutants" / "driver.py"), "sign"),
        name="mutant",
        version="0.38.0",
        env=base_environment(PYTHON_VARIABLES),
    )
    live = replace(live, spec=spec, rerun=False, vectors=())
    red = {}
    for name, plan in (("live", live), ("replay", replayed(live))):
        red[name] = {check for (_, check), told in asyncio.run(_outcomes(plan)).items() if told[0] != "pass"}
    assert {"weights.values", "metrics.values", "training.gradient"} <= red["live"] <= FOLLOWS
    assert red["replay"] == {"weights.values"}
