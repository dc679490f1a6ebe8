"""How requests look: routes, encodings, bodies, forms, headers, and what no era allows."""

from __future__ import annotations

import re
from collections.abc import Iterable

from harness.checks.alignment import PASSES, Group, align, name_of
from harness.checks.causes import Found, certain
from harness.checks.diagnosis import why_keys
from harness.checks.outcome import count, failed, listed, nothing, passed
from harness.checks.structure import differences, told
from harness.checks.verdict import Case, Check, Verdict
from harness.trace.model import Request, Trace

_OTHERS = ("not-in-trace", "seq-reused")
"""Violations that other checks judge: operations too many, and ids used twice."""


def encoding(case: Case) -> Verdict:
    """Judge route and encoding of passes."""
    golden, seen = _ways(case.golden), _ways(case.observed)
    looked = [effect for effect in PASSES if golden[effect] and seen[effect]]
    if not looked:
        return nothing(_missing_passes(golden, seen))
    for effect in looked:
        if golden[effect] != seen[effect]:
            return failed(
                f"{effect} is not sent as golden sends it",
                expected=listed(sorted(golden[effect])),
                observed=listed(sorted(seen[effect])),
                where=effect,
                cause=_why_way(effect, golden[effect], seen[effect]),
            )
    return passed(f"{' and '.join(looked)}: route and encoding as golden")


_KEY = "x-idempotency-key"
_OWN = "x-sdk-"
"""Headers by which an SDK names itself and its public method. Since 0.38.0; any other header may be a proxy's."""


def bodies(case: Case) -> Verdict:
    """Judge the bodies of requests without data, and the envelopes of passes."""
    looked = 0
    first: tuple[str, str, str, Found | None] | None = None
    differ: dict[str, str] = {}
    for golden, seen in _beside(case):
        looked += 1
        found = differences(golden.body, seen.body)
        if not found:
            continue
        expected, observed, path, cause = told(found)
        first = first or (expected, observed, f"{name_of(golden) if golden.call else golden.route}, {path}", cause)
        differ.setdefault(golden.route, path)
    if first is not None:
        expected, observed, where, cause = first
        places = [f"{route} ({path})" for route, path in differ.items()]
        return failed(
            f"the body of {places[0].partition(' ')[0]} differs"
            if len(places) == 1
            else f"the bodies of {len(places)} routes differ: {listed(places)}",
            expected=expected,
            observed=observed,
            where=where,
            cause=cause,
        )
    if not looked:
        return nothing("no request was seen whose body golden could be held against")
    return passed(f"{count(looked, 'body')} as golden" if looked == 1 else f"{looked} bodies as golden")


def forms(case: Case) -> Verdict:
    """Judge the key sets of chunks, tensors and datums."""
    looked = 0
    for group in _same_way(case):
        golden, seen = _forms(group.golden), _forms(group.observed)
        for kind in sorted(golden.keys() & seen.keys()):
            looked += 1
            if golden[kind] != seen[kind]:
                return failed(
                    f"a {kind} is written with other keys",
                    expected=listed(sorted(golden[kind])),
                    observed=listed(sorted(seen[kind])),
                    where=f"{group.name}, {kind}",
                    cause=why_keys(_split(golden[kind]), _split(seen[kind])),
                )
    if not looked:
        return nothing("no pass with data was seen in golden's encoding")
    return passed("chunks, tensors and datums are written with golden's keys")


