"""Sequence numbers and arrival. Each check looks at one property, so that one wrong thing has one name.

`order.seq`: where ids start, who carries one, and that they rise with the data. `order.unique`: no id twice.
`order.gapless`: no id left out. `order.phases`: which operation follows which. `order.arrival`: when requests are sent.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise

import numpy as np

from harness.checks.alignment import PASSES, Alignment, align, name_of
from harness.checks.causes import certain
from harness.checks.outcome import count, failed, listed, nothing, passed
from harness.checks.verdict import Case, Check, Verdict
from harness.trace.model import Request, Trace


def seq(case: Case) -> Verdict:
    """Judge where ids start, who carries one, and that the ids of a pass rise with its data."""
    aligned = align(case)
    golden, seen = _by_model(case.golden), _by_model(case.observed)
    failing = any(step.status == "error" for step in case.golden.steps)
    looked = 0
    for group in aligned.groups:
        for request in group.observed:
            looked += 1
            wanted = group.golden[0].seq_id is not None
            if (request.seq_id is not None) is not wanted:
                return failed(
                    f"{group.name} carries {'no seq_id' if wanted else 'a seq_id'}",
                    expected="a seq_id" if wanted else "no seq_id",
                    observed=request.seq_id,
                    where=name_of(group.golden[0]),
                    cause=certain("id-missing" if wanted else "id-added"),
                )
    for model in sorted(golden.keys() & seen.keys()):
        looked += 1
        first, start = min(golden[model])[0], min(seen[model])[0]
        if start < first and failing and min(seen[model])[2] in aligned.extra:
            return failed(
                f"seq_id {start} is sent, which golden never sends after its failure",
                expected=f"no request below seq_id {first}",
                observed=name_of(min(seen[model])[2]),
                where=model,
                cause=certain("sent-after-failure", f"seq_id {start}"),
            )
        if first != start:
            return failed(
                "the ids of a model start elsewhere",
                expected=first,
                observed=start,
                where=model,
                cause=certain("ids-start-elsewhere", f"at {start}"),
            )
    for pair in aligned.pairs:
        at = np.flatnonzero(pair.golden_of >= 0)
        ordinals, requests = pair.golden_of[at], pair.observed.request_of[at]
        for back in np.flatnonzero((np.diff(ordinals) < 0) & (np.diff(requests) > 0)):
            before, after = (pair.observed.requests[int(requests[back + step])] for step in (0, 1))
            if aligned.label_of.get(before) == aligned.label_of.get(after):
                return failed(
                    "the ids of a call's chunks do not rise with its data",
                    expected=f"datum {ordinals[back + 1]} under a lower id than datum {ordinals[back]}",
                    observed=f"datum {ordinals[back]} under {before.seq_id}, datum {ordinals[back + 1]} "
                    f"under {after.seq_id}",
                    where=pair.where(int(ordinals[back + 1])),
                    cause=certain("ids-not-rising"),
                )
    if not looked:
        return nothing(_no_ids(case))
    return passed("ids start as in golden and rise with the data")


def unique(case: Case) -> Verdict:
    """Judge that no id is used for two bodies."""
    seen = _by_model(case.observed)
    if not seen:
        return nothing(_no_ids(case))
    for model, entries in sorted(seen.items()):
        for (one, _, first), (other, _, second) in pairwise(entries):
            if one == other:
                return failed(
                    f"seq_id {one} is used for two requests",
                    expected="an id for each request",
                    observed=f"{first.effect} and {second.effect}",
                    where=f"{model}, seq {one}",
                    cause=certain("id-reused", f"seq_id {one}"),
                )
    reused = [v for v in case.observed.violations if v.code == "seq-reused"]
    if reused:
        return failed(
            reused[0].message,
            expected="an id for each request",
            where=f"request {reused[0].request}",
            cause=certain("id-reused"),
        )
    return passed("no id is used twice")


def gapless(case: Case) -> Verdict:
    """Judge that no id is left out between a model's lowest and highest."""
    seen = _by_model(case.observed)
    if not seen:
        return nothing(_no_ids(case))
    for model, entries in sorted(seen.items()):
        ids = {entry[0] for entry in entries}
        missing = sorted(set(range(min(ids), max(ids) + 1)) - ids)
        if missing:
            after = next(request for number, _, request in entries if number > missing[0])
            return failed(
                f"{count(len(missing), 'id')} never used",
                expected=f"every id from {min(ids)} to {max(ids)}",
                observed=f"missing {listed(missing)}",
                where=f"{model}, before {after.effect} seq {after.seq_id}",
                cause=certain("id-skipped", f"missing {listed(missing)}"),
            )
    return passed("no id is left out")


