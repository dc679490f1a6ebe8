"""JUnit XML that every reader can parse."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.engine.events import CheckJudged, PlannedCheck, RunFinished, RunStarted
from harness.reports.file import FileReport
from harness.reports.junit import junit_xml


@pytest.fixture
def root(events, play, tmp_path):
    """Return the parsed document of the small run."""
    file = tmp_path / "junit.xml"
    play(events, lambda tally: [FileReport(file, tally, junit_xml)])
    return ET.fromstring(file.read_bytes())


def test_one_suite_per_scenario_and_one_case_per_check(root):
    """Scenarios are suites, checks are cases, in the order of the plan."""
    cases = [(suite.get("name"), case.get("name")) for suite in root for case in suite.iter("testcase")]
    assert cases[:3] == [
        ("chunks/limit", "chunks.limits"),
        ("chunks/limit", "chunks.nonempty"),
        ("custom/sum", "weights.values"),
    ]
    assert len(cases) == 7 + 2


def test_slow_scenarios_that_were_left_out_are_skipped_cases(root):
    """A CI system shows what was not asked for, and counts it."""
    left_out = next(suite for suite in root if suite.get("name") == "faults/beats")
    assert [case.find("skipped").get("message") for case in left_out] == ["slow: left out without --slow"] * 2


def test_a_repeated_scenario_says_how_often_it_failed(root):
    """The count stands in the output of the suite."""
    assert root.find("testsuite[@name='chunks/limit']/system-out").text.startswith("2 of 5 runs did not hold")


def test_outcomes_become_junit_elements(root):
    """Fail and fixed are failures, error and not_run errors, known and an optional unsupported are skipped."""
    elements = {case.get("name"): [child.tag for child in case] for case in root.iter("testcase")}
    assert elements == {
        "chunks.limits": [],
        "chunks.nonempty": ["failure"],
        "weights.values": ["skipped"],
        "weights.dtype": ["failure"],
        "state.optimizer": ["skipped"],
        "result.status": ["error"],
        "order.seq": ["error"],
        "result.hang": ["skipped"],
        "session.end": ["skipped"],
    }
    assert {name: root.get(name) for name in ("tests", "failures", "errors", "skipped")} == {
        "tests": "9",
        "failures": "2",
        "errors": "2",
        "skipped": "4",
    }


def test_sides_stand_in_the_failure(root):
    """A failure says expected, observed, where and why."""
    failure = root.find(".//failure").text
    assert "expected: 1024" in failure
    assert "where: fb seq 3" in failure
    assert "cause: cut at 1023" in failure


@given(st.text(st.characters(codec=None)))
def test_any_text_gives_valid_xml(text):
    """Whatever characters a subject writes, the document parses and holds no control character."""
    from harness.reports.tally import Tally

    tally = Tally()
    tally.handle(RunStarted("s", "1", "c", "d", (PlannedCheck("a/b", "c.d"),), 1))
    tally.handle(CheckJudged("a/b", "c.d", "fail", text, text, text, text, text))
    tally.handle(RunFinished(0.0))
    xml = junit_xml(tally)
    ET.fromstring(xml.encode("utf-8"))
    assert "\x1b" not in xml
