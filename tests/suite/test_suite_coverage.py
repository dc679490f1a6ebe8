"""The coverage list is complete, true and rendered."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.suite.coverage import ROWS, load_coverage, render
from harness.suite.loader import load_suite

ROOT = Path(__file__).parents[2]
COVERAGE = load_coverage(ROOT / "fixtures")


def test_every_row_is_there_once() -> None:
    """Rows are those of the catalogue, in its order."""
    assert tuple(COVERAGE.rows) == ROWS


@pytest.mark.parametrize("name", ROWS)
def test_a_row_says_one_thing(name: str) -> None:
    """A row is covered, out of scope or for later, and only what is covered has a note."""
    row = COVERAGE.rows[name]
    assert row.what
    assert sum((bool(row.by), bool(row.out), bool(row.later))) == 1
    assert row.by or not row.note


def test_what_covers_a_row_exists() -> None:
    """Each reference names a scenario and a check that this scenario asks for."""
    scenarios = load_suite(ROOT).scenarios
    for name, row in COVERAGE.rows.items():
        for reference in row.by:
            scenario, check = reference.split(":")
            assert scenario in scenarios, f"row {name}: {reference}"
            assert check in scenarios[scenario].judge.checks, f"row {name}: {reference}"


def test_the_document_is_current() -> None:
    """docs/coverage.md is what `python -m harness.suite.coverage` writes."""
    assert (ROOT / "docs" / "coverage.md").read_text("utf-8") == render(COVERAGE)
