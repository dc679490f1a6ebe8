"""The workflows of docs/ci.md, and action.yml, say what the command line understands."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
ACTION: dict[str, Any] = yaml.safe_load((ROOT / "action.yml").read_text("utf-8"))
PRINTED: list[str] = [
    text
    for text in re.findall(r"^```yaml\n(.*?)^```$", (ROOT / "docs/ci.md").read_text("utf-8"), re.DOTALL | re.MULTILINE)
    if text.startswith("name:")  # the others are parts of one
]
WORKFLOWS: list[dict[str, Any]] = [yaml.safe_load(text) for text in PRINTED]


def _uses(workflow: dict[str, Any]) -> list[dict[str, Any]]:
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    return [step for step in steps if step.get("uses", "").startswith("OWNER/parity@")]


def _driven(workflow: dict[str, Any]) -> str:
    given = _uses(workflow)[0]["with"]
    return "its own driver" if "driver" in given else str(given["sdk"].partition("==")[0])


def test_there_is_a_workflow_for_each_kind_of_sdk() -> None:
    """One drives Tinkex and one a Python SDK, each from its checkout; one has a driver of its own."""
    assert sorted(map(_driven, WORKFLOWS)) == ["its own driver", "tinker", "tinkex"]
    for workflow in WORKFLOWS:
        given = _uses(workflow)[0]["with"]
        assert given.get("sdk-path") == (None if "driver" in given else ".")


def test_the_shortest_workflow_has_the_length_that_the_readme_says() -> None:
    """A workflow of ten lines."""
    assert "a workflow of ten lines" in (ROOT / "README.md").read_text("utf-8")
    assert min(len(text.splitlines()) for text in PRINTED) == 10


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=_driven)
def test_a_workflow_gives_what_the_action_takes(workflow: dict[str, Any]) -> None:
    """Inputs are known, required ones are there, and the kept folder is the one that reports go to."""
    for step in _uses(workflow):
        required = {name for name, declared in ACTION["inputs"].items() if declared.get("required")}
        assert required <= set(step["with"]) <= set(ACTION["inputs"])
    kept = [
        step for job in workflow["jobs"].values() for step in job["steps"] if "upload-artifact" in step.get("uses", "")
    ]
    assert all(step["with"]["path"] == ACTION["inputs"]["report-folder"]["default"] for step in kept)
    assert all(step["if"] == "always()" for step in kept), "a report is wanted most when the gate fails"
    assert len(kept) == (0 if _driven(workflow) == "its own driver" else 1)


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=_driven)
def test_a_workflow_works_as_it_is_printed(workflow: dict[str, Any]) -> None:
    """It names no file that whoever copies it need not have: a ledger, a baseline, options with files in them."""
    for step in _uses(workflow):
        assert not set(step["with"]) & {"ledger", "baseline", "arguments"}


def test_the_action_uses_options_that_exist() -> None:
    """Every long option of the gate that action.yml names is one that `parity gate --help` lists."""
    done = subprocess.run(
        [sys.executable, "-m", "harness", "gate", "--help"], capture_output=True, text=True, check=True, timeout=60
    )
    listed = set(re.findall(r"--[a-z][a-z-]*", done.stdout))
    gate = next(step["run"] for step in ACTION["runs"]["steps"] if step.get("id") == "gate")
    named = set(re.findall(r"--[a-z][a-z-]*", gate))
    assert "--sdk" in named
    assert named <= listed


def test_every_input_is_described_and_used() -> None:
    """An input that no step reads, or that says nothing, does not exist."""
    text = (ROOT / "action.yml").read_text("utf-8")
    for name, declared in ACTION["inputs"].items():
        assert declared["description"].strip()
        assert f"${{{{ inputs.{name} }}}}" in text, name
