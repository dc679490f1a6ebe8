"""docs/regularizers.md says what is true: its program runs, its document is valid, its tables are those of the code."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from harness.drivers.protocol import ErrorKind
from harness.reference.errors import Reason
from harness.reference.regularizers.builtins import BUILTINS
from harness.reference.regularizers.flat import KEY, flatten
from harness.reference.regularizers.telemetry import BaseLoss, LossReport, from_json, loss_report, term_report

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "regularizers.md").read_text(encoding="utf-8")


def _blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def test_the_page_opens_with_a_program_that_runs(tmp_path):
    """Written to a file and run as it stands, it prints what the page says that it prints."""
    (program,), (printed,) = _blocks("python"), _blocks("text")
    assert PAGE.index("```python") < PAGE.index("\n## ")
    script = tmp_path / "program.py"
    script.write_text(program, encoding="utf-8")
    ran = subprocess.run(
        [sys.executable, "-W", "error", str(script)], capture_output=True, text=True, cwd=ROOT, timeout=120, check=False
    )
    assert ran.stderr == ""
    assert ran.stdout == printed


def test_the_document_of_the_page_is_one():
    """It is read like any report, and its sums are right."""
    (written,) = _blocks("json")
    report = from_json(written.encode(), LossReport)
    assert list(json.loads(written)) == list(LossReport.__struct_fields__)
    assert report.regularizer_total == pytest.approx(sum(each.contribution for each in report.regularizers.values()))
    assert report.loss_total == pytest.approx(report.base_loss.value + report.regularizer_total)
    assert all(each.contribution == pytest.approx(each.weight * each.value) for each in report.regularizers.values())


def test_the_errors_of_the_page_are_those_of_the_code():
    """Every kind that it names is one of the protocol, and every reason has a row."""
    table = PAGE[PAGE.index("## Errors") : PAGE.index("## The report")]
    rows = [row.split("|") for row in table.splitlines() if row.startswith("| ")][1:]
    kinds = {kind for row in rows for kind in re.findall(r"`(\w+)`", row[2])}
    assert kinds <= set(get_args(ErrorKind))
    assert {reason for row in rows for reason in re.findall(r"`(\w+)`", row[4])} == set(get_args(Reason))


def test_the_flat_form_of_the_page_is_that_of_the_code():
    """Every name that the flat form can have is in the table."""
    custom = {"<metric>": 1.0, "<metric>:sum": 1.0, "<metric>:mean": 1.0}
    full = loss_report(BaseLoss(1.0, 1.0, {}), [("<name>", term_report(1.0, 1.0, 1.0, custom))], 1.0)
    flat = flatten(full)
    keys = [*flat.metrics, *(_key(path) for path in flat.left_out)]
    assert len(keys) == 13
    assert [key for key in keys if f"`{key}`" not in PAGE] == []
    assert KEY.pattern.replace("([", "[", 1).replace("}):", "}:", 1) in PAGE


def _key(path):
    """Return the name of a metric of a regularizer, which the letters of `<name>` keep out of the flat form."""
    metric = path.partition(".custom.")[2]
    return f"custom/<name>/reduced/{metric}" if ":" in metric else f"custom/<name>/custom/{metric}:mean"


def test_every_built_in_regularizer_has_its_formula():
    """One row each, and no other."""
    section = PAGE[PAGE.index("## Built-in") : PAGE.index("## What was decided")]
    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == list(BUILTINS)
