"""`parity run` as a process: exit statuses, reports, and what a signal leaves behind."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCENARIO = "custom/sum-literal"
ENTRY = """
[[divergence]]
scenario = "custom/sum-literal"
check = "weights.values"
versions = ""
kind = "bug"
reason = "made up"
source = "a test"
"""


def _command(*arguments, root=None):
    return [sys.executable, "-m", "harness", *(["--root", str(root)] if root else []), *arguments]


def _parity(*arguments, root=None):
    return subprocess.run(
        _command(*arguments, root=root),
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
        stdin=subprocess.DEVNULL,
    )


@pytest.fixture
def root(tmp_path):
    """Return a copy of the committed fixtures and golden traces, free to be changed."""
    for name in ("fixtures", "golden"):
        shutil.copytree(ROOT / name, tmp_path / name)
    return tmp_path


def test_status_0_when_everything_holds(tmp_path):
    """The reference holds against its own golden trace; both report files agree with the console."""
    report, junit = tmp_path / "report.json", tmp_path / "junit.xml"
    done = _parity("run", "--sdk", "reference", "-k", SCENARIO, "--json", str(report), "--junit", str(junit))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "everything held" in done.stdout
    assert "\x1b" not in done.stdout
    document = json.loads(report.read_text("utf-8"))
    assert document["contract"] == "tinker-0.38.0"
    assert document["totals"]["pass"] == len(document["results"]) > 10
    assert ET.parse(junit).getroot().get("tests") == str(len(document["results"]))


def test_status_1_when_something_does_not_hold(root):
    """A ledger entry about a check that holds fails the run and is named."""
    ledger = root / "fixtures/ledgers/reference.toml"
    ledger.parent.mkdir(exist_ok=True)
    ledger.write_text(ENTRY, encoding="utf-8")
    done = _parity("run", "--sdk", "reference", "-k", f"{SCENARIO}:weights.values", root=root)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "fixed weights.values  listed as a known divergence, but it holds: made up" in done.stdout
    assert f"again     parity run --sdk reference -k {SCENARIO}" in done.stdout


def test_another_contract_diverges():
    """One release judged by another's contract shows what changed, and how to see it again."""
    arguments = ("run", "--sdk", "reference==0.38.0", "--contract", "tinker-0.7.0", "-k", f"{SCENARIO}:wire.encoding")
    done = _parity(*arguments, "--trace")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "wire.encoding" in done.stdout
    assert "--contract tinker-0.7.0" in done.stdout
    assert "POST forward_backward  protobuf" in done.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_writes_its_reports_and_leaves_nothing(tmp_path, number):
    """A signal ends the run with status 2; the report has every check, and no driver lives on."""
    report = tmp_path / "report.json"
    process = subprocess.Popen(
        _command("run", "--sdk", "reference", "-k", "chunks", "--json", str(report)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        for line in process.stdout:
            if line.startswith("CPython"):  # a driver has answered: it lives
                break
        else:
            pytest.fail(f"no driver answered: {process.stderr.read()}")
        drivers = _children(process.pid)
        process.send_signal(number)
        process.stdout.read()
        process.wait(timeout=60)
        stderr = process.stderr.read()
    assert process.returncode == 2, stderr
    assert "Traceback" not in stderr
    assert drivers
    assert [pid for pid in drivers if Path(f"/proc/{pid}").exists()] == []
    document = json.loads(report.read_text("utf-8"))
    assert document["interrupted"]
    assert sum(document["totals"].values()) == len(document["results"])
    assert {result["message"] for result in document["results"] if result["outcome"] == "not_run"} == {"interrupted"}


def _children(pid):
    """Return the processes started by `pid`, as the system lists them."""
    if not Path("/proc/self/stat").exists():
        pytest.skip("needs /proc to list processes")
    children = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            status = (folder / "stat").read_text("utf-8", errors="replace")
        except OSError:  # it has ended meanwhile
            continue
        # The name, in parentheses, may hold anything; what follows it is the state and the parent.
        if int(status.rpartition(")")[2].split()[1]) == pid:
            children.append(int(folder.name))
    return children


def test_serve_answers_and_ends_on_a_signal():
    """`parity serve` prints where it listens, answers any tml- key, and ends with status 0 on Ctrl-C."""
    import urllib.request

    process = subprocess.Popen(_command("serve"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with process:
        url = process.stdout.readline().split()[-1]
        request = urllib.request.Request(f"{url}/api/v1/healthz", headers={"X-API-Key": "tml-anything"})
        with urllib.request.urlopen(request, timeout=10) as response:
            assert response.status == 200
        process.send_signal(signal.SIGINT)
        process.stdout.read()
        process.wait(timeout=30)
        stderr = process.stderr.read()
    assert process.returncode == 0, stderr
    assert "Traceback" not in stderr


def test_serve_answers_as_in_a_scenario():
    """`parity serve --scenario` answers what the scenario's server answers: here, the limits of client/config."""
    import urllib.request

    command = _command("serve", "--scenario", "chunks/limits-from-config")
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with process:
        url = process.stdout.readline().split()[-1]
        request = urllib.request.Request(
            f"{url}/api/v1/client/config",
            data=b"{}",
            headers={"X-API-Key": "tml-a", "content-type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=10) as response:
            told = json.load(response)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    assert process.returncode == 0
    assert "fwdbwd_max_chunk_len" in told


def test_show_tells_all_about_a_scenario():
    """Stimulus, checks with their meaning, and the golden requests of each era."""
    done = _parity("show", SCENARIO)
    assert done.returncode == 0, done.stderr
    for words in ("forward_backward_custom", "weights.values", "golden", "0.38.0", "seq 1"):
        assert words in done.stdout


def test_list_selects():
    """-k narrows the list, scenario by scenario and check by check."""
    done = _parity("list", "-k", f"{SCENARIO}:weights.values")
    assert done.returncode == 0, done.stderr
    assert "1 of " in done.stdout
    assert "1 checks" in done.stdout or "1 check" in done.stdout
    assert "weights.shape" not in done.stdout
