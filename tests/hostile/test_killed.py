"""kill -9 of a writer at any moment: what is there is old or new, the next run works, nothing is left in the end."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("kill_at.py")
MOMENTS = 50
SEED = 20_251


@pytest.mark.parametrize(
    ("writer", "fewest"),
    [("golden", MOMENTS), ("cache", 20), ("recording", 5), ("journal", 5), ("file", 4)],
)
def test_a_killed_writer_leaves_old_or_new(tmp_path: Path, writer: str, fewest: int) -> None:
    """Killed before the n-th access to the file system, for 50 n, or for all where there are fewer.

    `file` stands for whatever is one file: a ledger that is listed anew, a certificate, a report.
    """
    done = subprocess.run(
        [sys.executable, str(SCRIPT), writer, str(tmp_path), str(MOMENTS), str(SEED)],
        stdout=subprocess.PIPE,
        check=True,
        timeout=240,
        cwd=Path(__file__).parents[2],
    )
    told = json.loads(done.stdout)
    assert len(told["moments"]) == min(MOMENTS, told["total"]) >= fewest
    for moment, (ended, after, then, *left) in zip(told["moments"], told["found"], strict=True):
        assert ended == "killed", moment
        assert after in ("old", "new"), moment
        assert then == "new", moment
        assert left == [], moment
    if writer == "golden":
        assert {after for _, after, *_ in told["found"]} == {"old", "new"}, "it was never killed on both sides"
