"""`parity gate`, `diff`, `plan`, `merge` and `suite` as processes: exit statuses, files, and what is refused."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ONE, TWO, THREE = "custom/sum-literal", "custom/last-token", "custom/nonlinear"
IGNORED = shutil.ignore_patterns("scenarios", "recorded", "revisions")
OTHER = ("--sdk", "reference==0.7.0", "--contract", "tinker-0.38.0")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Return a suite of three scenarios, which tests leave as it is."""
    return _suite(tmp_path_factory.mktemp("suite"))


def _suite(root):
    shutil.copytree(ROOT / "fixtures", root / "fixtures", ignore=IGNORED)
    for scenario in (ONE, TWO, THREE):
        _add(root, scenario)
    (root / "fixtures/ledgers/tinker.toml").write_text("", "utf-8")
    (root / "fixtures/ledgers/tinkex.toml").write_text("", "utf-8")
    (root / "golden").symlink_to(ROOT / "golden")
    return root


def _add(root, scenario):
    file = root / f"fixtures/scenarios/{scenario}.toml"
    file.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / f"fixtures/scenarios/{scenario}.toml", file)


def _parity(root, *arguments, folder=None):
    return subprocess.run(
        [sys.executable, "-m", "harness", "--root", str(root), *map(str, arguments)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )


@pytest.fixture(scope="module")
def good(root, tmp_path_factory):
    """Return the report of the reference at its own contract."""
    report = tmp_path_factory.mktemp("good") / "good.json"
    done = _parity(root, "run", "--sdk", "reference", "--json", report)
    assert done.returncode == 0, done.stdout + done.stderr
    return report


@pytest.fixture(scope="module")
def bad(root, tmp_path_factory):
    """Return the report of another release, judged by the same contract."""
    report = tmp_path_factory.mktemp("bad") / "bad.json"
    assert _parity(root, "run", *OTHER, "--json", report).returncode == 1
    return report


def _labels(report):
    remarks = json.loads(report.read_text("utf-8"))["remarks"]
    return {remark["label"] for remark in remarks if remark["label"]}


def test_the_baseline_labels_and_the_ledger_decides(root, good, bad, tmp_path):
    """The same failures are new, or known and yet a failure, or known and listed; only the ledger makes them pass."""
    report, junit = tmp_path / "report.json", tmp_path / "junit.xml"
    gate = ("gate", *OTHER, "--json", report, "--junit", junit)
    done = _parity(root, *gate, "--baseline", good)
    assert done.returncode == 1
    assert "new             custom/last-token  wire.encoding" in done.stdout
    assert _labels(report) == {"new"}
    assert int(ET.parse(junit).getroot().get("failures")) > 0
    done = _parity(root, *gate, "--baseline", bad)
    assert done.returncode == 1
    assert _labels(report) == {"known"}
    assert "failed in the baseline too, but no ledger lists that: the ledger decides" in done.stdout
    ledger = tmp_path / "ledger.toml"
    ledger.write_text("", "utf-8")
    assert _parity(root, "run", *OTHER, "--ledger", ledger, "--update-ledger").returncode == 1
    blind = '\n[[divergence]]\nscenario = "custom/*"\ncheck = "wire.forms"\noutcome = "not_run"\ncovers = 3\n'
    fields = 'contract = "tinker-0.38.0"\nkind = "bug"\nreason = "r"\nsource = "s"\nversions = ""\n'
    ledger.write_text(ledger.read_text("utf-8") + blind + fields, "utf-8")
    done = _parity(root, *gate, "--baseline", good, "--ledger", ledger)
    assert done.returncode == 0, done.stdout + done.stderr
    assert _labels(report) == {"known"}
    document = json.loads(report.read_text("utf-8"))
    assert document["baseline"]["version"] == "0.38.0"
    assert "version: 0.38.0, now 0.7.0" in document["baseline"]["apart"]


def test_what_is_mended_is_said(root, bad, tmp_path):
    """Against a baseline that failed, what holds is fixed, and nothing keeps the gate from passing."""
    report = tmp_path / "report.json"
    done = _parity(root, "gate", "--sdk", "reference", "--baseline", bad, "--json", report)
    assert done.returncode == 0, done.stdout + done.stderr
    assert _labels(report) == {"fixed"}
    assert "fixed           custom/last-token  " in done.stdout


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda report: report | {"schema": 1}, "report-older"),
        (lambda report: report | {"schema": 3}, "report-newer"),
        (lambda report: report | {"interrupted": True}, "report-interrupted"),
        (lambda report: report | {"sdk": report["sdk"] | {"name": "tinkex"}}, "report-of-another"),
        (lambda report: report | {"contract": "tinker-0.7.0"}, "report-of-another"),
        (lambda report: report | {"run": report["run"] | {"replay": True}}, "report-of-another"),
        (lambda _: {"hello": 1}, "report-foreign"),
        (lambda report: {name: value for name, value in report.items() if name != "run"}, "report-malformed"),
    ],
)
def test_a_baseline_that_is_none_is_refused_before_anything_runs(root, good, tmp_path, change, code):
    """Older, of another SDK, contract or server, cut short: status 2, a code and a hint, and no report."""
    baseline, report = tmp_path / "baseline.json", tmp_path / "report.json"
    baseline.write_text(json.dumps(change(json.loads(good.read_text("utf-8")))), "utf-8")
    done = _parity(root, "gate", "--sdk", "reference", "--baseline", baseline, "--json", report)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"error [{code}] " in done.stderr
    assert "hint  " in done.stderr
    assert not report.exists()