def phases(case: Case) -> Verdict:
    """Judge the sequence of operations, by id."""
    aligned = align(case)
    if not case.golden.requests:
        return nothing("golden has no operation")
    if not case.observed.requests:
        return nothing("no operation was seen")
    # What a failure leaves unsent, or sent, is error.sent's judgement.
    failing = any(step.status == "error" for step in case.golden.steps)
    for group in aligned.groups:
        if not failing and group.effect not in PASSES and len(group.observed) < len(group.golden):
            return failed(
                f"{group.name} is not sent",
                expected=_story([group.name for group in aligned.groups]),
                observed=_story([g.name for g in aligned.groups if g.observed]),
                where=name_of(group.golden[0]),
                cause=certain("not-sent"),
            )
    for request in aligned.extra:
        if not failing and request.effect not in PASSES:
            return failed(
                f"{request.effect} is sent and golden sends none here",
                expected=_story([group.name for group in aligned.groups]),
                observed=name_of(request),
                where=name_of(request),
                cause=certain(
                    "sent-twice" if any(g.effect == request.effect for g in aligned.groups) else "sent-besides"
                ),
            )
    for model in sorted(_by_model(case.observed)):
        wanted, seen = _sequences(case, aligned, model)
        if seen != wanted:
            place = _parting(wanted, seen)
            early = overtaking(case, model)
            return failed(
                "operations take effect in another order",
                expected=_story([aligned.groups[i].name for i in wanted]),
                observed=_story([aligned.groups[i].name for i in seen]),
                where=f"{model}, {aligned.groups[seen[place]].name}",
                cause=certain("overtaken", early) if early else None,
            )
    return passed("operations take effect in golden's order")


def arrival(case: Case) -> Verdict:
    """Judge when requests are sent, as far as the contract fixes it."""
    aligned = align(case)
    order = case.contract.sending.order
    if case.script.client_config.get("parallel_fwdbwd_chunks") is False:
        order = "serial"
    looked = 0
    for model, entries in sorted(_by_model(case.observed).items()):
        requests = [request for _, _, request in entries]
        by_arrival = sorted(requests, key=lambda r: r.arrival)
        rank = {request: number for number, request in enumerate(by_arrival)}
        looked += len(requests)
        earlier = 0
        for members, name in _turns(aligned, requests):
            verdict = _turn(members, name, model, rank, earlier, order)
            if verdict is not None:
                return verdict
            earlier += len(members)
    if not looked:
        return nothing(_no_ids(case))
    return passed(f"{count(looked, 'request')}, each sent in its turn")


def _turn(
    members: list[Request], name: str, model: str, rank: dict[Request, int], earlier: int, order: str
) -> Verdict | None:
    """Judge the requests of one pass (or one operation); `members` are in the order of their data."""
    first_sent = min(members, key=lambda r: rank[r])
    if rank[first_sent] < earlier or first_sent.sent_after < rank[first_sent]:
        early = rank[first_sent] < earlier
        return failed(
            f"{name} is sent before earlier operations {'were sent' if early else 'were answered'}",
            expected=f"after {earlier} requests were answered",
            observed=f"{rank[first_sent]} sent, {first_sent.sent_after} answered",
            where=f"{model}, {name_of(first_sent)}",
            cause=certain("not-awaited", f"{name} does not wait for its turn"),
        )
    late = [r for r in members if rank[r] >= earlier + len(members)]
    if late:
        return failed(
            f"{name} is sent after later operations",
            expected=f"among the first {earlier + len(members)} requests",
            observed=f"as request {rank[late[0]] + 1}",
            where=f"{model}, {name_of(late[0])}",
            cause=certain("overtaken", f"{name} is sent too late"),
        )
    if order == "serial":
        waiting = [r for r in members if r.sent_after < rank[r]]
        for before, after in pairwise(members):
            if rank[after] < rank[before] or after.sent_after < rank[after]:
                # Chunks in flight together arrive in any order: their order is not what is wrong.
                together = min(waiting, key=lambda r: rank[r]) if waiting else None
                return failed(
                    f"the chunks of {name} are not sent one after the other",
                    expected="each after the one before it was answered",
                    observed=f"chunk {members.index(together) + 1} sent with "
                    f"{rank[together] - together.sent_after} unanswered"
                    if together is not None
                    else f"chunk {members.index(after) + 1} sent before chunk {members.index(before) + 1}",
                    where=f"{model}, {name_of(together or after)}",
                    cause=certain("chunks-in-parallel")
                    if together is not None
                    else certain("reordered", "the first chunk is sent last" if _first_last(members, rank) else ""),
                )
    elif order == "rest_then_first" and len(members) > 1:
        first = members[0]
        others = earlier + len(members) - 1
        if rank[first] < others or first.sent_after < others:
            return failed(
                f"the first chunk of {name} is not sent last",
                expected="after all other chunks were answered",
                observed=f"{rank[first] - earlier} chunks sent before it, {first.sent_after - earlier} answered",
                where=f"{model}, {name_of(first)}",
                cause=certain("chunks-in-turn" if rank[first] == earlier else "chunks-in-parallel"),
            )
    return None


