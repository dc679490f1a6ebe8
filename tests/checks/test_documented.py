"""docs/checks.md names every check, with the sentence the registry has."""

from __future__ import annotations

import re
from pathlib import Path

from harness.checks.registry import CHECKS

TEXT = (Path(__file__).parents[2] / "docs" / "checks.md").read_text("utf-8")


def test_the_table_is_the_registry():
    """The documented checks are the registered ones, in order, each with its own sentence."""
    rows = re.findall(r"^\| `([\w.]+)` \| (.*?) \| .+ \|$", TEXT, re.MULTILINE)
    assert rows == [(check.id, check.says) for check in CHECKS.values()]
