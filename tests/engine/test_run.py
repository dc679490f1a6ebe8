"""The engine over a real mock server and real driver processes that misbehave in every way."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest

from harness.contracts.timeline import load_timeline
from harness.drivers.failure import Patience
from harness.drivers.protocol import StepResult
from harness.drivers.spec import DriverSpec, base_environment
from harness.engine.events import (
    CheckJudged,
    PlannedCheck,
    RunFinished,
    RunStarted,
    ScenarioFinished,
    ScenarioStarted,
    SubjectReady,
)
from harness.engine.plan import Plan, PlannedScenario
from harness.engine.run import run
from harness.errors import ParityError
from harness.ledger import Divergence, Ledger
from harness.suite.losses.vectors import Expected, Vector
from harness.suite.scenario import Exit, GetInfo, Judgement, SaveState, Scenario, Stimulus
from harness.trace.normalise import make_trace
from mock_server.record import Record

ROOT = Path(__file__).parents[2]
DRIVER = Path(__file__).with_name("fake_driver.py")
CHECKS = ("result.status", "result.hang")
CONTRACT = load_timeline(ROOT / "fixtures/contracts/tinker.toml").point("tinker-0.38.0")


def _planned(name, step=GetInfo, *, ends=False, **marks):
    extra = {"name": "ck"} if step is SaveState else {}
    scenario = Scenario(
        id=f"fake/{name.replace('_', '-')}",
        title=f"Step {name}",
        why="to be judged",
        stimulus=Stimulus(steps=(step(id=name, **extra), *((Exit(),) if ends else ()))),
        judge=Judgement(checks=CHECKS),
        **marks,
    )
    golden = make_trace(scenario.id, "digest", CONTRACT.id, Record(), [StepResult(step=name, status="ok")])
    return PlannedScenario(scenario=scenario, stimulus="digest", checks=CHECKS, stored=lambda: golden, timeout=5.0)


@pytest.fixture
def make_plan(tmp_path):
    """Plan scenarios that are called like what the fake driver does in them."""

    def make_plan(*names, in_flight=1, mode="", jobs=1, **fields):
        scenarios = tuple(name if isinstance(name, PlannedScenario) else _planned(name) for name in names)
        spec = DriverSpec(
            argv=(sys.executable, str(DRIVER), str(tmp_path), str(in_flight), mode),
            name=fields.pop("name", "fake"),
            version="1.0",
            env=base_environment(),
        )
        patience = Patience(hello=30.0, answer=fields.pop("answer", 30.0), evaluate=30.0, end=5.0, last_words=1.0)
        return Plan(
            spec=spec,
            contract=CONTRACT,
            scenarios=scenarios,
            losses={},
            suite="suite",
            jobs=jobs,
            patience=patience,
            **fields,
        )

    return make_plan


@pytest.fixture
def play(tmp_path):
    """Run a plan to its end, hold every promise a run makes, and return its events."""

    async def follow(plan, interrupt_at):
        stop = asyncio.Event()
        events = []
        async with aclosing(run(plan, stop=stop)) as stream:
            async for event in stream:
                events.append(event)
                if interrupt_at is not None and event == ScenarioStarted(interrupt_at):
                    stop.set()
        return events

    def play(plan, *, interrupt_at=None):
        events = asyncio.run(follow(plan, interrupt_at))
        judged = [PlannedCheck(event.scenario, event.check) for event in events if isinstance(event, CheckJudged)]
        assert sorted(judged, key=str) == sorted(plan.checks, key=str), "every planned check has exactly one outcome"
        assert isinstance(events[0], RunStarted)
        assert isinstance(events[-1], RunFinished)
        assert _alive(tmp_path) == []
        return events

    return play


def _alive(folder):
    alive = []
    for file in folder.glob("pid-*"):
        pid = int(file.name.removeprefix("pid-"))
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            continue
        alive.append(pid)
    return alive


def _processes(folder):
    return len(list(folder.glob("pid-*")))


def _outcomes(events, name):
    scenario = f"fake/{name.replace('_', '-')}"
    return [event.outcome for event in events if isinstance(event, CheckJudged) and event.scenario == scenario]


def _message(events, name):
    scenario = f"fake/{name.replace('_', '-')}"
    return next(event.message for event in events if isinstance(event, CheckJudged) and event.scenario == scenario)


def _finished(events, name):
    scenario = f"fake/{name.replace('_', '-')}"
    return next(event for event in events if isinstance(event, ScenarioFinished) and event.scenario == scenario)


def test_one_scenario_is_judged_while_the_next_one_runs(make_plan, tmp_path):
    """A driver that takes one scenario at a time does not wait for verdicts: the next one has begun before them."""
    begun = threading.Event()

    def stored(planned=_planned("ok")):  # noqa: B008 - the same for every call
        assert begun.wait(30.0), "the second scenario does not begin before the first is judged"
        return planned.golden

    plan = make_plan(replace(_planned("ok"), stored=stored), "second")

    async def play():
        told = []
        async with aclosing(run(plan)) as stream:
            async for event in stream:
                told.append(event)
                if event == ScenarioStarted("fake/second"):
                    begun.set()
        return told

    events = asyncio.run(play())
    assert _outcomes(events, "ok") == ["pass"] * len(CHECKS)
    assert _processes(tmp_path) == 1


def test_a_run_that_holds(make_plan, play, tmp_path):
    """One process serves one scenario after the other; every check passes; nothing is run again."""
    events = play(make_plan("one", "two", "three"))
    assert {event.outcome for event in events if isinstance(event, CheckJudged)} == {"pass"}
    assert [event.reruns for event in events if isinstance(event, ScenarioFinished)] == [0, 0, 0]
    assert _processes(tmp_path) == 1
    ready = next(event for event in events if isinstance(event, SubjectReady))
    assert ready.sdk["name"] == "fake"
    assert not events[-1].interrupted


def test_jobs_bound_the_number_of_processes(make_plan, play, tmp_path):
    """Scenarios are spread over at most that many processes, and no more than there are scenarios."""
    play(make_plan("one", "two", "three", jobs=2))
    assert _processes(tmp_path) == 2


def test_one_process_is_enough_for_a_driver_of_many_runs(make_plan, play, tmp_path):
    """A driver that takes many runs at once is started once."""
    play(make_plan("one", "two", "three", jobs=4, in_flight=8))
    assert _processes(tmp_path) == 1


def test_a_failing_scenario_is_run_again_alone(make_plan, play, tmp_path):
    """What fails twice is reported as failing, and a fresh process has confirmed it."""
    events = play(make_plan("wrong", "one"))
    assert _outcomes(events, "wrong") == ["fail", "pass"]
    assert _finished(events, "wrong").reruns == 1
    assert _finished(events, "wrong").note == "failed again alone in a fresh process"
    assert _processes(tmp_path) == 2


def test_a_scenario_that_passes_when_run_again_is_said_to(make_plan, play):
    """A failure that a fresh process does not show is no failure of the subject, but it is not hidden."""
    events = play(make_plan("wrong_once"))
    assert _outcomes(events, "wrong_once") == ["pass", "pass"]
    note = _finished(events, "wrong_once").note
    assert note == "failed first (result.status), passed when run again alone"


def test_no_rerun_when_not_asked_for(make_plan, play, tmp_path):
    """Without rerun the first verdict is the verdict."""
    events = play(make_plan("wrong_once", rerun=False))
    assert _outcomes(events, "wrong_once") == ["fail", "pass"]
    assert _processes(tmp_path) == 1


def test_a_crash_is_an_error_and_the_run_goes_on(make_plan, play):
    """Every check of the scenario is an error with the driver's last words; the others are judged."""
    events = play(make_plan("crash", "one", "two"))
    assert _outcomes(events, "crash") == ["error", "error"]
    assert "(crash): exited with status 3" in _message(events, "crash")
    assert "last words" in _message(events, "crash")
    assert _outcomes(events, "one") == _outcomes(events, "two") == ["pass", "pass"]


