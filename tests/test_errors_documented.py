"""docs/errors.md lists exactly the codes there are."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
CODE = re.compile(r"[a-z]+(-[a-z]+)+")


def _raised():
    """Return every code a ParityError is made with: its first argument, or the `code` of a helper that makes it."""
    codes = set()
    for path in (ROOT / "harness").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            given = [node.args[0]] if name == "ParityError" and node.args else []
            if name != "DriverError":  # a driver's own codes are data of the protocol
                given += [keyword.value for keyword in node.keywords if keyword.arg == "code"]
            codes |= {argument.value for argument in given if isinstance(argument, ast.Constant)}
    return {code for code in codes if isinstance(code, str) and CODE.fullmatch(code)}


def test_every_code_is_documented_and_no_other():
    """A code in the source has a row, and a row has a code in the source."""
    rows = re.findall(r"^\| `([a-z-]+)` \|", (ROOT / "docs/errors.md").read_text("utf-8"), re.MULTILINE)
    assert len(rows) == len(set(rows))
    assert set(rows) == _raised()