def test_diff_needs_no_suite(good, bad, tmp_path):
    """Two reports are enough, wherever they are."""

    def diff(*arguments):
        command = [sys.executable, "-m", "harness", "diff", *map(str, arguments)]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)

    file = tmp_path / "diff.json"
    done = diff(good, bad, "--json", file)
    assert done.returncode == 1, done.stderr
    assert "reference 0.38.0 -> 0.7.0 against tinker-0.38.0" in done.stdout
    assert done.stdout.endswith("something is new or changed\n")
    assert json.loads(file.read_text("utf-8"))["counts"]["new"] > 0
    backwards = diff(bad, good, "--json", "-")
    assert backwards.returncode == 0
    assert set(json.loads(backwards.stdout)["counts"]) >= {"fixed", "new"}
    assert diff(good, good).returncode == 0
    assert diff(good, bad, "-k", "weights.dtype").returncode == 0
    assert "error [report-not-found] " in diff(good, tmp_path / "none.json").stderr
    unwritable = diff(good, good, "--json", file / "x.json")
    assert (unwritable.returncode, unwritable.stderr.split("]")[0]) == (2, "error [report-unwritable")


def test_shards_run_apart_and_are_judged_together(root, good, tmp_path):
    """Every shard once is the whole run, in its order; one missing, doubled or of another run is refused."""
    parts = []
    for index in (1, 2, 3):
        parts.append(tmp_path / f"{index}.json")
        done = _parity(root, "gate", "--sdk", "reference", "--shard", f"{index}/3", "--json", parts[-1])
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"shard {index} of 3, 1 scenario, " in done.stdout
    whole, junit = tmp_path / "whole.json", tmp_path / "junit.xml"
    done = _parity(root, "merge", *reversed(parts), "--json", whole, "--junit", junit)
    assert done.returncode == 0, done.stdout + done.stderr
    one, other = (json.loads(file.read_text("utf-8")) for file in (good, whole))
    assert [r["check"] for r in other["results"]] == [r["check"] for r in one["results"]]
    assert (other["totals"], other["suite"]) == (one["totals"], one["suite"])
    assert ET.parse(junit).getroot().get("tests") == str(len(one["results"]))
    assert _parity(root, "gate", "--sdk", "reference", "-k", ONE, "--baseline", whole).returncode == 0
    for given, code in (
        (parts[:2], "merge-incomplete"),
        ([*parts, parts[0]], "merge-twice"),
        ([*parts[:2], good], "merge-whole"),
        ([good], "merge-whole"),
    ):
        done = _parity(root, "merge", *given)
        assert (done.returncode, f"error [{code}] " in done.stderr) == (2, True), done.stderr
    done = _parity(root, "gate", "--sdk", "reference", "--baseline", parts[0])
    assert (done.returncode, "error [report-part] " in done.stderr) == (2, True)