def test_a_crash_that_does_not_come_back_is_said(make_plan, play):
    """The scenario passes alone, and the note names the crash."""
    events = play(make_plan("crash_once", "one"))
    assert _outcomes(events, "crash_once") == ["pass", "pass"]
    assert _finished(events, "crash_once").note == (
        "failed first (the driver failed: crash), passed when run again alone"
    )


def test_the_guilty_one_of_several_in_flight_is_found(make_plan, play):
    """A crash takes all runs in flight with it; run alone, only the guilty one crashes again."""
    events = play(make_plan("guilty", "victim", in_flight=2))
    assert _outcomes(events, "guilty") == ["error", "error"]
    assert _outcomes(events, "victim") == ["pass", "pass"]
    assert "passed when run again alone" in _finished(events, "victim").note


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("garbage", "garbage", "progress: 50%"),
        ("refuse", "driver_error", "no-torch: cannot import torch"),
    ],
)
def test_other_driver_failures_are_errors(make_plan, play, name, kind, words):
    """Garbage on stdout and a driver's own errors say nothing about the subject."""
    events = play(make_plan(name, "one"))
    assert _outcomes(events, name) == ["error", "error"]
    assert f"({kind})" in _message(events, name)
    assert words in _message(events, name)
    assert _outcomes(events, "one") == ["pass", "pass"]


