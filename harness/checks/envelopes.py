"""How long a client waits before the next attempt, as an envelope: the contract's least and most, never one time.

Written from the contract's numbers a second time, apart from the reference. The most is generous: a delay that is due
can be late on a machine that is busy with other things, it cannot be early.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from harness.contracts.model import Polling, Retry, means
from harness.trace.attempts import BROKEN, DARK, EMPTY_BAD_REQUEST
from harness.trace.model import Attempt

EARLY = 0.9
EARLY_SECONDS = 0.02
"""A timer may fire a little early, and clocks are read at both ends."""
LATE = 1.5
LATE_SECONDS = 2.0
DATE_SECONDS = 1.0
"""What an HTTP date leaves out: its seconds are whole."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """Seconds between an answer and the next attempt: what the contract says, and what is still accepted."""

    least: float
    most: float

    def holds(self, seconds: float) -> bool:
        """Return whether that many seconds are neither too few nor too many."""
        return not self.early(seconds) and seconds <= self.most * LATE + LATE_SECONDS

    def early(self, seconds: float) -> bool:
        """Return whether that many seconds are too few."""
        return seconds < self.least * EARLY - EARLY_SECONDS

    def then(self, other: Envelope) -> Envelope:
        """Return the envelope of a wait after which an attempt may have gone unseen: then the other one was waited."""
        return Envelope(self.least, self.most + other.most)

    def __str__(self) -> str:
        """Return the contract's side: `0.375 to 0.5 s`."""
        if self.least == self.most:
            return f"{self.least:g} s"
        return f"{self.least:g} to {self.most:g} s" if self.least else f"at most {self.most:g} s"


def of_attempts(retry: Retry, route: str, attempts: Sequence[Attempt]) -> Iterator[Envelope]:
    """Return the envelope of the wait after each attempt but the last."""
    most = retry.attempts_of.get(route, retry.attempts)
    taken = rounds = 0
    for attempt in attempts[:-1]:
        if taken + 1 < most and _tried_again(retry, attempt):
            waited = _inside(retry, taken, attempt)
            taken += 1
            earliest, dark = waited.least, _dark(attempt)
            while earliest <= dark and taken + 1 < most:
                unseen = _inside(retry, taken, attempt)
                taken += 1
                earliest, waited = earliest + unseen.least, waited.then(unseen)
            yield waited
        else:
            pause = _doubled(retry.again.first_delay, rounds, retry.again.longest_delay)
            yield Envelope(0.0 if rounds > 8 else pause, pause)  # near the end of its time a round begins earlier
            rounds += 1
            taken = 0


def of_polls(polling: Polling, polls: Sequence[Attempt], *, empty_is_broken: bool) -> Iterator[Envelope]:
    """Return the envelope of the wait after each poll but the last."""
    waits = 0
    for poll in polls[:-1]:
        if poll.answer in (BROKEN, "429") or (poll.answer == EMPTY_BAD_REQUEST and empty_is_broken):
            pause = _doubled(polling.first_delay, waits, polling.longest_delay)
            waits += 1
            waited, earliest, dark = Envelope(pause, pause), pause, _dark(poll)
            while earliest <= dark:
                pause = _doubled(polling.first_delay, waits, polling.longest_delay)
                waits += 1
                earliest, waited = earliest + pause, waited.then(Envelope(pause, pause))
            yield waited
        else:
            waits = 0
            yield Envelope(0.0, polling.again_within)


def too_many(polling: Polling, polls: Sequence[Attempt]) -> int:
    """Return the most polls that arrived within one second, where they are more than the contract's; else 0."""
    worst = first = 0
    for last, poll in enumerate(polls):
        while poll.at_ms - polls[first].at_ms > 1000.0:
            first += 1
        worst = max(worst, last - first + 1)
    return worst if worst > polling.most_per_second else 0


def timeless(attempts: Sequence[Attempt]) -> bool:
    """Return whether these are a golden trace's, which has no times: delays are due after them, none are in them."""
    return any(attempt.at_ms < 0 for attempt in attempts)


def seconds_between(one: Attempt, other: Attempt) -> float:
    """Return how long after the first attempt's answer the other one arrived."""
    return (other.at_ms - one.answered_ms) / 1000.0


def _dark(attempt: Attempt) -> float:
    """Return for how many seconds nobody answered, so that attempts went unseen; -1 where somebody did."""
    return float(attempt.asks.get(DARK, -1.0))


def _tried_again(retry: Retry, attempt: Attempt) -> bool:
    asked = attempt.asks.get(retry.should_retry, "")
    if asked in ("true", "false"):
        return asked == "true"
    return attempt.answer == BROKEN or (attempt.answer.isdigit() and means(retry.statuses, int(attempt.answer)))


def _inside(retry: Retry, taken: int, attempt: Attempt) -> Envelope:
    for name in retry.retry_after:
        text = attempt.asks.get(name, "")
        if text.startswith("date+"):
            seconds = float(text.removeprefix("date+"))
            return Envelope(max(seconds - DATE_SECONDS, 0.0), seconds)
        try:
            seconds = float(text) / (1000 if name.endswith("-ms") else 1)
        except ValueError:
            continue
        if 0 < seconds <= retry.longest_retry_after:
            return Envelope(seconds, seconds)
        break
    delay = _doubled(retry.first_delay, taken, retry.longest_delay)
    return Envelope(delay * (1 - retry.jitter), delay)


def _doubled(first: float, times: int, longest: float) -> float:
    delay = first
    for _ in range(times):
        delay = min(delay * 2, longest)
    return delay
