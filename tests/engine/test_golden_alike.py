"""Golden traces of releases whose contracts say the same are computed once, and are those of each."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec

from harness.contracts.timeline import load_timeline
from harness.engine import golden
from harness.engine.prepare import open_suite
from harness.golden.document import to_document
from harness.locations import locate

ROOT = Path(__file__).parents[2]
SCENARIOS = ("session/lifecycle", "custom/sum-literal", "state/load-weights")


def test_releases_are_alike_that_differ_in_their_name_alone() -> None:
    """The first of them stands for the others; one whose contract says anything else stands for itself."""
    timeline = load_timeline(locate(ROOT).timeline)
    same = golden.alike(timeline)
    assert list(same) == list(timeline.described)
    assert (same["0.8.1"], same["0.13.1"], same["0.15.0"]) == ("0.8.0", "0.9.0", "0.15.0")
    for release, first in same.items():
        own, other = (timeline.point(f"tinker-{each}") for each in (release, first))
        assert msgspec.structs.replace(own, id=other.id, release=other.release) == other
    assert len(set(same.values())) == 6


def test_what_is_computed_once_is_what_each_would_give() -> None:
    """Computed at a release of its own, a trace says what the one says that was taken over."""
    locations = locate(ROOT)
    suite, timeline = open_suite(locations), load_timeline(locations.timeline)
    taken = golden.compute(suite, SCENARIOS, timeline, root=locations.root)
    assert set(taken) == {(name, release) for name in SCENARIOS for release in timeline.described}
    own = asyncio.run(golden._compute(suite, SCENARIOS, ("0.13.1",), locations.root))
    for name in SCENARIOS:
        assert taken[name, "0.13.1"].contract == own[name, "0.13.1"].contract == "tinker-0.13.1"
        assert str(to_document(taken[name, "0.13.1"])) == str(to_document(own[name, "0.13.1"]))