def _first_last(members: list[Request], rank: dict[Request, int]) -> bool:
    return rank[members[0]] == max(rank[member] for member in members)


def _turns(aligned: Alignment, requests: list[Request]) -> list[tuple[list[Request], str]]:
    """Split a model's requests, given by id, into passes and operations, each in the order of its data.

    What stands beside nothing (an empty or a doubled chunk) belongs to the pass it is numbered in, before the data
    that follows it.
    """
    index_of = _with_neighbours(aligned, requests)
    following = end = float("inf")
    key: dict[Request, tuple[float, bool, int]] = {}
    for after, request in pairwise([None, *reversed(requests)]):
        assert request is not None
        if after is not None and index_of.get(after) != index_of.get(request):
            following = end
        following = aligned.place_of.get(request, following)
        key[request] = (following, request in aligned.label_of, request.seq_id or 0)
    turns: list[tuple[list[Request], str]] = []
    previous: int | None = None
    for request in requests:
        index = index_of.get(request)
        if turns and index is not None and index == previous and request.effect in PASSES:
            turns[-1][0].append(request)
        else:
            turns.append(([request], aligned.groups[index].name if index is not None else request.effect))
        previous = index
    return [(sorted(members, key=lambda r: key[r]), name) for members, name in turns]


def _with_neighbours(aligned: Alignment, requests: list[Request]) -> dict[Request, int]:
    """Give each pass request that stands beside nothing the group of its neighbour of the same effect."""
    index_of = {r: aligned.label_of[r] for r in requests if r in aligned.label_of}
    for ordered in (list(reversed(requests)), requests):
        for beside, request in pairwise(ordered):
            if request not in index_of and request.effect in PASSES and request.effect == beside.effect:
                near = index_of.get(beside)
                if near is not None:
                    index_of[request] = near
    return index_of


def _by_model(trace: Trace) -> dict[str, list[tuple[int, int, Request]]]:
    """Return, per model, its requests with an id, by id and then by arrival."""
    models: dict[str, list[tuple[int, int, Request]]] = defaultdict(list)
    for request in trace.requests:
        if request.seq_id is not None:
            models[request.model].append((request.seq_id, request.arrival, request))
    return {model: sorted(entries, key=lambda e: e[:2]) for model, entries in models.items()}


def overtaking(case: Case, model: str) -> str:
    """Return which operation of a model comes too early, by id, and before which; "" when none does."""
    aligned = align(case)
    wanted, seen = _sequences(case, aligned, model)
    place = _parting(wanted, seen)
    if seen == wanted or place >= len(wanted):
        return ""
    return f"{aligned.groups[seen[place]].name} before {aligned.groups[wanted[place]].name}"


def _sequences(case: Case, aligned: Alignment, model: str) -> tuple[list[int], list[int]]:
    """Return the groups of a model in golden's order, those that were not seen left out, and in the observed one."""
    golden, seen = _runs(aligned, case.golden, model), _runs(aligned, case.observed, model)
    return [index for index in golden if index in set(seen)], seen


def _parting(wanted: list[int], seen: list[int]) -> int:
    return next((i for i, (a, b) in enumerate(zip(wanted, seen, strict=False)) if a != b), len(wanted))


def _runs(aligned: Alignment, trace: Trace, model: str) -> list[int]:
    """Return the indices of the groups a model's requests belong to, by id, repeats folded."""
    index_of: dict[Request, int] = dict(aligned.label_of)
    index_of.update({request: i for i, group in enumerate(aligned.groups) for request in group.golden})
    runs: list[int] = []
    for _, _, request in _by_model(trace).get(model, ()):
        index = index_of.get(request)
        if index is not None and (not runs or runs[-1] != index):
            runs.append(index)
    return runs


def _story(names: list[str]) -> str:
    return listed(names, limit=12)


def _no_ids(case: Case) -> str:
    if not _by_model(case.golden):
        return "golden has no request with a seq_id"
    return "no request with a seq_id was seen"


CHECKS = (
    Check("order.seq", "Ids start as in golden, are carried by the same requests, and rise with a call's data.", seq),
    Check("order.unique", "No seq_id is used for two different bodies.", unique),
    Check("order.gapless", "No seq_id is left out.", gapless),
    Check("order.phases", "By id, the operations of a model follow each other as in golden, none missing.", phases),
    Check("order.arrival", "Requests are sent when the contract says: in turn, and chunks as it orders them.", arrival),
)
