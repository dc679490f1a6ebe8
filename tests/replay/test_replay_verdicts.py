"""The reference is judged the same in replay as against a server that computes."""

from __future__ import annotations

import asyncio
import sys
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest

from harness.drivers.registry import PYTHON_VARIABLES
from harness.drivers.spec import DriverSpec, base_environment
from harness.engine.events import CheckJudged
from harness.engine.prepare import open_suite, prepare
from harness.engine.replaying import TRAINING, replayed
from harness.engine.run import run
from harness.errors import ParityError
from harness.locations import locate
from harness.trace.replay import answers

ROOT = Path(__file__).parents[2]
FOLLOWS = {"weights.values", "metrics.values", "training.gradient", "training.parameters"}


async def _outcomes(plan):
    outcomes = {}
    async with aclosing(run(plan)) as events:
        async for event in events:
            if isinstance(event, CheckJudged):
                outcomes[event.scenario, event.check] = (event.outcome, event.message, event.where)
    return outcomes


def _compared(contract, expression=None):
    """Return the verdicts of a live run of the reference, those of one in replay, and what replay leaves out."""
    live = replace(
        prepare(locate(ROOT), sdk="reference", contract=contract, expression=expression), rerun=False, vectors=()
    )
    plan = replayed(live)
    return asyncio.run(_outcomes(live)), asyncio.run(_outcomes(plan)), plan


@pytest.mark.parametrize("contract", ["tinker-0.7.0", "tinker-0.38.0"])
def test_live_and_replay_give_the_same_verdicts(contract):
    """Every check of every scenario has the same verdict, but training.*, which is not planned in replay."""
    live, replay, plan = _compared(contract)
    assert replay == {key: verdict for key, verdict in live.items() if not key[1].startswith(TRAINING)}
    assert {check.check.partition(".")[0] for check in plan.left_out} == {"training"}
    assert len(replay) + len(plan.left_out) == len(live)
    suite = open_suite(locate(ROOT)).scenarios
    assert {scenario for scenario, _ in replay} == {name for name, scenario in suite.items() if not scenario.slow}
    assert plan.arguments[-1] == "--replay"


def test_a_replay_of_other_answers_is_not_the_same(monkeypatch):
    """Where the server answers with other numbers than golden has, the two runs are told apart."""

    def shifted(trace):
        changed = [replace(r, metrics={name: value + 1 for name, value in r.metrics.items()}) for r in trace.requests]
        return answers(replace(trace, requests=tuple(changed)))

    monkeypatch.setattr("harness.engine.observe.answers", shifted)
    live, replay, _ = _compared("tinker-0.38.0", "metrics/")
    differing = {key for key, verdict in replay.items() if verdict != live[key]}
    assert {check for _, check in differing} == {"metrics.values"}
    assert len(differing) >= 5


def test_a_selection_of_nothing_but_training_cannot_be_replayed():
    """What is left out is said; a run without a check is refused."""
    plan = prepare(locate(ROOT), sdk="reference", expression="training.gradient", contract="tinker-0.38.0")
    with pytest.raises(ParityError, match="optimizer state") as caught:
        replayed(plan)
    assert caught.value.code == "selection-empty"


@pytest.mark.parametrize(
    ("mutant", "scenario", "red"),
    [
        ("limit-one-less", "chunks/count-1025", {"chunks.boundaries"}),
        ("limit-one-less", "chunks/count-1024", {"chunks.boundaries", "metrics.values"}),
        ("limit-one-more", "chunks/count-1025", {"chunks.boundaries", "chunks.limits", "metrics.values"}),
    ],
)
def test_a_wrong_cut_does_not_colour_the_rest(mutant, scenario, red):
    """Each datum gets golden's output; only metrics, which belong to requests, follow another number of requests."""
    live = prepare(locate(ROOT), sdk="reference", contract="tinker-0.38.0", expression=scenario)
    spec = DriverSpec(
        argv=(sys.executable, "-s", str(ROOT / "tests" / "mutants" / "driver.py"), mutant),
        name="mutant",
        version="0.38.0",
        env=base_environment(PYTHON_VARIABLES),
    )
    outcomes = asyncio.run(_outcomes(replayed(replace(live, spec=spec, rerun=False, vectors=()))))
    assert {check for (_, check), told in outcomes.items() if told[0] != "pass"} == red


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
