"""The JSON report is complete, valid against its published schema, and replaced atomically."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from harness.engine.events import RunFinished
from harness.reports.document import published_schema
from harness.reports.file import FileReport
from harness.reports.json_report import json_text

SCHEMA = Path(__file__).parents[2] / "docs" / "schema" / "report.schema.json"


@pytest.fixture
def report(events, play, tmp_path: Path):
    """Return the document written for the small run."""
    file = tmp_path / "deep" / "report.json"
    play(events, lambda tally: [FileReport(file, tally, json_text)])
    return json.loads(file.read_text(encoding="utf-8"))


def test_has_the_documented_shape(report):
    """The keys that programs rely on are there, with every planned check in results."""
    assert report["schema"] == 2
    assert report["sdk"]["name"] == "tinker"
    assert report["sdk"]["version"] == "0.38.0"
    assert report["contract"] == "tinker-0.38.0"
    assert report["exit_status"] == 1
    names = ["pass", "fail", "known", "fixed", "unsupported", "error", "not_run"]
    assert report["totals"] == dict.fromkeys(names, 1)
    assert [list(result)[:8] for result in report["results"]] == [
        ["scenario", "check", "outcome", "message", "expected", "observed", "where", "cause"]
    ] * 7


def test_is_valid_against_the_published_schema(report):
    """What is written is what is promised, also when the subject's text holds escapes and lone surrogates."""
    jsonschema.validate(report, published_schema())


def test_the_published_schema_is_current():
    """docs/schema/report.schema.json equals what the code generates."""
    assert json.loads(SCHEMA.read_text(encoding="utf-8")) == published_schema()


def test_a_failed_write_leaves_the_old_file(play, tmp_path: Path):
    """A report is replaced whole or not at all, and no scratch file stays."""
    file = tmp_path / "report.json"
    play((RunFinished(0.1),), lambda tally: [FileReport(file, tally, lambda _: "old")])
    with pytest.raises(ZeroDivisionError):
        play((RunFinished(0.1),), lambda tally: [FileReport(file, tally, lambda _: str(1 // 0))])
    assert file.read_text(encoding="utf-8") == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


def test_names_what_was_left_out_and_how_often_a_scenario_failed(report):
    """Slow scenarios that were not asked for, with the number of checks; runs and failed runs of each scenario."""
    assert report["left_out"] == [{"scenario": "faults/beats", "checks": 2, "ids": ["result.hang", "session.end"]}]
    runs = {run["scenario"]: (run["runs"], run["failed_runs"]) for run in report["scenarios"]}
    assert runs["chunks/limit"] == (5, 2)
    assert runs["custom/sum"] == (1, 0)