def test_a_wide_ledger_entry_may_be_used_in_another_shard(root, tmp_path):
    """An entry that no check of a shard needs does not fail the shard; one that no shard needs fails the whole."""
    unused = (
        '[[divergence]]\nscenario = "custom/*"\ncheck = "wire.encoding"\ncovers = 3\nversions = ""\n'
        'contract = "tinker-0.38.0"\noutcome = "not_run"\nkind = "bug"\nreason = "r"\nsource = "s"\n'
    )
    ledger = tmp_path / "ledger.toml"
    ledger.write_text(unused, "utf-8")
    parts = []
    for index in (1, 2):
        parts.append(tmp_path / f"{index}.json")
        run = ("run", "--sdk", "reference", "--contract", "tinker-0.38.0", "--ledger", ledger)
        done = _parity(root, *run, "--shard", f"{index}/2", "--json", parts[-1])
        assert done.returncode == 0, done.stdout + done.stderr
    done = _parity(root, "merge", *parts)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "unused custom/*:wire.encoding" in done.stdout


def test_the_plan_of_shards_is_a_matrix(root):
    """One line of JSON for fromJSON, every shard named as --shard takes it; more shards than scenarios are refused."""
    done = _parity(root, "plan", "--shards", 3, "--format", "github")
    matrix = json.loads(done.stdout)
    assert [job["shard"] for job in matrix["include"]] == ["1/3", "2/3", "3/3"]
    assert sum(job["scenarios"] for job in matrix["include"]) == 3
    assert done.stdout.count("\n") == 1
    assert "3/3" in _parity(root, "plan", "--shards", 3).stdout
    done = _parity(root, "plan", "--shards", 4)
    assert (done.returncode, "error [shard-empty] " in done.stderr) == (2, True)


@pytest.mark.parametrize("shard", ["0/2", "3/2", "1", "1/", "/2", "a/b", "1/2/3", "-1/2", "1/999"])
def test_a_shard_that_is_none_is_refused(root, shard):
    """The option parser says what it takes."""
    done = _parity(root, "run", "--sdk", "reference", f"--shard={shard}")
    assert done.returncode == 2
    assert "--shard" in done.stderr


def test_what_is_later_than_the_scored_revision_decides_nothing(tmp_path):
    """A later scenario fails, is reported as unscored everywhere, and the exit status is that of the revision."""
    root = _suite(tmp_path / "root")
    (root / f"fixtures/scenarios/{THREE}.toml").unlink()
    assert _parity(root, "--version").stdout == "parity 0.1.0, suite not released yet\n"
    assert "revision 1 released: 2 scenarios" in _parity(root, "suite", "release").stdout
    assert _parity(root, "--version").stdout == "parity 0.1.0, suite revision 1\n"
    _add(root, THREE)
    report, junit = tmp_path / "report.json", tmp_path / "junit.xml"
    run = ("run", *OTHER, "--json", report, "--junit", junit, "-k", f"({ONE} or {THREE}) and (wire.encoding or order)")
    ledger = tmp_path / "ledger.toml"
    ledger.write_text(
        f'[[divergence]]\nscenario = "{ONE}"\ncheck = "wire.encoding"\ncause = "json-for-protobuf"\nversions = ""\n'
        'contract = "tinker-0.38.0"\nkind = "bug"\nreason = "r"\nsource = "s"\n',
        "utf-8",
    )
    assert _parity(root, *run, "--ledger", ledger).returncode == 1
    done = _parity(root, *run, "--ledger", ledger, "--suite", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"unscored {THREE}:wire.encoding  fail: " in done.stdout
    document = json.loads(report.read_text("utf-8"))
    assert (document["run"]["revision"], document["run"]["scored"]) == (1, 1)
    assert {r["scenario"] for r in document["remarks"] if r["unscored"]} == {THREE}
    assert document["totals"]["fail"] == 1
    assert "unscored: fail: " in junit.read_text("utf-8")
    (tmp_path / "parity.toml").write_text("suite = 1\n", "utf-8")
    assert _parity(root, *run, "--ledger", ledger, folder=tmp_path).returncode == 0
    done = _parity(root, *run, "--suite", "2")
    assert (done.returncode, "error [revision-unknown] " in done.stderr) == (2, True)
    done = _parity(root, "run", "--sdk", "reference", "-k", THREE, "--suite", "1")
    assert (done.returncode, "error [selection-empty] " in done.stderr) == (2, True)
    assert _parity(root, "suite", "verify").returncode == 0
    file = root / f"fixtures/scenarios/{ONE}.toml"
    file.write_text(file.read_text("utf-8").replace("tokens = [8]", "tokens = [7]"), "utf-8")
    done = _parity(root, "suite", "verify")
    assert done.returncode == 1
    assert f"{ONE} was released in revision 1 and its stimulus has changed: undo the change" in done.stderr
