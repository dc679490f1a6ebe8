"""Revisions of a suite: the next one, and whether the released ones still hold."""

from __future__ import annotations

from datetime import UTC, datetime

from harness.atomic import write_whole
from harness.contracts.timeline import load_timeline
from harness.engine.prepare import open_suite
from harness.locations import Locations
from harness.suite.revisions import asked_checks, moved, next_revision, read_revisions, written


def release(locations: Locations) -> str:
    """Write the next revision of the suite below `locations.root`; return what it has, in a sentence.

    Raises ParityError `root-read-only`, `revision-moved`, `revision-empty`, and what `open_suite` raises.
    """
    locations.refuse_installed()
    suite, described = open_suite(locations), load_timeline(locations.timeline).described
    today = datetime.now(UTC).date().isoformat()
    revision = next_revision(locations.revisions, suite, described, newest=locations.revision, today=today)
    write_whole(locations.revisions / f"{revision.revision}.json", written(revision))
    checks = sum(len(frozen.checks) for frozen in revision.scenarios.values())
    return f"revision {revision.revision} released: {len(revision.scenarios)} scenarios, {checks} checks"


def verify(locations: Locations) -> tuple[list[str], str]:
    """Return what is no longer as it was released, one sentence each, and what there is, in a sentence.

    Raises ParityError `revisions-malformed` and what `open_suite` raises.
    """
    suite, described = open_suite(locations), load_timeline(locations.timeline).described
    released = read_revisions(locations.revisions, newest=locations.revision)
    number = locations.revision
    later = sum(
        any(asked not in released.checks.get(name, {}) for asked in asked_checks(scenario))
        for name, scenario in suite.scenarios.items()
    )
    has = f"revision {number}: {len(released.stimuli)} scenarios" if number else "nothing is released yet"
    return moved(released, suite, described), f"{has}; {later} scenarios have something later"
