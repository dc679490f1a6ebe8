"""The JSON report is complete, valid against its published schema, and replaced atomically."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from harness.reports.json_report import JsonReport, published_schema, write_atomically

SCHEMA = Path(__file__).parents[2] / "docs" / "schema" / "report.schema.json"


@pytest.fixture
def report(events, play, tmp_path: Path):
    """Return the document written for the small run."""
    file = tmp_path / "deep" / "report.json"
    play(events, lambda tally: [JsonReport(file, tally)])
    return json.loads(file.read_text(encoding="utf-8"))


def test_has_the_documented_shape(report):
    """The keys that programs rely on are there, with every planned check in results."""
    assert report["schema"] == 1
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


def test_a_failed_write_leaves_the_old_file(tmp_path: Path):
    """A report is replaced whole or not at all, and no scratch file stays."""
    file = tmp_path / "report.json"
    write_atomically(file, "old")
    with pytest.raises(TypeError):
        write_atomically(file, None)
    assert file.read_text(encoding="utf-8") == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]