def test_silence_is_an_error(make_plan, play):
    """A driver that never answers is ended; the scenario is an error, the run goes on."""
    planned = _planned("silent")
    quick = PlannedScenario(planned.scenario, planned.stimulus, planned.checks, planned.stored, timeout=0.2)
    events = play(make_plan(quick, "one", answer=0.2))
    assert _outcomes(events, "silent") == ["error", "error"]
    assert "(silence)" in _message(events, "silent")
    assert _outcomes(events, "one") == ["pass", "pass"]


def test_a_hang_is_a_verdict_and_the_process_is_replaced(make_plan, play, tmp_path):
    """A call that never returns fails the subject; the stuck process serves no further scenario."""
    events = play(make_plan("hang", "one", rerun=False))
    assert "fail" in _outcomes(events, "hang")
    assert "error" not in _outcomes(events, "hang")
    assert _outcomes(events, "one") == ["pass", "pass"]
    assert _processes(tmp_path) == 2


def test_a_driver_that_never_starts_is_one_finding(make_plan, play):
    """After two failed starts nothing more is tried: the rest was not run, and says why."""
    events = play(make_plan("one", "two", "three", "four", mode="never-starts"))
    outcomes = [_outcomes(events, name)[0] for name in ("one", "two", "three", "four")]
    assert outcomes == ["error", "error", "not_run", "not_run"]
    assert _message(events, "four") == "the driver cannot be started (crash): exited with status 3"


def test_another_sdk_than_asked_for_is_refused(make_plan, play):
    """A driver that drives something else than planned cannot be run."""
    with pytest.raises(ParityError) as caught:
        play(make_plan("one", mode="another"))
    assert caught.value.code == "sdk-mismatch"


def test_the_version_on_the_wire_must_be_the_drivers(make_plan, play):
    """Requests of another version mean that something else is installed than the driver says."""
    events = play(make_plan("stale", "one", name="tinker", mode="tinker"))
    assert _outcomes(events, "stale") == ["error", "error"]
    assert "the driver says tinker 1.0, but requests say 9.9.9" in _message(events, "stale")
    assert _outcomes(events, "one") == ["pass", "pass"]


def test_a_missing_capability_is_unsupported(make_plan, play, tmp_path):
    """A scenario that needs what the driver does not declare is not run; red because the contract requires it."""
    events = play(make_plan(_planned("save", SaveState)))
    judged = [event for event in events if isinstance(event, CheckJudged)]
    assert [event.outcome for event in judged] == ["unsupported", "unsupported"]
    assert all(event.required for event in judged)
    assert "save_state" in judged[0].message
    assert _processes(tmp_path) == 1


def test_the_ledger_has_the_last_word(make_plan, play):
    """A listed failure is known and not run again; a listed check that passes is fixed."""
    entry = {"scenario": "fake/wrong", "versions": "", "kind": "bug", "reason": "r", "source": "s"}
    ledger = Ledger(
        (Divergence(check="result.status", cause="raised", **entry), Divergence(check="result.hang", **entry))
    )
    events = play(make_plan("wrong", ledger=ledger))
    assert _outcomes(events, "wrong") == ["known", "fixed"]


def test_wrong_losses_stop_the_run_before_it_begins(make_plan, play, tmp_path):
    """A driver that computes an operation wrong is not asked to run anything."""
    case = {"loss": {}, "logprobs": [], "fields": []}
    vector = Vector(name="add/0", case=case, expected=Expected(loss=1.0, metrics={}, gradients=()))
    events = play(make_plan("one", "two", vectors=(vector,)))
    assert _outcomes(events, "one") == _outcomes(events, "two") == ["error", "error"]
    assert "add/0" in _message(events, "one")
    assert _processes(tmp_path) == 1


