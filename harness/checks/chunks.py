"""How data is cut into requests: where, nothing empty, nothing over the limit, nothing lost or doubled."""

from __future__ import annotations

import numpy as np

from harness.checks.alignment import PASSES, Group, Pair, align, custom_calls, identity, name_of
from harness.checks.causes import Found, certain
from harness.checks.diagnosis import why_sizes
from harness.checks.estimates import Limits, limits_of, size_of, why_limit
from harness.checks.outcome import count, failed, listed, nothing, passed, runs
from harness.checks.verdict import Case, Check, Verdict
from harness.trace.model import Request, Trace


def boundaries(case: Case) -> Verdict:
    """Judge where passes are cut.

    A cut is a place between golden datums, so that a lost or doubled datum moves no cut.
    """
    aligned = align(case)
    looked = 0
    for pair in aligned.pairs:
        reached = int(np.max(pair.golden_of, initial=-1))
        if reached < 0:
            continue
        looked += 1
        wrong = _wrong_cut(pair, reached)
        if wrong is not None:
            at, why = wrong
            group = _group_of(aligned.groups, pair, at)
            golden, seen = _sizes(group.golden), _sizes(group.observed)
            cause = _why_passes(aligned.groups, group) or why_limit(case, group) or why_sizes(golden, seen)
            return failed(
                f"{group.name} {why}",
                expected=runs(golden),
                observed=runs(seen),
                where=pair.where(at),
                cause=cause,
            )
    if not looked:
        return nothing(_no_data(case))
    return passed("every pass is cut where golden cuts it")


def nonempty(case: Case) -> Verdict:
    """Judge that no pass request is empty."""
    # A body that cannot be decoded says nothing of its data: it is wire.accepted's judgement.
    seen = [request for request in _passes(case.observed) if request.batch is not None]
    if not seen:
        return nothing(_no_data(case))
    empty = [request for request in seen if request.batch is None or not request.batch.datums]
    if empty:
        return failed(
            f"{count(len(empty), 'request')} without data",
            expected="at least one datum in every request",
            observed=listed(name_of(r) for r in empty),
            where=name_of(empty[0]),
            cause=certain("chunk-empty", "a cut before the first datum" if empty[0] is seen[0] else ""),
        )
    return passed(f"{count(len(seen), 'request')}, none empty")


def limits(case: Case) -> Verdict:
    """Judge that no request is over the contract's limits; one datum alone may be."""
    limit = limits_of(case)
    looked = 0
    for request in _limited(case):
        datums = request.batch.datums if request.batch else ()
        looked += 1
        if len(datums) > limit.count:
            return failed(
                "more datums in a request than the limit",
                expected=f"at most {limit.count}",
                observed=len(datums),
                where=name_of(request),
            )
        if len(datums) > 1:
            size = sum(size_of(datum, limit.estimate) for datum in datums)
            if size > limit.bytes:
                return failed(
                    "more estimated bytes in a request than the limit",
                    expected=f"at most {limit.bytes}",
                    observed=f"{size} in {len(datums)} datums",
                    where=name_of(request),
                )
    if not looked:
        return nothing(_no_data(case))
    return passed(f"{count(looked, 'request')}, {_bounds(limit)}")


def complete(case: Case) -> Verdict:
    """Judge that each datum is sent exactly once, and in order within its request."""
    aligned = align(case)
    if not any(len(pair.golden.datums) for pair in aligned.pairs):
        return nothing("golden sends no data")
    if not case.observed.control and not case.observed.requests:
        return nothing("no request was seen")
    for pair in aligned.pairs:
        lost = np.flatnonzero(pair.observed_of < 0)
        if lost.size:
            return failed(
                f"{count(lost.size, 'datum')} of {pair.effect} never sent",
                expected=f"{len(pair.golden.datums)} datums",
                observed=f"{len(pair.observed.datums)} datums",
                where=pair.where(int(lost[0])),
                cause=certain("not-sent"),
            )
        extra = np.flatnonzero(pair.golden_of < 0)
        if extra.size:
            request = pair.observed.requests[int(pair.observed.request_of[extra[0]])]
            return failed(
                f"{count(extra.size, 'datum')} of {pair.effect} more than golden sends",
                expected=f"{len(pair.golden.datums)} datums",
                observed=f"{len(pair.observed.datums)} datums",
                where=name_of(request),
                cause=certain("sent-twice" if _known(pair, int(extra[0])) else "sent-besides"),
            )
        # Across requests the order is that of their ids, which is order.seq's judgement.
        same = pair.observed.request_of[1:] == pair.observed.request_of[:-1]
        back = np.flatnonzero(same & (np.diff(pair.golden_of) < 0))
        if back.size:
            return failed(
                f"the datums of a {pair.effect} request are in another order",
                expected="the caller's order",
                observed=f"datum {pair.golden_of[back[0]]} before datum {pair.golden_of[back[0] + 1]}",
                where=pair.where(int(pair.golden_of[back[0]])),
                cause=certain("reordered"),
            )
    total = sum(len(pair.golden.datums) for pair in aligned.pairs)
    return passed(f"{count(total, 'datum')}, each sent once")


