"""Several reports of one run, and what is refused before a run begins."""

from __future__ import annotations

import json
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from reports.github import workflow_commands

from harness.cli.follow import hand, reports
from harness.cli.wanted import Wanted
from harness.engine.events import RunFinished
from harness.errors import ParityError
from harness.reports import Tally
from harness.reports.html.block import unfolded

ROOT = Path(__file__).parents[2]
RECORDING = ROOT / "fixtures" / "recorded" / "tinker-0.38.0"
SCENARIO = "custom/sum-literal"
FILES = {"--json": "r.json", "--junit": "r.xml", "--markdown": "r.md", "--html": "r.html", "--badge": "b.json"}


def _pictured(file):
    """Return whether a page has a picture."""
    return any("picture" in entry for entry in unfolded(file.read_text("utf-8"))[1]["scenarios"])


def _parity(*arguments, cwd=None):
    return subprocess.run(
        [sys.executable, "-m", "harness", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
        stdin=subprocess.DEVNULL,
        cwd=cwd,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)},
    )


def test_one_run_writes_every_report(tmp_path):
    """Six files and annotations come from one run, and agree; stdout has the console and the commands alone."""
    files = {option: tmp_path / "deep" / name for option, name in {**FILES, "--support": "S.md"}.items()}
    asked = [part for option, path in files.items() for part in (option, path)]
    done = _parity("run", "--sdk", "reference", "-k", SCENARIO, *asked, "--annotations")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert all(path.exists() for path in files.values())
    passed = json.loads(files["--json"].read_text("utf-8"))["totals"]["pass"]
    assert passed > 10
    assert ET.parse(files["--junit"]).getroot().get("tests") == str(passed)
    assert f"**Everything held**: {passed} pass." in files["--markdown"].read_text("utf-8")
    assert json.loads(files["--badge"].read_text("utf-8"))["message"] == "holds"
    assert f"| Custom losses | {passed} | - |" in files["--support"].read_text("utf-8")
    assert _pictured(files["--html"])
    first, *lines = done.stdout.splitlines()
    assert first.startswith("::stop-commands::")
    assert lines[0] == f"reference 0.38.0 against tinker-0.38.0: 1 scenario, {passed} checks"
    told = f"{passed} pass: everything held"
    assert workflow_commands(done.stdout) == [
        ("notice", {"title": "parity: reference 0.38.0 against tinker-0.38.0"}, told)
    ]


def test_stdout_is_the_console_alone(tmp_path):
    """Reports that go to files leave no trace on stdout, and nothing but what was asked for is written."""
    asked = ("run", "--sdk", "reference", "-k", f"{SCENARIO}:weights.values")
    plain = _parity(*asked, cwd=tmp_path)
    assert list(tmp_path.iterdir()) == []
    with_file = _parity(*asked, "--markdown", "r.md", cwd=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["r.md"]
    shape = [[word for word in line.split() if not word[0].isdigit()] for line in plain.stdout.splitlines()]
    assert shape == [[word for word in line.split() if not word[0].isdigit()] for line in with_file.stdout.splitlines()]
    assert "::" not in with_file.stdout


def test_a_report_does_not_go_where_the_console_writes(tmp_path):
    """A dash is no file: it is refused, and none of that name is made."""
    done = _parity("run", "--sdk", "reference", "-k", SCENARIO, "--json", "-", cwd=tmp_path)
    assert (done.returncode, done.stderr.split("]")[0]) == (2, "error [report-unwritable")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("option", [*FILES, "--support"])
@pytest.mark.parametrize("command", [("run", "--sdk", "no-such-sdk"), ("check", "no-such-recording")])
def test_what_cannot_be_written_is_refused_first(tmp_path, command, option):
    """A folder that cannot be made is an error before anything else is looked at."""
    (tmp_path / "file").touch()
    done = _parity(*command, option, tmp_path / "file" / "report")
    assert done.returncode == 2
    assert done.stderr.startswith("error [report-unwritable] ")
    assert option in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("command", "option"),
    [
        (("check-driver", "no-such-program"), "--json"),
        (("repro", "custom/sum-literal", "--sdk", "reference"), "--out"),
    ],
    ids=["check-driver", "repro"],
)
def test_other_files_that_cannot_be_written_are_errors_too(tmp_path, command, option):
    """With the same code and status 2: status 1 would say that something was found."""
    (tmp_path / "file").touch()
    done = _parity(*command, option, tmp_path / "file" / "report")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error [report-unwritable] ")


def test_two_reports_cannot_be_one_file(tmp_path):
    """The second would write over the first."""
    done = _parity("run", "--sdk", "reference", "--json", "r", "--html", tmp_path / "r", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error [report-twice] --json and --html both name ")


def test_a_readme_without_marks_is_refused(tmp_path):
    """A file that has no place for the table stays as it is."""
    (tmp_path / "README.md").write_text("# SDK\n", encoding="utf-8")
    done = _parity("run", "--sdk", "reference", "--support", "README.md", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error [support-unmarked] ")
    assert (tmp_path / "README.md").read_text("utf-8") == "# SDK\n"


def test_a_report_that_fails_in_the_end_costs_no_other(tmp_path, capsys):
    """A disk that is full when one report is written: the others are, the console too, and the error says which."""
    (tmp_path / "taken").mkdir()
    tally = Tally()
    wanted = Wanted(json_file=tmp_path / "taken", markdown_file=tmp_path / "r.md", badge_file=tmp_path / "b.json")
    with pytest.raises(ParityError) as caught:
        hand([tally, *reports(tally, wanted)], RunFinished(0.1))
    assert caught.value.code == "report-unwritable"
    assert "taken" in caught.value.message
    assert (tmp_path / "r.md").exists()
    assert (tmp_path / "b.json").exists()
    assert "something diverged" in capsys.readouterr().out


def test_a_recording_is_judged_with_every_report(tmp_path):
    """`parity check` writes what `parity run` writes; pages of one recording are the same to the byte."""
    pages = []
    for name in ("first", "second"):
        files = [part for option, file in FILES.items() for part in (option, tmp_path / name / file)]
        done = _parity("check", RECORDING, *files)
        assert done.returncode == 0, done.stdout + done.stderr
        pages.append((tmp_path / name / "r.html").read_bytes())
        assert _pictured(tmp_path / name / "r.html")
    assert pages[0] == pages[1]
    assert len(pages[0]) < 300_000
    report = json.loads((tmp_path / "first" / "r.json").read_text("utf-8"))
    assert ET.parse(tmp_path / "first" / "r.xml").getroot().get("tests") == str(len(report["results"]))
