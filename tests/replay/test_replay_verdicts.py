"""The reference is judged the same in replay as against a server that computes."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest

from harness.checks.registry import judge
from harness.checks.verdict import Case
from harness.engine.events import CheckJudged
from harness.engine.prepare import prepare
from harness.engine.replaying import TRAINING, replayed
from harness.engine.run import run
from harness.errors import ParityError
from harness.locations import locate

ROOT = Path(__file__).parents[2]


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