def headers(case: Case) -> Verdict:
    """Judge the headers the contract requires, and those that name the SDK and its method where it knows none."""
    required = case.contract.wire.headers
    known = {name.lower() for names in required.values() for name in names}
    ways = {effect: found for effect, found in _ways(case.golden).items() if found}
    looked = 0
    for request in (*case.observed.control, *case.observed.requests):
        wanted = {**required.get("*", {}), **required.get(request.route, {})}
        if request.effect in ways and _way(request) not in ways[request.effect]:
            # The type of the content follows from the encoding, which is wire.encoding's judgement.
            wanted.pop("content-type", None)
        strange = {name for name in request.headers if name.startswith(_OWN)} - known
        if strange:
            return failed(
                f"{request.route} carries a header that the contract does not know",
                expected="(absent)",
                observed=listed(sorted(strange)),
                where=name_of(request),
                cause=certain("header-added", listed(sorted(strange))),
            )
        for name, pattern in sorted(wanted.items()):
            looked += 1
            value = request.headers.get(name.lower())
            if value is None:
                return failed(
                    f"{request.route} lacks the header {name}",
                    expected=pattern or "(present)",
                    observed="(absent)",
                    where=f"{name_of(request)}, {name}",
                    cause=certain("header-missing", name),
                )
            if pattern and not re.fullmatch(pattern, value):
                return failed(
                    f"{request.route} has another {name}",
                    expected=pattern,
                    observed=value,
                    where=f"{name_of(request)}, {name}",
                    cause=certain("value-changed", name),
                )
    if not looked:
        return nothing("no request was seen of which the contract requires a header")
    return passed(f"{count(looked, 'header')} as the contract requires")


def keys(case: Case) -> Verdict:
    """Judge that an idempotency key belongs to one request."""
    if not any(_KEY in names for names in case.contract.wire.headers.values()):
        return nothing("the contract requires no idempotency key")
    carriers = [r for r in (*case.observed.control, *case.observed.requests) if r.headers.get(_KEY)]
    if not carriers:
        return nothing("no request was seen with an idempotency key")
    if shared := case.observed.shared_keys:
        first = shared[0]
        return failed(
            f"{count(len(shared), 'idempotency key')} shared by several requests",
            expected="a key for each request, and for each poll",
            observed=f"{count(first.requests, 'request')} with one key: {first.first}, {first.again}"
            + (", ..." if first.requests > 2 else ""),
            where=first.again,
            cause=certain("key-reused", f"{first.first} and {first.again}"),
        )
    return passed(f"{count(len(carriers), 'request')}, each with a key of its own")


def retrieval(case: Case) -> Verdict:
    """Judge how results are asked for."""
    if not case.observed.retrievals:
        return nothing("no retrieve_future was seen")
    if not case.golden.retrievals:
        return nothing("golden has no retrieve_future")
    golden = {r.request_type: set[tuple[str, str]]() for r in case.golden.retrievals}
    for r in case.golden.retrievals:
        golden[r.request_type].add((r.accept, ",".join(r.body_keys)))
    seen: dict[str, set[tuple[str, str]]] = {}
    for r in case.observed.retrievals:
        seen.setdefault(r.request_type, set()).add((r.accept, ",".join(r.body_keys)))
    for request_type in sorted(seen):
        if request_type not in golden:
            # An operation that golden does not send is judged by what is sent; here only how its result is asked for.
            known = case.contract.wire.accept.get(request_type)
            if known is not None and {accept for accept, _ in seen[request_type]} == {known}:
                continue
            return failed(
                "results are asked for under another request type",
                expected=listed(sorted(golden)),
                observed=request_type or "(no x-tinker-request-type)",
                where="retrieve_future, x-tinker-request-type",
                cause=certain("polled-otherwise", "x-tinker-request-type"),
            )
        if seen[request_type] != golden[request_type]:
            accepts = {a for a, _ in seen[request_type]} == {a for a, _ in golden[request_type]}
            return failed(
                f"the result of {request_type} is asked for in another way",
                expected=listed(_spelled(golden[request_type])),
                observed=listed(_spelled(seen[request_type])),
                where=f"retrieve_future of {request_type}, {'body' if accepts else 'accept'}",
                cause=certain("polled-otherwise", "body" if accepts else "accept"),
            )
    return passed(f"results of {listed(sorted(seen))} are asked for as golden asks")


def accepted(case: Case) -> Verdict:
    """Judge that the server understood everything."""
    found = [v for v in case.observed.violations if v.code not in _OTHERS]
    if found:
        first = found[0]
        return failed(
            first.message,
            expected="paths and bodies some release knows",
            observed=listed(v.code for v in found),
            where=f"request {first.request}",
            cause=certain("not-understood", first.code),
        )
    return _any_request(case, "every path and body was understood")


