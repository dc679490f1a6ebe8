"""Drivers in other languages, on their real interpreters: the skeletons, and the example in Node.

They need Node 18 and Elixir 1.14, so that `make languages` runs them and `make test` does not. What is missing fails.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PARITY = [sys.executable, "-m", "harness"]
NEEDS = {"javascript": "node", "elixir": "elixir"}
STARTS = {"javascript": "node driver.mjs", "elixir": "./driver.sh"}
EXAMPLE = f"node {ROOT / 'examples/node/driver.mjs'}"


def _parity(*arguments, cwd):
    done = subprocess.run([*PARITY, *arguments], capture_output=True, text=True, check=False, timeout=300, cwd=cwd)
    return done.returncode, done.stdout + done.stderr


def _need(program):
    if shutil.which(program) is None:
        pytest.fail(f"{program} is needed and not on PATH; `make test` runs what needs Python alone")


@pytest.fixture(params=NEEDS)
def skeleton(request, tmp_path):
    """Write a skeleton and return its folder and the command that starts it there."""
    _need(NEEDS[request.param])
    status, said = _parity("new-driver", request.param, "my-driver", cwd=tmp_path)
    assert status == 0, said
    return tmp_path / "my-driver", STARTS[request.param]


def test_a_skeleton_stands_every_exam(skeleton):
    """Nothing is found, and only what concerns losses is left out."""
    folder, start = skeleton
    status, said = _parity("check-driver", start, cwd=folder)
    assert (status, "13 exams, nothing found" in said) == (0, True), said


def test_a_skeleton_passes_the_first_scenario(skeleton):
    """As it stands; and what it cannot do is unsupported, which says why."""
    folder, start = skeleton
    status, said = _parity("run", "--driver", start, "-k", "session/lifecycle", cwd=folder)
    assert (status, "my-sdk 0.1.0 against tinker-0.15.0" in said, "11 pass" in said) == (0, True, True), said
    status, said = _parity("run", "--driver", start, "-k", "custom/sum-literal", cwd=folder)
    assert (status, "does not declare forward_backward_custom" in said) == (1, True), said


def test_a_skeleton_whose_server_fails_says_so(skeleton):
    """An error status of the server is a result of the step, of the kind the protocol has for it."""
    folder, start = skeleton
    status, said = _parity("run", "--driver", start, "-k", "faults/refused-401", cwd=folder)
    assert status == 1
    assert "the driver failed" not in said, said


def test_the_example_stands_every_exam():
    """The driver in Node has losses too, and every exam is asked."""
    _need("node")
    status, said = _parity("check-driver", EXAMPLE, cwd=ROOT)
    assert (status, "17 exams, nothing found" in said) == (0, True), said


def test_the_example_is_judged_in_the_pipeline(tmp_path):
    """Custom losses, chunks, order and training hold: what CI runs whole, in small."""
    _need("node")
    report = tmp_path / "report.json"
    wanted = (
        "custom/sum-literal or custom/logsumexp or chunks/count-1025 or order/two-customs or training/five-steps-adamw"
    )
    status, said = _parity("run", "--driver", EXAMPLE, "-k", wanted, "--json", str(report), cwd=ROOT)
    assert status == 0, said
    results = json.loads(report.read_text())["results"]
    assert {result["outcome"] for result in results} == {"pass"}
    assert {"training.parameters", "chunks.boundaries", "weights.values"} <= {result["check"] for result in results}


def test_a_wrong_client_in_node_is_caught(tmp_path):
    """The verdicts are about this client: weights of the other sign turn the checks of weights red."""
    _need("node")
    wrong = tmp_path / "node"
    shutil.copytree(ROOT / "examples/node", wrong)
    client = wrong / "client.mjs"
    right = "gradients[index].map((value) => -value)"
    assert right in client.read_text("utf-8")
    client.write_text(client.read_text("utf-8").replace(right, "gradients[index].map((value) => value)"), "utf-8")
    status, said = _parity("run", "--driver", "node node/driver.mjs", "-k", "custom/sum-literal", cwd=tmp_path)
    assert (status, "opposite-sign" in said) == (1, True), said
