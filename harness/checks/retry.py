"""Requests that are sent again: how often, when, with what, and to what effect.

What was answered is the same on both sides, because the server's script says it; how often a request was sent is the
client's.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from harness.checks.causes import certain, likely
from harness.checks.envelopes import of_attempts, seconds_between, timeless
from harness.checks.outcome import count, failed, nothing, passed, runs
from harness.checks.resends import Beside, answers, beside, effects, sent_again
from harness.checks.verdict import Case, Check, Verdict

_NONE = "golden sends no request again"


def attempts(case: Case) -> Verdict:
    """Judge how often each request is sent, and that it is sent again after golden's answers only."""
    looked = 0
    for pair in beside(case):
        if not pair.golden.attempts and not pair.observed.attempts:
            continue
        looked += bool(pair.golden.attempts)
        wanted, seen = answers(pair.golden.attempts), answers(pair.observed.attempts)
        if wanted != seen:
            # The answer that golden ends with, where the subject goes on; the one it ends with, where golden goes on.
            last = seen[min(len(wanted), len(seen)) - 1]
            return failed(
                f"{pair.name} is sent {count(len(seen), 'time')}",
                expected=f"{count(len(wanted), 'attempt')}: {runs(wanted)}",
                observed=f"{count(len(seen), 'attempt')}: {runs(seen)}",
                where=pair.name,
                cause=certain("gives-up-early" if len(seen) < len(wanted) else "sent-too-often", f"after {last}"),
            )
    if not looked:
        return nothing("golden answers every request at once")
    return passed(f"{count(looked, 'request')} sent as often as in golden")


def gaps(case: Case) -> Verdict:
    """Judge how long each attempt was waited for, against the contract's envelope."""
    looked = 0
    for pair in _again(case):
        made = pair.observed.attempts
        if timeless(made):
            looked += 1
            continue
        envelopes = of_attempts(case.contract.retry, pair.observed.route, made)
        for number, (envelope, (one, other)) in enumerate(zip(envelopes, pairwise(made), strict=True), start=2):
            looked += 1
            waited = seconds_between(one, other)
            if not envelope.holds(waited):
                early = envelope.early(waited)
                return failed(
                    f"attempt {number} of {pair.name} comes too {'early' if early else 'late'}",
                    expected=str(envelope),
                    observed=f"{waited:.3f} s after {one.answer}",
                    where=f"{pair.name}, attempt {number}",
                    cause=certain("waits-too-short" if early else "waits-too-long"),
                )
    if not looked:
        return nothing(_nothing_again(case))
    return passed(f"{count(looked, 'wait')} within the contract's delays")


def same_request(case: Case) -> Verdict:
    """Judge that what is sent again is the same request: seq_id, body and idempotency key."""
    again = _sent_under_another_id(case)
    if again is not None:
        return again
    looked = 0
    for pair in _again(case):
        looked += 1
        made, wanted = pair.observed.attempts, pair.golden.attempts
        for number, attempt in enumerate(made, start=1):
            if not attempt.same:
                return failed(
                    f"attempt {number} of {pair.name} carries something else",
                    expected="the first attempt's body and data",
                    observed="another body",
                    where=f"{pair.name}, attempt {number}",
                    cause=certain("resend-changed"),
                )
        for number, ((one, other), (left, right)) in enumerate(
            zip(pairwise(made), pairwise(wanted), strict=False), start=2
        ):
            if left.key == right.key and one.key != other.key:
                return failed(
                    f"attempt {number} of {pair.name} has another idempotency key",
                    expected="the key of the attempt before",
                    observed="another key",
                    where=f"{pair.name}, attempt {number}",
                    cause=certain("resend-new-key"),
                )
    if not looked:
        return nothing(_nothing_again(case))
    return passed(f"{count(looked, 'request')} sent again unchanged")


def once(case: Case) -> Verdict:
    """Judge that what was sent again took effect as often as in golden: once."""
    looked = 0
    for name, wanted, seen in effects(case):
        looked += 1
        if wanted != seen:
            return failed(
                f"{name} took effect {count(seen, 'time')}",
                expected=count(wanted, "time"),
                observed=count(seen, "time"),
                where=name,
                cause=certain("effect-twice") if seen > wanted else likely("gives-up-early"),
            )
    if not looked:
        return nothing(_NONE)
    return passed(f"{count(looked, 'request')} took effect as often as in golden")


def _again(case: Case) -> Iterator[Beside]:
    """Return the requests that both sides send again."""
    return (pair for pair in beside(case) if len(pair.golden.attempts) > 1 and len(pair.observed.attempts) > 1)


def _nothing_again(case: Case) -> str:
    wanted = any(len(pair.golden.attempts) > 1 for pair in beside(case))
    return "the subject sends no request again" if wanted else _NONE


def _sent_under_another_id(case: Case) -> Verdict | None:
    for pair, other in sent_again(case):
        return failed(
            f"{pair.name} is sent again under another seq_id",
            expected=f"seq {pair.observed.seq_id}",
            observed=f"seq {other.seq_id}",
            where=pair.name,
            cause=certain("resend-new-id", f"{pair.observed.seq_id}, then {other.seq_id}"),
        )
    return None


CHECKS = (
    Check("retry.attempts", "Each request is sent as often as in golden, after the same answers.", attempts),
    Check("retry.gaps", "Between attempts a client waits within the contract's delays.", gaps),
    Check("retry.same_request", "What is sent again has the same seq_id, body and idempotency key.", same_request),
    Check("retry.once", "What is sent again takes effect as often as in golden: once.", once),
)