def known_fields(case: Case) -> Verdict:
    """Judge that no unknown field was sent."""
    if case.observed.unknown_fields:
        names = case.observed.unknown_fields
        return failed(
            f"{count(len(names), 'unknown field')} sent",
            expected="none",
            observed=listed(names),
            where=names[0],
            cause=certain("key-added", listed(names)),
        )
    return _any_request(case, "every field is known")


def _any_request(case: Case, message: str) -> Verdict:
    if not case.observed.control and not case.observed.requests:
        return nothing("no request was seen")
    return passed(message)


def _ways(trace: Trace) -> dict[str, set[str]]:
    ways: dict[str, set[str]] = {effect: set() for effect in PASSES}
    for request in trace.requests:
        if request.effect in ways:
            ways[request.effect].add(_way(request))
    return ways


def _way(request: Request) -> str:
    flag = " with forward_only" if request.effect == "forward" != request.route else ""
    return f"{request.route} ({request.encoding}){flag}"


def _why_way(effect: str, golden: set[str], seen: set[str]) -> Found | None:
    json, binary = any("(json)" in way for way in seen), any("(protobuf)" in way for way in golden)
    if json and binary:
        return certain("json-for-protobuf", effect)
    if any("(protobuf)" in way for way in seen) and any("(json)" in way for way in golden):
        return certain("protobuf-for-json", effect)
    return None


def _missing_passes(golden: dict[str, set[str]], seen: dict[str, set[str]]) -> str:
    if not any(golden.values()):
        return "golden has no forward or forward_backward"
    return "no forward_backward was seen" if any(seen.values()) else "no forward or forward_backward was seen"


def _same_way(case: Case) -> Iterable[Group]:
    """Return the groups of passes that are sent as golden sends them; the others are `wire.encoding`'s."""
    for group in align(case).groups:
        if group.effect in PASSES and group.observed:
            ways = {_way(r) for r in group.golden}
            if all(_way(r) in ways for r in group.observed):
                yield group


def _beside(case: Case) -> Iterable[tuple[Request, Request]]:
    """Return golden and observed requests whose bodies can be compared."""
    waiting = list(case.observed.control)
    for golden in case.golden.control:
        for seen in waiting:
            if seen.route == golden.route:
                waiting.remove(seen)
                yield golden, seen
                break
    for group in align(case).groups:
        if group.effect not in PASSES:
            yield from zip(group.golden, group.observed, strict=False)
    for group in _same_way(case):
        for seen in group.observed:
            yield group.golden[0], seen


def _forms(requests: Iterable[Request]) -> dict[str, set[str]]:
    """Return the key sets per kind. Sparse ones are left out: the layout is `weights.layout`'s judgement."""
    result: dict[str, set[str]] = {}
    for request in requests:
        for kind, names in (request.batch.forms if request.batch else {}).items():
            dense = {name for name in names if "sparse" not in name}
            if dense:
                result.setdefault(kind, set()).update(dense)
    return result


def _split(names: Iterable[str]) -> set[str]:
    return {key for name in names for key in name.split(",") if key}


def _spelled(ways: set[tuple[str, str]]) -> list[str]:
    return [f"accept {accept or '(none)'}, body {{{keys}}}" for accept, keys in sorted(ways)]


CHECKS = (
    Check("wire.encoding", "Each pass goes to golden's route in golden's encoding, forward_only included.", encoding),
    Check(
        "wire.bodies",
        "Bodies without data and envelopes of passes have golden's keys, nulls and values.",
        bodies,
    ),
    Check("wire.forms", "Chunks, tensors and datums are written with golden's keys.", forms),
    Check("wire.headers", "Requests carry the headers the contract requires.", headers),
    Check("wire.keys", "Each request, and each poll, has an idempotency key of its own.", keys),
    Check("wire.retrieval", "Results are asked for with golden's request type, Accept and body keys.", retrieval),
    Check("wire.accepted", "Every path is known and every body can be decoded.", accepted),
    Check("wire.known_fields", "No request carries a field that no release knows.", known_fields),
)
