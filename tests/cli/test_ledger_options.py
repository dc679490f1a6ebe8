"""`--ledger` and `--update-ledger`: a ledger of one's own, kept in line with what runs find."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCENARIO = "custom/sum-literal"
OTHER = ("run", "--sdk", "reference==0.7.0", "--contract", "tinker-0.38.0")


@pytest.fixture
def root(tmp_path):
    """Return a suite of one scenario."""
    root = tmp_path / "root"
    shutil.copytree(ROOT / "fixtures", root / "fixtures", ignore=shutil.ignore_patterns("scenarios", "recorded"))
    file = root / f"fixtures/scenarios/{SCENARIO}.toml"
    file.parent.mkdir(parents=True)
    shutil.copy(ROOT / f"fixtures/scenarios/{SCENARIO}.toml", file)
    (root / "fixtures/ledgers/tinker.toml").write_text("", "utf-8")
    (root / "golden").symlink_to(ROOT / "golden")
    return root


def _parity(root, *arguments, folder=None):
    return subprocess.run(
        [sys.executable, "-m", "harness", "--root", str(root), *map(str, arguments)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )


def _outcomes(file):
    totals = json.loads(file.read_text("utf-8"))["totals"]
    return {outcome for outcome, number in totals.items() if number}


def test_a_ledger_is_brought_in_line_and_then_holds(root, tmp_path):
    """What diverges is listed once, with its cause; the next run knows it, offline too, and has nothing to change."""
    ledger, report = tmp_path / "mine.toml", tmp_path / "r.json"
    ledger.write_text('# ours\nsdk = "reference"\n', "utf-8")
    done = _parity(root, *OTHER, "--ledger", ledger, "--update-ledger", "--json", report, "--record", tmp_path / "rec")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "mine.toml: custom/sum-literal:wire.encoding: listed" in done.stderr
    assert "fail" in _outcomes(report)
    text = ledger.read_text("utf-8")
    assert text.startswith('# ours\nsdk = "reference"\n\n[[divergence]]\n')
    assert 'versions = "==0.7.0"' in text
    again = _parity(root, *OTHER, "--ledger", ledger, "--update-ledger", "--json", report)
    assert ledger.read_text("utf-8") == text
    assert {"known", "pass"} <= _outcomes(report) <= {"known", "pass", "not_run"}
    assert not [line for line in again.stderr.splitlines() if line.startswith("mine.toml")]
    _parity(root, "check", tmp_path / "rec", "--ledger", ledger, "--json", tmp_path / "c.json")
    assert json.loads((tmp_path / "c.json").read_text())["totals"] == json.loads(report.read_text())["totals"]
    # Another release, which these entries are not about.
    done = _parity(root, "run", "--sdk", "reference", "--ledger", ledger)
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_is_mended_is_taken_out(root, tmp_path):
    """An entry that holds no longer fails the run, and goes; parity.toml can name the ledger."""
    entry = f'scenario = "{SCENARIO}"\ncheck = "weights.values"\nversions = "==0.38.0"\nkind = "bug"\n'
    ledger = tmp_path / "mine.toml"
    ledger.write_text(f'# ours\n\n[[divergence]]\n{entry}reason = "r"\nsource = "s"\n', "utf-8")
    (tmp_path / "parity.toml").write_text('ledger = "mine.toml"\nsdk = "reference"\n', "utf-8")
    done = _parity(root, "run", "--update-ledger", folder=tmp_path)
    assert done.returncode == 1
    assert "fixed weights.values" in done.stdout
    assert "weights.values: taken out, it holds" in done.stderr
    assert ledger.read_text("utf-8").strip() == "# ours"
    assert _parity(root, "run", folder=tmp_path).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--update-ledger",), "ledger-unnamed"),
        (("--update-ledger", "--ledger", "mine.toml", "-k", SCENARIO), "ledger-partial"),
        (("--update-ledger", "--ledger", "mine.toml", "--replay"), "ledger-partial"),
        (("--ledger", "none.toml"), "ledger-missing"),
    ],
)
def test_what_makes_no_sense_is_refused(root, tmp_path, arguments, code):
    """No file, a run of a part, a file that is not there: nothing is run and nothing is written."""
    (tmp_path / "mine.toml").write_text("", "utf-8")
    done = _parity(root, "run", "--sdk", "reference", *arguments, folder=tmp_path)
    assert done.returncode == 2, done.stdout + done.stderr
    assert f"error [{code}] " in done.stderr
    assert (tmp_path / "mine.toml").read_text("utf-8") == ""