def test_a_driver_without_custom_losses_is_asked_for_none(make_plan, play):
    """It has no losses that could be wrong, and runs what it can."""
    case = {"loss": {}, "logprobs": [], "fields": []}
    vector = Vector(name="add/0", case=case, expected=Expected(loss=1.0, metrics={}, gradients=()))
    events = play(make_plan("one", vectors=(vector,), mode="no-losses"))
    assert _outcomes(events, "one") == ["pass", "pass"]


def test_the_exchange_of_a_failing_scenario_is_kept_on_request(make_plan, play):
    """With keep_exchange a failing scenario says what went over the wire, with times; others say nothing."""
    entry = Divergence(scenario="fake/ping", check="result.hang", versions="", kind="bug", reason="r", source="s")
    events = play(make_plan("ping", keep_exchange=True, ledger=Ledger((entry,))))
    exchange = _finished(events, "ping").exchange
    assert " ms  #0 GET healthz" in exchange or " ms  #1 GET healthz" in exchange
    assert "-> 200 after" in exchange
    assert _finished(play(make_plan("ping", keep_exchange=True)), "ping").exchange == ""


def test_a_scenario_that_ends_its_process_has_it_to_itself(make_plan, play, tmp_path):
    """The end of the process is its result and no crash; the next scenario gets a fresh one, nothing is run again."""
    leaving = [_planned(f"leaves_{number}", ends=True) for number in range(2)]
    events = play(make_plan(leaving[0], "one", leaving[1], "two", in_flight=8))
    assert {event.outcome for event in events if isinstance(event, CheckJudged)} == {"pass"}
    assert [event.reruns for event in events if isinstance(event, ScenarioFinished)] == [0, 0, 0, 0]
    assert _processes(tmp_path) == 2, "the ordinary ones and the first that leaves share one"


def test_an_exclusive_scenario_is_never_run_beside_another(make_plan, play, tmp_path):
    """It waits until everything else is done, on a process that takes many runs at once too."""
    events = play(make_plan("beside_1", _planned("alone", exclusive=True), "beside_2", in_flight=8))
    assert {event.outcome for event in events if isinstance(event, CheckJudged)} == {"pass"}
    assert (tmp_path / "beside-alone").read_text() == "0"
    assert _processes(tmp_path) == 1


def test_every_repetition_must_hold(make_plan, play):
    """A race that is lost once is lost: the verdict says how often, and running it again cannot mend it."""
    events = play(make_plan(_planned("wrong_third", repeat=5)))
    assert _outcomes(events, "wrong_third") == ["fail", "pass"]
    assert _message(events, "wrong_third").startswith("1 of 5 runs do not hold; the first: ")
    finished = _finished(events, "wrong_third")
    assert (finished.runs, finished.failed_runs, finished.reruns) == (5, 1, 0)


def test_repetition_ends_with_the_process(make_plan, play):
    """After a hang the process serves no other run: what held until then is not said to hold."""
    events = play(make_plan(_planned("hang_aside", repeat=3)))
    assert _outcomes(events, "hang_aside") == ["not_run", "fail"]
    assert _message(events, "hang_aside").startswith("only 1 of 3 runs were made")


def test_slow_scenarios_wait_side_by_side(make_plan, play, tmp_path):
    """They get a process each, more than there are jobs, after everything else."""
    slow = [_planned(f"slow_{number}", slow=True) for number in range(3)]
    events = play(make_plan(*slow, "one", jobs=1))
    assert {event.outcome for event in events if isinstance(event, CheckJudged)} == {"pass"}
    assert next(event for event in events if isinstance(event, ScenarioStarted)) == ScenarioStarted("fake/one")
    assert _processes(tmp_path) == 4


def test_an_interrupted_run_ends_in_good_order(make_plan, play):
    """What was not judged is not_run; what was judged stays; the stream ends, and no process is left."""
    events = play(make_plan("one", "silent", "two"), interrupt_at="fake/silent")
    assert _outcomes(events, "one") == ["pass", "pass"]
    assert _outcomes(events, "silent") == _outcomes(events, "two") == ["not_run", "not_run"]
    assert _message(events, "two") == "interrupted"
    assert events[-1].interrupted


def test_an_abandoned_stream_leaves_nothing_behind(make_plan, tmp_path):
    """A caller that stops listening gets its processes ended too."""

    async def abandon():
        async with aclosing(run(make_plan("silent"))) as stream:
            async for event in stream:
                if isinstance(event, ScenarioStarted):
                    break

    asyncio.run(abandon())
    assert _processes(tmp_path) == 1
    assert _alive(tmp_path) == []
