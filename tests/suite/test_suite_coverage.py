"""The coverage list is complete, true and rendered."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from harness.checks.causes import CAUSES
from harness.contracts.timeline import load_timeline
from harness.ledger import Known, Subject, read_ledger
from harness.suite.coverage import ROWS, load_coverage, render
from harness.suite.judging import every_check
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
    assert sum((bool(row.by or row.agrees), bool(row.out), bool(row.later))) == 1
    assert row.by or row.agrees or not row.note
    assert row.by or not row.causes
    assert set(row.causes) <= set(CAUSES)


def test_what_covers_a_row_exists() -> None:
    """Each reference names a scenario and a check that this scenario asks for."""
    scenarios = load_suite(ROOT).scenarios
    for name, row in COVERAGE.rows.items():
        for reference in (*row.by, *row.agrees):
            scenario, check = reference.split(":")
            assert scenario in scenarios, f"row {name}: {reference}"
            assert check in every_check(scenarios[scenario].judge), f"row {name}: {reference}"


def test_the_document_is_current() -> None:
    """docs/coverage.md is what `python -m harness.suite.coverage` writes."""
    assert (ROOT / "docs" / "coverage.md").read_text("utf-8") == render(COVERAGE)


def test_what_diverges_in_tinkex_is_in_its_ledger() -> None:
    """A row that says what a check finds in Tinkex is backed by an entry for one of the causes the row tells."""
    scenarios = {scenario.id: every_check(scenario.judge) for scenario in load_suite(ROOT).scenarios.values()}
    described = load_timeline(ROOT / "fixtures" / "contracts" / "tinker.toml").described
    ledger = read_ledger(
        ROOT / "fixtures" / "ledgers" / "tinkex.toml",
        Subject("tinkex", "0.4.0", "tinker-0.15.0", True),
        Known(scenarios, tuple(f"tinker-{release}" for release in described)),
        today=date(2026, 1, 1),
    )
    for name in ROWS:
        row = COVERAGE.rows[name]
        for reference in row.by if name.startswith("C") else ():
            scenario, check = reference.split(":")
            causes = {entry.cause for entry in ledger.about(scenario=scenario, check=check) if entry.outcome == "fail"}
            assert causes & (set(row.causes) or {""}), f"row {name}: {reference} is listed for {causes or 'nothing'}"
