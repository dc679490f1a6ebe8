"""What cannot be run ends with a code, a sentence, a hint and status 2; nothing on stdout."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def _parity(*arguments, root=None):
    command = [sys.executable, "-m", "harness", *(["--root", str(root)] if root else []), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture
def root(tmp_path):
    """Return a copy of the committed fixtures and golden traces, free to be damaged."""
    for name in ("fixtures", "golden"):
        shutil.copytree(ROOT / name, tmp_path / name)
    return tmp_path


def _refused(done, code):
    assert done.returncode == 2, done.stdout + done.stderr
    assert f"error [{code}] " in done.stderr
    assert "\nhint  " in done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("run", "--sdk", "tinkr==0.38.0", "--contract", "tinker-0.38.0"), "sdk-unknown", "tinker"),
        (("run", "--sdk", "tinkr==0.38.0"), "sdk-unknown", "tinker"),
        (("run", "--sdk", "tinker==0.21.0"), "contract-undescribed", "0.15.0"),
        (("run", "--sdk", "reference", "--contract", "tinker-0.21.0"), "contract-undescribed", "0.15.0"),
        (("run", "--sdk", "reference", "--contract", "tinkr"), "contract-unknown", "tinker-"),
        (("run", "--sdk", "reference", "-k", "chunks/count-1O25"), "selection-empty", "chunks/count-1025"),
        (("run", "--sdk", "reference", "-k", "chunks and"), "selection-malformed", "parentheses"),
        (("run", "--sdk", "reference", "--sdk-path", "."), "sdk-path-unsupported", ""),
        (("list", "-k", "weihgts"), "selection-empty", "weights"),
        (("show", "chunks/count-125"), "scenario-unknown", "chunks/count-1025"),
        (("certify", "--contract", "tinker-0.21.0"), "contract-undescribed", "0.15.0"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_bad_requests_are_refused(arguments, code, words):
    """A stable code, and a hint that helps."""
    assert words in _refused(_parity(*arguments), code)


def test_a_root_without_fixtures_is_refused(tmp_path):
    """--root must name a folder of fixtures."""
    _refused(_parity("list", root=tmp_path), "root-missing")


def test_a_malformed_scenario_is_refused(root):
    """A scenario that cannot be read keeps everything from running, also what does not select it."""
    file = root / "fixtures/scenarios/session/lifecycle.toml"
    file.write_text(file.read_text("utf-8") + "\nsurprise = 1\n", encoding="utf-8")
    assert "lifecycle.toml" in _refused(
        _parity("run", "--sdk", "reference", "-k", "chunks", root=root), "scenario-malformed"
    )


def test_a_scenario_with_an_unknown_check_is_refused(root):
    """A check id that does not exist is found before anything runs."""
    file = root / "fixtures/scenarios/session/lifecycle.toml"
    file.write_text(file.read_text("utf-8").replace('"session.start"', '"session.stort"'), encoding="utf-8")
    assert "session.stort" in _refused(_parity("list", root=root), "check-unknown")


def test_a_malformed_ledger_is_refused(root):
    """An entry about nothing that exists is an error, whatever is selected."""
    ledger = root / "fixtures/ledgers/reference.toml"
    ledger.parent.mkdir(exist_ok=True)
    entry = 'scenario = "no/such"\ncheck = "*"\nversions = ""\nkind = "bug"\nreason = "r"\nsource = "s"\n'
    ledger.write_text(f"[[divergence]]\n{entry}", "utf-8")
    _refused(_parity("run", "--sdk", "reference", "-k", "session/lifecycle", root=root), "ledger-malformed")


def test_a_stimulus_that_changed_makes_its_golden_trace_stale(root):
    """Golden traces are of one stimulus; another needs another."""
    file = root / "fixtures/scenarios/session/lifecycle.toml"
    file.write_text(file.read_text("utf-8").replace('id = "info"', 'id = "infos"'), encoding="utf-8")
    _refused(_parity("run", "--sdk", "reference", "-k", "session/lifecycle", root=root), "golden-stale")


def test_damaged_golden_files_are_refused(root):
    """A golden file that was edited is found before anything runs."""
    for file in (root / "golden").glob("*/session/lifecycle.json"):
        file.write_text(file.read_text("utf-8").replace("lifecycle", "lifecycl3", 1), encoding="utf-8")
    _refused(_parity("run", "--sdk", "reference", "-k", "session/lifecycle", root=root), "golden-corrupt")


def test_a_missing_golden_trace_is_refused(root):
    """Without golden traces there is nothing to judge by."""
    shutil.rmtree(root / "golden")
    (root / "golden").mkdir()
    done = _parity("run", "--sdk", "reference", "-k", "session/lifecycle", root=root)
    assert done.returncode == 2
    assert "golden-" in done.stderr
