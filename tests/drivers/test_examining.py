"""A tormented driver: each wrong one is found out by exactly its finding, and every correct one is left in peace."""

from __future__ import annotations

import asyncio
import re
import sys
from functools import cache
from pathlib import Path

import pytest

from harness.drivers.examining.desk import Limits
from harness.drivers.examining.examine import EXAMS, examine
from harness.drivers.examining.findings import FINDINGS, Examination
from harness.drivers.registry import PYTHON_VARIABLES, resolve
from harness.drivers.spec import DriverSpec, base_environment
from harness.engine.examining import known_capabilities
from harness.engine.prepare import open_suite
from harness.errors import ParityError
from harness.locations import locate
from harness.suite.losses.vectors import Vector, load_vectors

WRONG = Path(__file__).with_name("wrong_driver.py")
ROOT = Path(__file__).parents[2]
LIMITS = Limits(hello=120.0, evaluate=120.0, answer=20.0, end=20.0)
"""Generous: a right driver must come through on a machine that has no time. Only silent ones are waited for so long."""

AT_ONCE = 6


@cache
def _known() -> tuple[frozenset[str], tuple[Vector, ...]]:
    return known_capabilities(open_suite(locate())), load_vectors(locate().operation_vectors)


async def _examined(spec: DriverSpec) -> Examination:
    capabilities, vectors = _known()
    return await examine(spec, capabilities=capabilities, vectors=vectors, limits=LIMITS)


def _wrong(mode: str) -> DriverSpec:
    argv = (sys.executable, "-s", str(WRONG), mode)
    return DriverSpec(argv=argv, name="wrong", version="0.1.0", env=base_environment(PYTHON_VARIABLES))


@pytest.fixture(scope="module")
def examinations() -> dict[str, Examination]:
    """Examine every wrong driver and both right ones, some at a time: most of it is waiting."""

    async def all_of_them() -> dict[str, Examination]:
        places = asyncio.Semaphore(AT_ONCE)

        async def one(mode: str) -> Examination:
            async with places:
                return await _examined(_wrong(mode))

        modes = [*FINDINGS, "", "losses"]
        return dict(zip(modes, await asyncio.gather(*map(one, modes)), strict=True))

    return asyncio.run(all_of_them())


@pytest.mark.parametrize("code", FINDINGS)
def test_each_wrong_driver_is_found_out_by_its_finding(examinations, code):
    """The mistake is named by its code, and by no other."""
    findings = examinations[code].findings
    assert [finding.code for finding in findings] == [code], findings


def test_a_right_driver_is_found_right(examinations):
    """The skeleton keeps every rule, with losses and without; without, the exams of losses are left out and say why."""
    for mode in ("", "losses"):
        assert examinations[mode].findings == (), mode
        assert examinations[mode].driver["sdk"]["name"] == "wrong"
    assert {sitting.outcome for sitting in examinations["losses"].sittings} == {"ok"}
    left_out = {sitting.exam: sitting.reason for sitting in examinations[""].sittings if sitting.outcome == "left-out"}
    assert set(left_out) == {"operation-vectors", "unknown-operation", "number-spelling"}
    assert set(left_out.values()) == {"forward_backward_custom is not declared"}


def test_after_a_hello_that_cannot_be_read_nothing_else_is_asked(examinations):
    """Every other exam is left out, so that a driver that cannot start is one finding."""
    sittings = examinations["hello-unanswered"].sittings
    assert [sitting.outcome for sitting in sittings] == ["found", *["left-out"] * (len(EXAMS) - 1)]


def test_the_driver_of_the_reference_is_found_right():
    """The reference's driver stands every exam."""
    found = asyncio.run(_examined(resolve("reference==0.15.0")))
    assert found.findings == ()
    assert {sitting.outcome for sitting in found.sittings} == {"ok"}


def test_the_driver_of_the_official_sdk_is_found_right(cache):  # noqa: ARG001 - a cache of its own
    """The tinker driver stands every exam, with the SDK as published."""
    found = asyncio.run(_examined(resolve("tinker==0.38.0")))
    assert found.findings == ()
    left_out = [(sitting.exam, sitting.reason) for sitting in found.sittings if sitting.outcome != "ok"]
    assert left_out == [("in-flight", "max_in_flight is 1")]


def test_a_program_that_is_not_there_is_no_finding():
    """What cannot be started is an error, not a wrong driver."""
    spec = DriverSpec(argv=("/nowhere/driver",), name="", version="", env=base_environment())
    with pytest.raises(ParityError) as caught:
        asyncio.run(_examined(spec))
    assert caught.value.code == "driver-not-started"


def test_every_finding_is_documented():
    """docs/writing-a-driver.md lists the findings there are, with their rules, and no other."""
    rows = re.findall(
        r"^\| `([a-z-]+)` \| (.*?) \|$", (ROOT / "docs/writing-a-driver.md").read_text("utf-8"), re.MULTILINE
    )
    assert dict(rows) == dict(FINDINGS)
