"""Golden requests beside the observed ones, one by one, with their attempts and polls."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from harness.checks.alignment import align, identity
from harness.checks.verdict import Case
from harness.trace.model import Attempt, Request

GOOD = "200"


@dataclass(frozen=True, slots=True, eq=False)
class Beside:
    """A golden request, the observed one beside it, and golden's name for them."""

    golden: Request
    observed: Request
    name: str


def beside(case: Case) -> Iterator[Beside]:
    """Return the pairs of requests: of control by route, of calls by the order of their ids in the same phase."""
    waiting: dict[str, list[Request]] = defaultdict(list)
    for request in case.observed.control:
        waiting[request.route].append(request)
    for request in case.golden.control:
        if waiting[request.route]:
            yield Beside(request, waiting[request.route].pop(0), request.route)
    for group in align(case).groups:
        seen = sorted(group.observed, key=lambda r: (r.seq_id is None, r.seq_id or 0, r.arrival))
        for number, (golden, observed) in enumerate(zip(group.golden, seen, strict=False), start=1):
            chunk = f", chunk {number}" if len(group.golden) > 1 else ""
            yield Beside(golden, observed, f"{group.name}{chunk}")


def answers(attempts: Sequence[Attempt]) -> list[str]:
    """Return what attempts were answered; a request without any was sent once and succeeded."""
    return [attempt.answer for attempt in attempts] or [GOOD]


def unfinished(polls: Sequence[Attempt]) -> list[str]:
    """Return the answers to polls up to the last that was no result.

    Whether the one that brings the result comes before the run ends depends on who waits for it.
    """
    told = [poll.answer for poll in polls]
    while told and told[-1] == GOOD:
        told.pop()
    return told


def effective(request: Request) -> bool:
    """Return whether the server took a request: it has an effect, at once or when its turn comes."""
    return not request.attempts or any(attempt.took for attempt in request.attempts)


def effects(case: Case) -> Iterator[tuple[str, int, int]]:
    """Return, per golden request that was sent again: its name, and how often it took effect in golden and observed.

    A request is counted by the data it carries, and by model and effect where it carries none.
    """
    for pair in beside(case):
        if len(pair.golden.attempts) < 2:
            continue
        wanted = sum(effective(r) for r in _alike(case.golden.requests, pair.golden))
        yield pair.name, wanted, sum(effective(r) for r in _alike(case.observed.requests, pair.golden))


def sent_again(case: Case) -> Iterator[tuple[Beside, Request]]:
    """Return the requests that golden sends again, with the one that repeats them under another seq_id."""
    for pair in beside(case):
        missing = len(pair.golden.attempts) - len(pair.observed.attempts or (None,))
        if len(pair.golden.attempts) < 2 or missing <= 0:
            continue
        for other in align(case).extra:
            if other.seq_id != pair.observed.seq_id and _is_alike(other, pair.golden):
                yield pair, other
                break


def _alike(requests: Sequence[Request], wanted: Request) -> list[Request]:
    return [request for request in requests if _is_alike(request, wanted)]


def _is_alike(request: Request, wanted: Request) -> bool:
    if (request.model, request.effect) != (wanted.model, wanted.effect):
        return False
    if wanted.batch is None or not wanted.batch.datums:
        return True
    first = identity(wanted.batch.datums[0])
    return request.batch is not None and any(identity(datum) == first for datum in request.batch.datums)
