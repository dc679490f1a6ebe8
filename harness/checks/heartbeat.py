"""Heartbeats: what they say, when they come, and what a client does when one fails."""

from __future__ import annotations

from itertools import pairwise

from harness.checks.causes import certain
from harness.checks.outcome import count, failed, nothing, passed
from harness.checks.structure import differences, told
from harness.checks.verdict import Case, Check, Verdict
from harness.trace.lifetime import HEARTBEAT

EARLY, LATE = 0.95, 1.25
"""How far a heartbeat may be off, as parts of the contract's period: the clocks and the delays of a busy machine."""


def body(case: Case) -> Verdict:
    """Judge what heartbeats say."""
    if not case.golden.beats:
        return nothing("golden sends no heartbeat")
    if not case.observed.beats:
        return nothing("no heartbeat was seen")
    wanted = case.golden.beats[0].body
    for number, beat in enumerate(case.observed.beats, start=1):
        found = differences(wanted, beat.body)
        if found:
            expected, observed, path, cause = told(found)
            return failed(
                f"heartbeat {number} has another body",
                expected=expected,
                observed=observed,
                where=f"{HEARTBEAT}, {path}",
                cause=cause,
            )
    return passed(f"{count(len(case.observed.beats), 'heartbeat')} with golden's body")


def period(case: Case) -> Verdict:
    """Judge when heartbeats come, up to the first that fails."""
    lived = case.observed.lived
    if lived is None:
        # A golden trace beside itself: it has no times.
        return passed("as golden") if case.observed.beats else nothing("no session was seen")
    start, until = lived
    early, late = _envelope(case)
    beats = case.observed.beats
    failing = next((number for number, beat in enumerate(beats) if beat.status != 200), None)
    judged = beats if failing is None else beats[: failing + 1]
    moments = [start, *(beat.at_ms for beat in judged)]
    for number, (before, at) in enumerate(pairwise(moments), start=1):
        waited = (at - before) / 1000
        if not early <= waited <= late:
            return _off(case, f"heartbeat {number} comes too {'early' if waited < early else 'late'}", waited, number)
    silent = (until - moments[-1]) / 1000
    if failing is None and silent > late:
        return _off(case, f"heartbeat {len(judged) + 1} does not come", silent, len(judged) + 1)
    if not judged:
        return nothing("the session was too short for a heartbeat")
    return passed(f"{count(len(judged), 'heartbeat')} in the contract's time")


def failure(case: Case) -> Verdict:
    """Judge what follows a heartbeat that failed: the next in its time, or none where the contract ends them."""
    lived, beats = case.observed.lived, case.observed.beats
    first = next((number for number, beat in enumerate(beats) if beat.status != 200), None)
    if first is not None and lived is None:
        return passed("as golden")
    if first is None or lived is None:
        return nothing("every heartbeat was accepted" if beats else "no heartbeat was seen")
    early, late = _envelope(case)
    failed_beat, following = beats[first], beats[first + 1 :]
    left = (lived[1] - failed_beat.at_ms) / 1000
    status = failed_beat.status if failed_beat.status is not None else "a broken connection"
    if not following and left <= late:
        return nothing("the session ended too early after the failure")
    if failed_beat.status in case.contract.session.heartbeat_stops_at:
        if following:
            return failed(
                f"heartbeats go on after {status}",
                expected="none",
                observed=f"another after {(following[0].at_ms - failed_beat.at_ms) / 1000:.1f} s",
                where=f"{HEARTBEAT} {first + 2}",
                cause=certain("beats-go-on"),
            )
        return passed(f"heartbeats end after {status}")
    waited = (following[0].at_ms - failed_beat.at_ms) / 1000 if following else None
    if waited is None or not early <= waited <= late:
        return failed(
            f"after {status} the next heartbeat does not come in its time",
            expected=f"another after {early:.1f} to {late:.1f} s",
            observed=f"none for {left:.1f} s" if waited is None else f"after {waited:.1f} s",
            where=f"{HEARTBEAT} {first + 2}",
            cause=certain("beats-end" if waited is None else "waits-too-short" if waited < early else "waits-too-long"),
        )
    return passed(f"heartbeats go on after {status}")


def _envelope(case: Case) -> tuple[float, float]:
    seconds = case.contract.session.heartbeat_seconds
    return EARLY * seconds, LATE * seconds


def _off(case: Case, what: str, waited: float, number: int) -> Verdict:
    early, late = _envelope(case)
    return failed(
        what,
        expected=f"one after {early:.1f} to {late:.1f} s",
        observed=f"{waited:.1f} s",
        where=f"{HEARTBEAT} {number}",
        cause=certain("waits-too-short" if waited < early else "waits-too-long"),
    )


CHECKS = (
    Check("heartbeat.body", "Heartbeats carry golden's body.", body),
    Check("heartbeat.period", "A session is kept alive in the contract's time, from its creation on.", period),
    Check("heartbeat.failure", "After a heartbeat that failed the next comes in its time, or none does.", failure),
)
