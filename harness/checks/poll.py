"""Asking for results: how often after which answers, and how fast."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from harness.checks.causes import certain, likely
from harness.checks.envelopes import of_polls, seconds_between, timeless, too_many
from harness.checks.outcome import count, failed, nothing, passed, runs
from harness.checks.resends import Beside, answers, beside, unfinished
from harness.checks.verdict import Case, Check, Verdict
from mock_server.faults.script import Withhold

_HELD_TOO_LONG = "408"


def attempts(case: Case) -> Verdict:
    """Judge after which answers, and how often, a result is asked for again."""
    looked = 0
    overlaps = {id(pair.golden) for _, pair in _kept_back(case)}
    for pair in beside(case):
        if id(pair.golden) in overlaps:
            # Whether such a result comes depends on who asks for the others: that is poll.overlap's.
            continue
        wanted, seen = unfinished(pair.golden.polls), unfinished(pair.observed.polls)
        if not wanted and not seen:
            continue
        looked += bool(wanted)
        if wanted != seen:
            return failed(
                f"the result of {pair.name} is asked for otherwise",
                expected=f"{count(len(wanted), 'answer')} without it: {runs(wanted)}",
                observed=f"{count(len(seen), 'answer')} without it: {runs(seen)}",
                where=pair.name,
                cause=certain("gives-up-early" if len(seen) < len(wanted) else "sent-too-often"),
            )
    if not looked:
        return nothing("golden's polls are all answered by a result")
    return passed(f"{count(looked, 'result')} asked for as often as in golden")


def rate(case: Case) -> Verdict:
    """Judge how fast polls follow each other: the contract's backoff, and its most per second."""
    polling = case.contract.polling
    broken = case.contract.retry.empty_bad_requests > 0
    looked = 0
    for pair in beside(case):
        polls = pair.observed.polls
        if not unfinished(pair.golden.polls) or not (len(polls) > 1 or timeless(polls)):
            continue
        looked += 1
        if timeless(polls):
            continue
        hurried = too_many(polling, polls)
        if hurried:
            return failed(
                f"the result of {pair.name} is asked for in a tight loop",
                expected=f"at most {polling.most_per_second} polls in a second",
                observed=f"{hurried} polls in a second",
                where=pair.name,
                cause=certain("polls-in-a-loop"),
            )
        envelopes = of_polls(polling, polls, empty_is_broken=broken)
        for number, (envelope, (one, other)) in enumerate(zip(envelopes, pairwise(polls), strict=True), start=2):
            waited = seconds_between(one, other)
            if not envelope.holds(waited):
                early = envelope.early(waited)
                return failed(
                    f"poll {number} of {pair.name} comes too {'early' if early else 'late'}",
                    expected=str(envelope),
                    observed=f"{waited:.3f} s after {one.answer}",
                    where=f"{pair.name}, poll {number}",
                    cause=certain("waits-too-short" if early else "waits-too-long"),
                )
    if not looked:
        return nothing("no result was asked for twice")
    return passed(f"polls of {count(looked, 'result')} as fast as the contract says")


def overlap(case: Case) -> Verdict:
    """Judge that results are asked for beside each other: one that is kept back until another came does come."""
    looked = 0
    for told, pair in _kept_back(case):
        looked += 1
        if _HELD_TOO_LONG in answers(pair.observed.polls):
            return failed(
                f"nobody asked for the result of seq {told.until} while that of {pair.name} was kept back",
                expected=f"the result of seq {told.until} comes first",
                observed=f"it did not come within {told.seconds:g} s",
                where=pair.name,
                cause=likely("polled-in-turn", f"seq {told.until} after seq {told.seq_id}"),
            )
    if not looked:
        return nothing("golden's server keeps no result back, or its request was not seen")
    return passed(f"{count(looked, 'result')} kept back, and others fetched meanwhile")


def _kept_back(case: Case) -> Iterator[tuple[Withhold, Beside]]:
    """Return the requests whose results the server keeps back, in golden until another result was delivered."""
    for told, met in zip(case.script.faults, case.golden.faults, strict=False):
        if not isinstance(told, Withhold) or not met.played:
            continue
        model = f"model-{told.model}" if told.model else None
        for pair in beside(case):
            right = pair.golden.seq_id == told.seq_id and model in (None, pair.golden.model)
            if right and _HELD_TOO_LONG not in answers(pair.golden.polls):
                yield told, pair


CHECKS = (
    Check("poll.attempts", "Results are asked for again after golden's answers, as often as in golden.", attempts),
    Check("poll.overlap", "A result that is late keeps no other from being asked for.", overlap),
    Check("poll.rate", "Polls follow each other within the contract's delays, and not in a tight loop.", rate),
)
