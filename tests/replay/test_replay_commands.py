"""`parity run --replay` and `parity serve --replay`, as processes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import httpx

from harness.cli.serve import TOLD

SCENARIO = "training/five-steps-sgd"


def _command(*arguments):
    return [sys.executable, "-m", "harness", *arguments]


def _parity(*arguments):
    return subprocess.run(_command(*arguments), capture_output=True, text=True, check=False, timeout=120)


def test_run_replays_and_says_what_it_leaves_out(tmp_path):
    """Checks about training are not planned, which is said; the report can tell that it was a replay."""
    done = _parity("run", "--sdk", "reference", "-k", SCENARIO, "--replay", "--json", str(tmp_path / "r.json"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "training checks are left out: in replay the server trains nothing" in done.stderr
    report = json.loads((tmp_path / "r.json").read_text())
    assert not [r for r in report["results"] if r["check"].startswith("training.")]
    done = _parity("run", "--sdk", "reference", "-k", "training.steps", "--replay")
    assert done.returncode == 2
    assert "error [selection-empty]" in done.stderr


def test_serve_replays_for_every_key_from_the_start():
    """Any client gets golden's answers without a driver; a second key begins anew."""
    process = subprocess.Popen(
        _command("serve", "--replay", SCENARIO, "--contract", "tinker-0.7.0"),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    with process:
        told = [process.stdout.readline() for _ in range(3)]
        url = told[0].split()[-1]
        first, second = (_forward(url, key) for key in ("tml-a", "tml-b"))
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=30)
    assert process.returncode == 0, stderr
    assert f"{SCENARIO} at tinker-0.7.0" in told[2]
    assert first["loss_fn_outputs"] == second["loss_fn_outputs"] != []


def test_serve_says_what_the_trace_has_no_answer_to():
    """Each request that is not in the trace is a line on the console, up to a bound."""
    process = subprocess.Popen(
        _command("serve", "--replay", "errors/loss-raises", "--contract", "tinker-0.38.0"),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    with process:
        url = process.stdout.readline().split()[-1]
        for number in range(TOLD + 5):
            _forward(url, f"tml-{number}", kind="forward_backward")
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=30)
    assert process.returncode == 0, stderr
    lines = [line for line in stdout.splitlines() if line.startswith("not in the trace: ")]
    assert len(lines) == TOLD
    assert lines[0].startswith("not in the trace: forward_backward with 0 datums, seq_id 1: ")
    assert stdout.splitlines()[-1] == f"more than {TOLD}: no further ones are shown"


def _forward(url, key, kind="forward"):
    """Send an empty forward pass by hand, which no server that computes would answer with outputs."""
    with httpx.Client(base_url=f"{url}/api/v1/", headers={"x-api-key": key}, trust_env=False) as http:
        session = http.post("create_session", json={}).json()["session_id"]
        asked = {"session_id": session, "model_seq_id": 0, "base_model": "b"}
        model = http.post("create_model", json=asked).json()["model_id"]
        body = {"model_id": model, "seq_id": 1, f"{kind}_input": {"data": [], "loss_fn": "cross_entropy"}}
        submitted = http.post(kind, json=body).json()
        return http.post("retrieve_future", json={"request_id": submitted["request_id"]}).json()


def test_options_that_make_no_sense_together_are_refused():
    """--contract alone, --scenario beside --replay, and a scenario that does not exist."""
    assert "--contract needs --replay" in _parity("serve", "--contract", "tinker-0.7.0").stderr
    assert "exclude each other" in _parity("serve", "--replay", SCENARIO, "--scenario", SCENARIO).stderr
    done = _parity("serve", "--replay", "training/five-steps-sdg")
    assert done.returncode == 2
    assert "error [scenario-unknown]" in done.stderr
    assert SCENARIO in done.stderr
