"""The recordings of real SDKs that are part of the repository: the whole path on real observations, offline."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.engine.recorded import judge_run
from harness.locations import locate
from harness.recording.runs import FILE, read_run
from harness.reports import Tally

ROOT = Path(__file__).parents[2]
RECORDED = sorted(path.parent for path in (ROOT / "fixtures/recorded").glob(f"*/{FILE}"))
LIMIT = 2_000_000


def _judged(folder, **options):
    tally = Tally()
    for event in judge_run(locate(ROOT), folder, **options):
        tally.handle(event)
    return tally


def test_the_official_sdk_is_recorded_at_three_releases():
    """One of each generation: what a machine without a package index can judge."""
    assert {"tinker-0.7.0", "tinker-0.15.0", "tinker-0.38.0"} <= {folder.name for folder in RECORDED}


@pytest.mark.parametrize("folder", RECORDED, ids=lambda folder: folder.name)
def test_a_recording_holds_and_is_not_stale(folder):
    """Everything that was recorded is judged, by today's golden traces, checks and ledger; `make recordings` renews."""
    tally = _judged(folder)
    assert tally.recording.stale == ()
    assert tally.exit_status == 0, [r for r in tally.results if r.outcome not in {"pass", "known"}]
    assert tally.totals["pass"] > 3000
    driven = read_run(folder, golden=ROOT / "golden").header.driven
    assert f"{driven.name}-{driven.version}" == folder.name
    assert driven.digest


@pytest.mark.parametrize("folder", [f for f in RECORDED if f.name == "tinker-0.7.0"], ids=lambda folder: folder.name)
def test_a_recording_can_fail(folder):
    """The same observations diverge from the contract of another release, in every family of wire checks."""
    red = {r.check for r in _judged(folder, contract="tinker-0.38.0").results if r.outcome == "fail"}
    assert {"wire.encoding", "session.start", "order.arrival", "forward.keys"} <= red


@pytest.mark.parametrize("folder", RECORDED, ids=lambda folder: folder.name)
def test_a_recording_tells_nothing_of_the_machine(folder):
    """No folder, user or key of where it was taken, and it is small."""
    assert (folder / FILE).stat().st_size < LIMIT
    taken = read_run(folder, golden=ROOT / "golden")
    for entry in taken.scenarios.values():
        text = repr(entry)
        assert not [word for word in ("/home/", "/root/", "/tmp/", "/Users/", "x-api-key") if word in text]
