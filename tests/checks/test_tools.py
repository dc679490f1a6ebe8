"""deepdiff for structure, numpy for numbers: neither does the other's work."""

from __future__ import annotations

import ast
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from traces import case, full_run, with_input, with_requests

from harness.checks.registry import judge

HARNESS = Path(__file__).parents[2] / "harness"
FULL = full_run()


def _importers(package):
    found = set()
    for path in HARNESS.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if any(name.partition(".")[0] == package for name in names):
                found.add(path.relative_to(HARNESS).as_posix())
    return found


def test_only_structure_is_compared_by_deepdiff():
    """One module uses deepdiff, and that one knows no arrays."""
    assert _importers("deepdiff") == {"checks/structure.py"}
    assert "checks/structure.py" not in _importers("numpy")


@pytest.mark.parametrize(
    ("check", "phase", "key"),
    [("weights.values", "backward", "weights"), ("forward.values", "forward", "weights")],
)
def test_numbers_are_compared_without_deepdiff(check, phase, key, monkeypatch):
    """Wrong numbers are found, placed and explained where deepdiff cannot even be imported."""
    monkeypatch.setitem(sys.modules, "deepdiff", None)
    wrong = with_input(FULL, "fb", phase, key, lambda _, t: replace(t, values=t.values + 1))
    assert judge(check, case(FULL, wrong)).outcome == "fail"


def test_structure_is_compared_with_deepdiff(monkeypatch):
    """Bodies are deepdiff's: without it, a body that differs cannot be judged."""
    other = with_requests(FULL, lambda r: replace(r, body={"model_id": "model-1"}) if r.call == "save" else r)
    assert judge("wire.bodies", case(FULL, other)).outcome == "fail"
    monkeypatch.setitem(sys.modules, "deepdiff", None)
    with pytest.raises(ImportError):
        judge("wire.bodies", case(FULL, other))
