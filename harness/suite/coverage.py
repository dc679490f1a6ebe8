"""What the field has seen go wrong, and which scenario and check would have caught it: `docs/coverage.md`.

`python -m harness.suite.coverage` writes the document from `fixtures/coverage.toml`. A test fails when it is stale,
when a row is missing, or when a row names a scenario or check that does not exist.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from string import digits

import msgspec

from harness.locations import locate

ROWS: tuple[str, ...] = (
    *(str(number) for number in range(1, 84)),
    *(f"L{number}" for number in range(1, 23)),
    *(f"U{number}" for number in range(1, 37)),
    *(f"C{number}" for number in range(1, 21)),
)
"""Every row there must be: found by hand (1 to 83), alive today (L), met by users (U), measured in Tinkex 0.4.0 (C)."""

_PARTS = (("Found by hand", ""), ("Alive today", "L"), ("Met by users", "U"), ("Measured in Tinkex 0.4.0", "C"))


class Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One row: what differed, and `by` (scenario:check), `out` (why not) or `later` (under which topic).

    Of a row about one SDK, `by` diverges, for the `causes` told there, and `agrees` keeps the SDK's contract: green by
    it, and red by the contract tinker-0.38.0.
    """

    what: str
    by: tuple[str, ...] = ()
    causes: tuple[str, ...] = ()
    agrees: tuple[str, ...] = ()
    out: str = ""
    later: str = ""
    note: str = ""


class Coverage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All rows by id, and, `apart` from them, what scenarios cannot say, with the reason."""

    rows: dict[str, Row]
    apart: dict[str, str]


def load_coverage(fixtures: Path) -> Coverage:
    """Read `coverage.toml` of the folder `fixtures`. Raises msgspec.ValidationError where it has another form."""
    return msgspec.toml.decode((fixtures / "coverage.toml").read_bytes(), type=Coverage)


def render(coverage: Coverage) -> str:
    """Return the document."""
    covered = sum(bool(row.by or row.agrees) for row in coverage.rows.values())
    later = sum(bool(row.later) for row in coverage.rows.values())
    lines = [
        "# Coverage",
        "",
        "<!-- Written by python -m harness.suite.coverage from fixtures/coverage.toml. -->",
        "",
        f"Of {len(coverage.rows)} known ways to be wrong, {covered} have a scenario and checks that would have caught",
        f"them, {later} are for later, and the others are out of scope, each with its reason.",
    ]
    for title, letter in _PARTS:
        lines += ["", f"## {title}", "", "| row | what | caught by, or why not |", "|---|---|---|"]
        lines += [
            f"| {name} | {row.what} | {_cell(row)} |"
            for name, row in coverage.rows.items()
            if name.rstrip(digits) == letter
        ]
    lines += ["", "## What a scenario cannot say", "", *_apart(coverage.apart)]
    return "\n".join(lines) + "\n"


def _cell(row: Row) -> str:
    note = f" ({row.note})" if row.note else ""
    if row.by or row.agrees:
        parts = [_references(row.by), f"agrees: {_references(row.agrees)}" if row.agrees else ""]
        if row.causes:
            parts[0] += f": {', '.join(row.causes)}"
        return "; ".join(part for part in parts if part) + note
    return f"later: {row.later}" if row.later else f"out: {row.out}"


def _references(references: tuple[str, ...]) -> str:
    return ", ".join(f"`{reference}`" for reference in references)


def _apart(apart: Mapping[str, str]) -> list[str]:
    return [f"- {what[0].upper()}{what[1:]}: {why}." for what, why in apart.items()]


if __name__ == "__main__":
    root = locate().root
    (root / "docs" / "coverage.md").write_text(render(load_coverage(root / "fixtures")), encoding="utf-8")
