"""The head of the page in words."""

from __future__ import annotations

from collections.abc import Iterator

from harness.reports.standing import counted, standings_of
from harness.reports.state_page import TENSORS
from harness.reports.tally import HELD, Tally, fails
from harness.reports.text import count


def verdict(tally: Tally) -> str:
    """Return one sentence on how the run ended."""
    if tally.interrupted:
        return "Interrupted: not everything was judged"
    if tally.exit_status == HELD:
        known = tally.totals["known"]
        return f"Everything held, {count(known, 'check')} as the ledger lists" if known else "Everything held"
    bad = [result for result in tally.results if fails(result)]
    if bad:
        scenarios = {result.scenario for result in bad}
        return f"{count(len(bad), 'check')} in {count(len(scenarios), 'scenario')} diverged"
    if tally.unused:
        return "Every check held, but the ledger lists what excuses nothing any more"
    return "Nothing held: no check could be judged"


def facts(tally: Tally) -> Iterator[str]:
    """Return what was driven, when, and what was left out: short phrases.

    The time that judging a recording took says nothing about the run, so that a page of it is always the same.
    """
    if tally.subject:
        yield tally.subject.runtime
        libraries = tally.subject.libraries  # the JSON report has them all
        yield from (f"{name} {libraries[name]}" for name in TENSORS if name in libraries)
    scenarios = {result.scenario for result in tally.results}
    yield f"{count(len(scenarios), 'scenario')}, {count(len(tally.results), 'check')}"
    if tally.recording:
        yield f"recorded on {tally.recording.taken} by parity {tally.recording.parity}"
        if tally.recording.stale:
            yield f"{count(len(tally.recording.stale), 'recorded scenario')} changed since, not judged"
        if tally.recording.unplanned:
            yield f"{count(len(tally.recording.unplanned), 'scenario')} not recorded"
    elif tally.finished and tally.finished.seconds:
        yield f"{tally.finished.seconds:.1f} s"
    if tally.baseline:
        yield f"against {tally.baseline.version}: {counted(standings_of(tally))}"
    if tally.started and tally.started.slow:
        yield f"{count(len({check.scenario for check in tally.started.slow}), 'slow scenario')} left out"
