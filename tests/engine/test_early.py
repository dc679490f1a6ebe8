"""The first driver process, begun before there is a plan: used where the plan wants it, and never left behind."""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from harness.drivers.failure import DriverFailure
from harness.drivers.process import DriverProcess
from harness.drivers.spec import DriverSpec, base_environment
from harness.engine import early
from harness.engine.early import HeadStart, head_start
from harness.engine.prepare import prepare
from harness.errors import ParityError
from harness.locations import locate

DRIVER = Path(__file__).with_name("fake_driver.py")


@pytest.fixture
def head():
    """Return a head start on a loop of its own; what is begun there is ended."""
    with asyncio.Runner() as runner:
        head = HeadStart(runner)
        yield head
        runner.run(head.end())


@pytest.fixture
def spec(tmp_path):
    """Return the specification of a fake driver that leaves its process id in a folder."""
    return _spec(tmp_path)


def _spec(folder, mode="", name="fake"):
    argv = (sys.executable, str(DRIVER), str(folder), "1", mode)
    return DriverSpec(argv=argv, name=name, version="1.0", env=base_environment())


def _gone(driver):
    try:
        os.kill(driver.pid, 0)
    except ProcessLookupError:
        return True
    return False


def _plan(spec):
    plan = prepare(locate(), sdk="reference", expression="session/lifecycle")
    return replace(plan, spec=spec)


def test_what_was_begun_is_taken_once(head, spec):
    """The first process of a run is the one that was begun, the next one is another."""
    head.runner.run(head.begin(spec))
    begun = head._driver
    plan = head.used_by(_plan(spec))
    first = head.runner.run(plan.start())
    second = head.runner.run(plan.start())
    assert first is begun
    assert first.hello.runtime == second.hello.runtime == "fake"
    assert first.pid != second.pid
    for driver in (first, second):
        head.runner.run(driver.stop())
        assert driver.failure is None


def test_another_plan_starts_another_process(head, spec, tmp_path):
    """Where the plan starts something else, or in another way, it does so as ever."""
    head.runner.run(head.begin(spec))
    other = _plan(_spec(tmp_path, mode="other"))
    attached = replace(_plan(spec), start=lambda: None)
    assert head.used_by(other) is other
    assert head.used_by(attached) is attached


def test_what_nobody_takes_is_ended(head, spec):
    """No process outlives its head start, whether it has answered or not; ending twice is no error."""
    head.runner.run(head.begin(spec))
    begun = head._driver
    head.runner.run(head.end())
    assert _gone(begun)
    head.runner.run(head.end())


@pytest.mark.parametrize(("mode", "error"), [("never-starts", DriverFailure), ("another", ParityError)])
def test_what_is_wrong_with_it_is_said_when_it_is_taken(head, tmp_path, mode, error):
    """A process that crashes, or drives something else, is found out by whoever takes it."""
    spec = _spec(tmp_path, mode=mode)
    head.runner.run(head.begin(spec))
    with pytest.raises(error):
        head.runner.run(head.used_by(_plan(spec)).start())


def test_what_cannot_be_started_is_no_process(head):
    """A command that does not exist is no error of the head start: the run will say it."""
    missing = DriverSpec(argv=("/nonexistent/driver",), name="fake", version="1.0", env=base_environment())
    head.runner.run(head.begin(missing))
    plan = _plan(missing)
    assert head.used_by(plan) is plan


@pytest.mark.parametrize(
    ("sdk", "contract"),
    [("reference", None), ("reference==0.15.0", None), ("reference", "tinker-0.7.0"), ("reference==0.38.0", None)],
)
def test_the_reference_that_is_begun_is_the_one_that_is_planned(monkeypatch, sdk, contract):
    """What is begun without a plan is what the plan starts, release and contract included; unused it is ended."""
    begun = []

    async def begin(_head, spec):
        begun.append(spec)

    monkeypatch.setattr(HeadStart, "begin", begin)
    with head_start(locate(), sdk, sdk_path=None, contract=contract):
        plan = prepare(locate(), sdk=sdk, contract=contract, expression="custom/sum-literal")
    assert begun == [plan.spec]


@pytest.mark.parametrize("sdk", [None, "nothing", "tinker", "tinker==no", "tinkex", "tinkex==0.4.0", "tinker==0.38.0"])
def test_nothing_is_built_or_refused_beforehand(monkeypatch, sdk):
    """What is wrong with a name, and what has to be fetched, is left to the plan."""
    monkeypatch.setattr(early, "has_environment", lambda _name, _version: False)
    monkeypatch.setattr(DriverProcess, "launch", None)
    with head_start(locate(), sdk, sdk_path=None, contract=None) as head:
        assert head._driver is None
