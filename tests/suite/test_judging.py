"""Checks of a range of releases: what is asked for at each, and which ranges are refused."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.checks.registry import judge
from harness.checks.verdict import Case
from harness.contracts.timeline import load_timeline
from harness.engine.prepare import golden_stores, open_suite
from harness.errors import ParityError
from harness.locations import locate
from harness.suite.judging import check_ranges, checks_at, every_check
from harness.suite.losses.parts import compositions
from harness.suite.scenario import Also, Judgement, Scenario, Stimulus

DESCRIBED = ("0.7.0", "0.8.0", "0.15.0", "0.38.0")
ROOT = Path(__file__).parents[2]


def _scenario(*also: Also) -> Scenario:
    judged = Judgement(checks=("wire.bodies",), also=also)
    return Scenario(id="own/a", title="t", why="w", stimulus=Stimulus(steps=()), judge=judged)


def test_a_range_includes_both_of_its_ends() -> None:
    """`from` and `until` belong to the range; without one it begins or ends with the timeline."""
    asked = _scenario(
        Also(checks=("a.b",), since="0.8.0", until="0.15.0"),
        Also(checks=("c.d",), since="0.15.0"),
        Also(checks=("e.f",), until="0.7.0"),
    ).judge
    at = {release: checks_at(release, DESCRIBED)(asked) for release in DESCRIBED}
    assert at == {
        "0.7.0": ("wire.bodies", "e.f"),
        "0.8.0": ("wire.bodies", "a.b"),
        "0.15.0": ("wire.bodies", "a.b", "c.d"),
        "0.38.0": ("wire.bodies", "c.d"),
    }
    assert every_check(asked) == ("wire.bodies", "a.b", "c.d", "e.f")


@given(st.lists(st.tuples(st.sampled_from(["", *DESCRIBED]), st.sampled_from(["", *DESCRIBED])), max_size=4))
def test_what_is_accepted_asks_for_each_check_once(ranges: list[tuple[str, str]]) -> None:
    """Ranges of one check are accepted exactly when no release has it twice, none is empty and none has all."""
    scenario = _scenario(*(Also(checks=("a.b",), since=since, until=until) for since, until in ranges))
    covered = [
        DESCRIBED[DESCRIBED.index(since) if since else 0 : DESCRIBED.index(until) + 1 if until else None]
        for since, until in ranges
    ]
    flat = [release for releases in covered for release in releases]
    sound = all(0 < len(releases) < len(DESCRIBED) for releases in covered) and len(set(flat)) == len(flat)
    if not sound:
        with pytest.raises(ParityError, match=r"judge\.also\[") as caught:
            check_ranges(scenario, DESCRIBED, place="p")
        assert caught.value.code == "judge-invalid"
        return
    check_ranges(scenario, DESCRIBED, place="p")
    for release in DESCRIBED:
        assert ("a.b" in checks_at(release, DESCRIBED)(scenario.judge)) is (release in flat)


@pytest.mark.parametrize("key", ["since", "until"])
def test_a_release_that_nobody_described_is_refused(key: str) -> None:
    """The error names the key as the file spells it, and the described releases."""
    scenario = _scenario(msgspec.structs.replace(Also(checks=("a.b",), until="0.7.0"), **{key: "0.36.0"}))
    with pytest.raises(ParityError) as caught:
        check_ranges(scenario, DESCRIBED, place="p")
    assert caught.value.code == "judge-invalid"
    assert f"judge.also[0].{'from' if key == 'since' else key}: '0.36.0' is not described" in caught.value.message


def test_every_check_of_the_suite_finds_something_in_golden() -> None:
    """At every described release each scenario's checks pass on golden itself: none is asked for in vain."""
    locations = locate(ROOT)
    suite, timeline = open_suite(locations), load_timeline(locations.timeline)
    store = golden_stores(locations, suite)
    vain = []
    for scenario in suite.scenarios.values():
        composed = compositions(scenario, suite.losses)
        for release in timeline.described:
            golden = store(scenario.id).load(scenario.id, release, timeline.described)
            contract, script = timeline.point(f"tinker-{release}"), scenario.stimulus.server
            case = Case(
                golden=golden,
                observed=golden,
                contract=contract,
                tolerance=scenario.judge.tolerance,
                script=script,
                compositions=composed,
            )
            asked = checks_at(release, timeline.described)(scenario.judge)
            vain += [f"{scenario.id}:{check} {release}" for check in asked if judge(check, case).outcome != "pass"]
    assert vain == []


def test_scenarios_that_judge_the_arrival_of_calls_that_race_are_exclusive() -> None:
    """What threads or tasks send is judged by when it arrives: nothing may run beside it."""
    racing = {
        scenario.id: scenario.exclusive
        for scenario in open_suite(locate(ROOT)).scenarios.values()
        if "order.arrival" in scenario.judge.checks
        and {getattr(step, "style", "blocking") for step in scenario.stimulus.steps} & {"concurrent", "thread"}
    }
    assert {"faults/eight-clients-threads", "faults/eight-clients-asyncio"} <= racing.keys()
    assert all(racing.values()), racing