def _why_passes(groups: tuple[Group, ...], backward: Group) -> Found | None:
    """Tell a backward pass that has the forward pass's cuts where golden's has not, or the other way round."""
    if backward.effect != "forward_backward":
        return None
    forward = next((g for g in groups if g.call == backward.call and g.effect == "forward"), None)
    if forward is None:
        return None
    (golden, seen), ahead = (_sizes(backward.golden), _sizes(backward.observed)), _sizes(forward.observed)
    if seen == ahead != golden and ahead == _sizes(forward.golden):
        return certain("forward-cut-kept")
    if golden == _sizes(forward.golden) == ahead != seen:
        return certain("backward-cut-anew")
    return None


def _known(pair: Pair, observed: int) -> bool:
    wanted = identity(pair.observed.datums[observed])
    return any(identity(datum) == wanted for datum in pair.golden.datums)


def _wrong_cut(pair: Pair, reached: int) -> tuple[int, str] | None:
    """Return the first golden datum with a wrong cut before it, and what is wrong.

    Between two neighbouring observed requests the cut lies somewhere after the last datum of one and not after the
    first of the next: it is right when golden cuts there.
    """
    golden = np.zeros(len(pair.golden.datums) + 1, dtype=bool)
    golden[pair.golden.starts[pair.golden.starts < len(golden)]] = True
    aligned = np.flatnonzero(pair.golden_of >= 0)
    ordinals = pair.golden_of[aligned]
    requests = pair.observed.request_of[aligned]
    allowed = np.zeros(len(golden), dtype=bool)
    found: list[tuple[int, str]] = []
    for at in np.flatnonzero(np.diff(requests)) + 1:
        before, after = int(ordinals[at - 1]), int(ordinals[at])
        low, high = min(before, after) + 1, max(before, after)
        allowed[low : high + 1] = True
        if before < after and not golden[low : high + 1].any():
            found.append((after, "is cut where golden does not cut"))
    inside = np.flatnonzero(golden[: reached + 1] & ~allowed[: reached + 1])
    first = int(ordinals.min())
    found.extend((int(i), "is not cut where golden cuts") for i in inside[:2] if i > first)
    return min(found, default=None)


def _group_of(groups: tuple[Group, ...], pair: Pair, ordinal: int) -> Group:
    request = pair.golden.requests[int(pair.golden.request_of[ordinal])]
    return next(group for group in groups if request in group.golden)


def _sizes(requests: tuple[Request, ...]) -> list[int]:
    return [len(r.batch.datums) for r in requests if r.batch is not None and r.batch.datums]


def _passes(trace: Trace) -> list[Request]:
    return [r for r in trace.requests if r.effect in PASSES]


def _limited(case: Case) -> list[Request]:
    """Return the requests the limits hold for.

    Where the backward pass keeps the forward pass's cuts, its own size decides nothing.
    """
    kept = case.contract.sending.backward_cut == "forward"
    aligned = align(case)
    customs = custom_calls(case.golden)
    wanted = []
    for request in _passes(case.observed):
        at = aligned.label_of.get(request)
        backward = request.effect == "forward_backward" and at is not None and aligned.groups[at].call in customs
        if not (kept and backward):
            wanted.append(request)
    return wanted


def _no_data(case: Case) -> str:
    if not _passes(case.golden):
        return "golden sends no data"
    return "no request with data was seen"


def _bounds(limit: Limits) -> str:
    return f"none over {limit.count} datums or {limit.bytes} estimated bytes"


CHECKS = (
    Check("chunks.boundaries", "Each pass of each call is cut where golden cuts it.", boundaries),
    Check("chunks.nonempty", "No forward or forward_backward is sent without data.", nonempty),
    Check("chunks.limits", "No request is over the contract's limits of datums and estimated bytes.", limits),
    Check("chunks.complete", "Each datum is sent exactly once, in order within its request.", complete),
)
