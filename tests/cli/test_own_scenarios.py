"""Scenarios and losses of one's own, and parity.toml."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCENARIO = (ROOT / "fixtures/scenarios/custom/sum-literal.toml").read_text("utf-8")
LOSS = (ROOT / "fixtures/losses/sum.json").read_text("utf-8")


def _parity(*arguments, folder):
    return subprocess.run(
        [sys.executable, "-m", "harness", *map(str, arguments)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )


def _refused(done, code):
    assert done.returncode == 2, done.stdout + done.stderr
    assert f"error [{code}] " in done.stderr
    assert "\nhint  " in done.stderr
    return done.stderr


def _put(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")


@pytest.fixture
def mine(tmp_path):
    """Return a folder with one scenario and the loss it names, which is not the suite's."""
    folder = tmp_path / "mine"
    text = SCENARIO.replace('id = "custom/sum-literal"', 'id = "own/doubled"').replace(
        'loss = "sum"', 'loss = "doubled"'
    )
    _put(folder / "scenarios/own/doubled.toml", text)
    graph = json.loads(LOSS)
    graph["nodes"] += [["const", 2.0], ["mul", graph["loss"], len(graph["nodes"])]]
    graph["loss"] = len(graph["nodes"]) - 1
    _put(folder / "losses/doubled.json", json.dumps(graph))
    return folder


def _golden():
    return {
        path.relative_to(ROOT): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (ROOT / "golden").rglob("*")
        if path.is_file()
    }


def test_own_scenarios_are_emitted_run_and_judged(mine, tmp_path):
    """Golden traces of own scenarios are in their folder; a run judges by them, and the suite's are untouched.

    A change of an own loss makes them stale.
    """
    before = _golden()
    listed = _parity("list", "--fixtures", mine, "-k", "own/", folder=tmp_path)
    assert "own/doubled" in listed.stdout
    assert "own/doubled" not in _parity("list", folder=tmp_path).stdout
    run = ("run", "--sdk", "reference", "-k", "own/doubled or custom/sum-literal", "--fixtures", mine)
    _refused(_parity(*run, folder=tmp_path), "golden-missing")

    emitted = _parity("golden", "emit", "--fixtures", mine, folder=tmp_path)
    assert emitted.returncode == 0, emitted.stderr
    assert (mine / "golden/0.7.0/own/doubled.json").is_file()
    assert (mine / "golden/index.json").is_file()
    done = _parity(*run, "--json", tmp_path / "report.json", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "report.json").read_text("utf-8"))
    assert {scenario["scenario"] for scenario in report["scenarios"]} == {"own/doubled", "custom/sum-literal"}
    shown = _parity("--fixtures", mine, "show", "own/doubled", folder=tmp_path)
    assert shown.returncode == 0, shown.stderr
    verified = _parity("golden", "verify", "--fixtures", mine, folder=tmp_path)
    assert verified.returncode == 0, verified.stderr
    assert verified.stdout.startswith("1 scenarios at ")
    assert _golden() == before

    # The stimulus includes the content of own losses.
    file = mine / "losses/doubled.json"
    file.write_text(file.read_text("utf-8").replace("2.0", "3.0"), "utf-8")
    _refused(_parity(*run, folder=tmp_path), "golden-stale")


def test_ids_and_names_of_the_suite_are_taken(mine, tmp_path):
    """Nothing of one's own can replace what the suite has."""
    _put(mine / "scenarios/custom/sum-literal.toml", SCENARIO)
    assert "custom/sum-literal" in _refused(_parity("list", "--fixtures", mine, folder=tmp_path), "scenario-id-taken")
    _put(mine / "losses/sum.json", LOSS)
    assert "sum.json" in _refused(_parity("list", "--fixtures", mine, folder=tmp_path), "loss-name-taken")


def test_a_folder_without_scenarios_is_refused(tmp_path):
    """An empty folder is a mistake, not an empty addition."""
    _refused(_parity("list", "--fixtures", tmp_path, folder=tmp_path), "fixtures-missing")


def test_emitting_only_the_suites_scenarios_into_an_own_folder_is_refused(mine, tmp_path):
    """With --fixtures, the suite's golden traces are not meant: selecting only those selects nothing."""
    done = _parity("golden", "emit", "--fixtures", mine, "-k", "custom/sum-literal", folder=tmp_path)
    _refused(done, "selection-empty")
    assert not (mine / "golden").exists()


@pytest.mark.usefixtures("mine")
def test_parity_toml_is_found_above_and_options_win(tmp_path):
    """The nearest parity.toml gives defaults, its folder meant from where it is; options on the line replace them."""
    _put(tmp_path / "parity.toml", 'fixtures = "mine"\nsdk = "reference==0.21.0"\njobs = 1\n')
    below = tmp_path / "some/where"
    below.mkdir(parents=True)
    assert "own/doubled" in _parity("list", "-k", "own/", folder=below).stdout
    assert "0.21.0" in _refused(_parity("run", "-k", "own/", folder=below), "contract-undescribed")
    assert "own/doubled" in _refused(_parity("run", "-k", "own/", "--sdk", "reference", folder=below), "golden-missing")
    _put(below / "parity.toml", "")
    assert "own/doubled" not in _parity("list", folder=below).stdout


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("fixtures = [", "cannot be read"),
        ("fixture = 'mine'\n", "'fixture'"),
        ("fixtures = 3\n", "fixtures"),
        ("sdk = ''\n", "sdk"),
        ("jobs = 0\n", "jobs"),
        ("jobs = true\n", "jobs"),
        ("fixtures = 'nowhere'\n", "nowhere"),
    ],
)
def test_a_wrong_parity_toml_is_refused(tmp_path, text, words):
    """What cannot be meant is refused with the file's name, whatever the command."""
    _put(tmp_path / "parity.toml", text)
    code = "fixtures-missing" if "nowhere" in text else "settings-malformed"
    assert words in _refused(_parity("list", folder=tmp_path), code)
