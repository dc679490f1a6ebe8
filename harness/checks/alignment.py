"""Which observed datum is which golden datum, so that one wrong thing does not colour everything after it.

Per model and effect, the datums of all requests in canonical order form a stream. Two streams are aligned by what a
datum is (its tokens and target_tokens), not by the request it came in: a common beginning and end pair off by
position, the middle by identity, in order. So a wrong cut, a wrong seq_id, a lost or a doubled datum leave every
other datum beside its golden one. Calls and phases are golden's; an observed request belongs to the call of its first
aligned datum.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from harness.checks.verdict import Case
from harness.trace.model import Request, Trace
from mock_server.record import AnyArray, Datum, Tensor

PASSES = ("forward", "forward_backward")
Ordinals = npt.NDArray[np.int64]
Label = tuple[str, str]
"""A call and its phase, as golden names them."""


@dataclass(frozen=True, slots=True, eq=False)
class Stream:
    """The datums of one effect of one model, in canonical order. `request_of[i]` is the request datum `i` came in."""

    requests: tuple[Request, ...]
    datums: tuple[Datum, ...]
    request_of: Ordinals
    starts: Ordinals


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """A golden stream and the observed one beside it.

    `observed_of[g]` is the observed ordinal of golden datum g, `golden_of[o]` the reverse; -1 where there is none.
    """

    model: str
    effect: str
    golden: Stream
    observed: Stream
    observed_of: Ordinals
    golden_of: Ordinals

    def label(self, ordinal: int) -> Label:
        """Return the call and phase of a golden datum."""
        request = self.golden.requests[int(self.golden.request_of[ordinal])]
        return request.call, request.phase

    def where(self, ordinal: int) -> str:
        """Name a golden datum: `fb backward seq 3, datum 17`, counted from the start of its pass."""
        at = int(self.golden.request_of[ordinal])
        request = self.golden.requests[at]
        first = at
        while first > 0 and _label(self.golden.requests[first - 1]) == _label(request):
            first -= 1
        return f"{name_of(request)}, datum {ordinal - int(self.golden.starts[first])}"


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """The requests of one phase of one call: golden's, and the observed ones that carry its datums, by the data.

    For requests without data, golden's k-th of an effect of a model stands beside the observed k-th.
    """

    model: str
    effect: str
    call: str
    phase: str
    golden: tuple[Request, ...]
    observed: tuple[Request, ...]

    @property
    def name(self) -> str:
        """The call and phase as verdicts name them."""
        return " ".join(part for part in (self.call or self.effect, self.phase) if part)


@dataclass(frozen=True, slots=True, eq=False)
class Alignment:
    """The golden and the observed trace, side by side.

    `groups` are in golden's canonical order. `label_of` gives the group's index of each observed request that has
    one, `place_of` the golden ordinal of the first datum it carries; `extra` are observed requests that stand beside
    nothing.
    """

    pairs: tuple[Pair, ...]
    groups: tuple[Group, ...]
    label_of: dict[Request, int] = field(default_factory=dict)
    place_of: dict[Request, int] = field(default_factory=dict)
    extra: tuple[Request, ...] = ()

    def of_effect(self, effect: str) -> Iterator[Pair]:
        """Return the pairs of one effect, one per model."""
        return (pair for pair in self.pairs if pair.effect == effect)


@dataclass(frozen=True, slots=True, eq=False)
class Matched:
    """Golden datums and the observed ones beside them, with a name for each."""

    golden: list[Datum]
    observed: list[Datum]
    places: list[tuple[Pair, int]]

    def where(self, index: int) -> str:
        """Name the index-th matched datum."""
        pair, ordinal = self.places[index]
        return pair.where(ordinal)


def align(case: Case) -> Alignment:
    """Return the alignment of a case. Linear in the number of datums; remembered for the checks that follow."""
    return _align(case.golden, case.observed)


def matched(case: Case, effect: str, *, custom: bool | None) -> Matched:
    """Return the aligned datums of an effect, of custom calls only (True), of plain calls only (False) or of all."""
    both = Matched([], [], [])
    customs = custom_calls(case.golden)
    for pair in align(case).of_effect(effect):
        wanted = [custom is None or (request.call in customs) is custom for request in pair.golden.requests]
        for ordinal in np.flatnonzero(pair.observed_of >= 0):
            if wanted[pair.golden.request_of[ordinal]]:
                both.golden.append(pair.golden.datums[ordinal])
                both.observed.append(pair.observed.datums[pair.observed_of[ordinal]])
                both.places.append((pair, int(ordinal)))
    return both


def golden_datums(case: Case, effect: str, *, custom: bool | None) -> int:
    """Return how many datums golden sends in an effect, counted as in `matched`."""
    customs = custom_calls(case.golden)
    return sum(
        len(request.batch.datums)
        for request in case.golden.requests
        if request.effect == effect
        and request.batch is not None
        and (custom is None or (request.call in customs) is custom)
    )


def custom_calls(golden: Trace) -> frozenset[str]:
    """Return the custom-loss calls: those with both passes, or whose callback was called."""
    effects: dict[str, set[str]] = defaultdict(set)
    for request in golden.requests:
        if request.call and request.effect in PASSES:
            effects[request.call].add(request.effect)
    both = {call for call, seen in effects.items() if len(seen) == len(PASSES)}
    return frozenset(both | {step.step for step in golden.steps if step.saw is not None})


def name_of(request: Request) -> str:
    """Name a request: call and phase (or effect), and seq_id."""
    parts = [request.call or request.effect, request.phase]
    if request.seq_id is not None:
        parts.append(f"seq {request.seq_id}")
    return " ".join(part for part in parts if part)


def elements(tensor: Tensor) -> AnyArray:
    """Return the dense elements of a tensor, flat; the stored ones where its sparse form holds together in no way."""
    try:
        return tensor.dense()
    except (ValueError, IndexError):
        return tensor.values


def identity(datum: Datum) -> bytes:
    """Return what a datum is: the bytes of its tokens and of its target_tokens, whatever their shape."""
    targets = datum.inputs.get("target_tokens")
    tail = b"" if targets is None else np.ascontiguousarray(elements(targets)).astype(np.int64, copy=False).tobytes()
    return np.ascontiguousarray(datum.tokens).astype(np.int64, copy=False).tobytes() + b"|" + tail


def _label(request: Request) -> Label:
    return request.call, request.phase


@lru_cache(maxsize=4)
def _align(golden: Trace, observed: Trace) -> Alignment:
    by_model = sorted({r.model for r in (*golden.requests, *observed.requests)})
    pairs: list[Pair] = []
    found: dict[Request, Request] = {}
    for model in by_model:
        for effect in PASSES:
            pair = _pair(model, effect, golden, observed)
            if pair.golden.requests or pair.observed.requests:
                pairs.append(pair)
                found.update(_first_aligned(pair))
        found.update(_by_count(model, golden, observed))
    groups, index_of = _groups(golden)
    members: list[list[Request]] = [[] for _ in groups]
    label_of: dict[Request, int] = {}
    extra: list[Request] = []
    place = _places(pairs)
    for request in sorted(observed.requests, key=lambda r: place.get(r, -1)):
        beside = found.get(request)
        if beside is None:
            extra.append(request)
        else:
            label_of[request] = index_of[beside]
            members[index_of[beside]].append(request)
    return Alignment(
        tuple(pairs),
        tuple(
            Group(g[0].model, g[0].effect, g[0].call, g[0].phase, tuple(g), tuple(members[i]))
            for i, g in enumerate(groups)
        ),
        label_of,
        place,
        tuple(extra),
    )


def _groups(golden: Trace) -> tuple[list[list[Request]], dict[Request, int]]:
    """Split golden's requests into phases of calls: runs of equal model, effect, call and phase.

    Requests without data are a group each.
    """
    groups: list[list[Request]] = []
    index_of: dict[Request, int] = {}
    previous: tuple[str, str, str, str] | None = None
    for request in golden.requests:
        key = (request.model, request.effect, request.call, request.phase)
        if request.batch is None or key != previous:
            groups.append([])
        groups[-1].append(request)
        index_of[request] = len(groups) - 1
        previous = key if request.batch is not None else None
    return groups, index_of


def _by_count(model: str, golden: Trace, observed: Trace) -> dict[Request, Request]:
    """Pair requests without data: the k-th of an effect beside the k-th."""
    waiting: dict[str, deque[Request]] = defaultdict(deque)
    for request in golden.requests:
        if request.model == model and request.effect not in PASSES:
            waiting[request.effect].append(request)
    beside = {}
    for request in observed.requests:
        if request.model == model and request.effect not in PASSES and waiting[request.effect]:
            beside[request] = waiting[request.effect].popleft()
    return beside


def _first_aligned(pair: Pair) -> dict[Request, Request]:
    """Return, per observed request, the golden request of its first aligned datum."""
    return {
        request: pair.golden.requests[int(pair.golden.request_of[ordinal])]
        for request, ordinal in _places([pair]).items()
    }


def _places(pairs: Sequence[Pair]) -> dict[Request, int]:
    """Return, per observed request with data, the golden ordinal of its first aligned datum."""
    places: dict[Request, int] = {}
    for pair in pairs:
        at = np.flatnonzero(pair.golden_of >= 0)
        requests, first = np.unique(pair.observed.request_of[at], return_index=True)
        for request, ordinal in zip(requests.tolist(), pair.golden_of[at[first]].tolist(), strict=True):
            places[pair.observed.requests[request]] = ordinal
    return places


def _stream(trace: Trace, model: str, effect: str) -> Stream:
    requests = tuple(r for r in trace.requests if r.model == model and r.effect == effect)
    sizes = [len(r.batch.datums) if r.batch is not None else 0 for r in requests]
    datums = tuple(datum for r in requests if r.batch is not None for datum in r.batch.datums)
    starts = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)[:-1]]) if sizes else np.zeros(0)
    return Stream(requests, datums, np.repeat(np.arange(len(sizes), dtype=np.int64), sizes), starts.astype(np.int64))


def _pair(model: str, effect: str, golden: Trace, observed: Trace) -> Pair:
    left, right = _stream(golden, model, effect), _stream(observed, model, effect)
    observed_of = _match([identity(d) for d in left.datums], [identity(d) for d in right.datums])
    _match_rest(left.datums, right.datums, observed_of)
    golden_of = np.full(len(right.datums), -1, dtype=np.int64)
    at = np.flatnonzero(observed_of >= 0)
    golden_of[observed_of[at]] = at
    return Pair(model, effect, left, right, observed_of, golden_of)


def _match(golden: Sequence[bytes], observed: Sequence[bytes]) -> Ordinals:
    """Return, per golden identity, the observed ordinal beside it, or -1."""
    result = np.full(len(golden), -1, dtype=np.int64)
    shorter = min(len(golden), len(observed))
    head = 0
    while head < shorter and golden[head] == observed[head]:
        head += 1
    tail = 0
    while tail < shorter - head and golden[-1 - tail] == observed[-1 - tail]:
        tail += 1
    result[:head] = np.arange(head)
    if tail:
        result[len(golden) - tail :] = np.arange(len(observed) - tail, len(observed))
    waiting: dict[bytes, deque[int]] = defaultdict(deque)
    for ordinal in range(head, len(observed) - tail):
        waiting[observed[ordinal]].append(ordinal)
    for ordinal in range(head, len(golden) - tail):
        queue = waiting.get(golden[ordinal])
        if queue:
            result[ordinal] = queue.popleft()
    return result


def _match_rest(golden: Sequence[Datum], observed: Sequence[Datum], observed_of: Ordinals) -> None:
    """Pair what is left by tokens alone: a datum with changed targets is still that datum."""
    open_golden = np.flatnonzero(observed_of < 0)
    taken = np.zeros(len(observed), dtype=bool)
    taken[observed_of[observed_of >= 0]] = True
    open_observed = np.flatnonzero(~taken)
    if not open_golden.size or not open_observed.size:
        return
    rest = _match(
        [golden[i].tokens.astype(np.int64).tobytes() for i in open_golden.tolist()],
        [observed[i].tokens.astype(np.int64).tobytes() for i in open_observed.tolist()],
    )
    here = np.flatnonzero(rest >= 0)
    observed_of[open_golden[here]] = open_observed[rest[here]]
