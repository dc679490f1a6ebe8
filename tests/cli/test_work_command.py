"""`parity work` as a process: scenarios as they are asked for, one driver for all of them."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

SELECTED = "(custom/sum-literal or custom/last-token or custom/nonlinear) and weights.values"


def _start(*arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "harness", "work", "--sdk", "reference", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        bufsize=1,
    )


def _until(process, kind):
    found = []
    for line in process.stdout:
        found.append(json.loads(line))
        if found[-1]["type"] == kind:
            return found
    pytest.fail(f"no {kind}: {process.stderr.read()}")


def test_scenarios_are_run_as_they_are_asked_for():
    """The plan comes first, then what was wanted and nothing else; the subject is introduced once; twice is once."""
    with _start("-k", SELECTED) as process:
        plan = json.loads(process.stdout.readline())
        assert [check["scenario"] for check in plan["planned"]] == [
            "custom/last-token", "custom/nonlinear", "custom/sum-literal",
        ]  # fmt: skip
        process.stdin.write("custom/sum-literal\n")
        first = _until(process, "ScenarioFinished")
        process.stdin.write("custom/sum-literal custom/last-token\n")
        second = _until(process, "ScenarioFinished")
        process.stdin.close()
        rest = [json.loads(line) for line in process.stdout]
        process.wait(timeout=60)
        assert process.returncode == 0, process.stderr.read()
    judged = [event["scenario"] for event in [*first, *second, *rest] if event["type"] == "CheckJudged"]
    assert judged == ["custom/sum-literal", "custom/last-token"]
    assert sum(event["type"] == "SubjectReady" for event in [*first, *second, *rest]) == 1
    assert [event["type"] for event in rest] == ["RunFinished"]


@pytest.mark.parametrize(("line", "code"), [("no/such\n", "scenario-unknown"), ("custom/empty\n", "scenario-unknown")])
def test_a_scenario_that_is_not_planned_is_refused(line, code):
    """The error has its code and status 2; what is selected is all there is."""
    with _start("-k", SELECTED) as process:
        process.stdin.write(line)
        process.stdin.close()
        told = process.stderr.read()
        process.stdout.read()
        process.wait(timeout=60)
    assert process.returncode == 2
    assert f"error [{code}] " in told
