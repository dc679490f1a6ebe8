"""In which order requests leave: reserved ids, the plan of a call's chunks, and turns.

Ids count from 0 per model; a request's seq_id is its id + 1. A request is sent when every request with a smaller id
was acknowledged, except that the chunks of one call may share a span of turns.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import MappingProxyType

from harness.reference.errors import PoisonedError


@dataclass(frozen=True, slots=True)
class Plan:
    """How the chunks of one pass leave.

    `waves` holds chunk indices: the chunks of a wave leave together, the next wave when all of them were acknowledged.
    `turns` is per chunk the first and last turn at which it may leave.
    """

    waves: tuple[tuple[int, ...], ...]
    turns: tuple[tuple[int, int], ...]


Order = Callable[[range], Plan]


def serial(ids: range) -> Plan:
    """Send each chunk after the previous one was acknowledged. Observed in 0.7.0 to 0.18.1."""
    return Plan(waves=tuple((index,) for index in range(len(ids))), turns=tuple((turn, turn) for turn in ids))


def rest_then_first(ids: range) -> Plan:
    """Send the chunks after the first together, then the first. Observed in 0.25.0 to 0.38.0."""
    rest = tuple(range(1, len(ids)))
    waves = (rest, (0,)) if rest else ((0,),) if ids else ()
    return Plan(waves=waves, turns=tuple((ids[0], ids[-1]) for _ in ids))


ORDERS: Mapping[str, Order] = MappingProxyType({"serial": serial, "rest_then_first": rest_then_first})


@dataclass(frozen=True, slots=True)
class Reservation:
    """How a custom call takes ids.

    `at_call(n)` is how many it takes when it is called, for n forward chunks. `forward(taken, n)` is the ids of the
    forward pass among those, `backward(taken, n)` of the backward pass, or None: then it takes new ones after the loss.
    """

    at_call: Callable[[int], int]
    forward: Callable[[range, int], range]
    backward: Callable[[range, int], range | None]


PER_PASS = Reservation(
    at_call=lambda chunks: chunks,
    forward=lambda taken, chunks: taken[:chunks],
    backward=lambda _taken, _chunks: None,
)
"""Forward ids at the call, backward ids after the loss. Observed in 0.7.0 to 0.36.0."""

BOTH_PASSES = Reservation(
    at_call=lambda chunks: 2 * chunks,
    forward=lambda taken, chunks: taken[:chunks],
    backward=lambda taken, chunks: taken[chunks:],
)
"""Both passes' ids at the call, so that nothing can come between them. Observed in 0.38.0."""

RESERVATIONS: Mapping[str, Reservation] = MappingProxyType({"per_pass": PER_PASS, "both_passes": BOTH_PASSES})


class Turns:
    """Gives out ids and makes requests take their turns. Belongs to one event loop."""

    def __init__(self) -> None:
        self._next_id = 0
        self._turn = 0
        self._waiting: dict[int, list[asyncio.Event]] = {}
        self._error: BaseException | None = None

    def reserve(self, count: int) -> range:
        """Take the next `count` ids."""
        start = self._next_id
        self._next_id += count
        return range(start, self._next_id)

    @asynccontextmanager
    async def take(self, first: int, last: int) -> AsyncIterator[None]:
        """Wait until turn `first` has come, and let the next turn come at the end.

        Raises PoisonedError, before or while waiting, when an earlier call has poisoned the model.
        """
        if self._error is None and self._turn < first:
            event = asyncio.Event()
            self._waiting.setdefault(first, []).append(event)
            await event.wait()
        if self._error is not None:
            raise PoisonedError("an earlier call failed; this client accepts no further requests") from self._error
        if self._turn > last:
            raise AssertionError(f"turn {self._turn} is past {last}")
        try:
            yield
        finally:
            self.skip(1)

    def skip(self, count: int) -> None:
        """Let `count` turns pass: those of requests that were sent, or that never will be."""
        for _ in range(count):
            self._turn += 1
            for event in self._waiting.pop(self._turn, []):
                event.set()

    def poison(self, error: BaseException) -> None:
        """Refuse every later request, and those that wait."""
        if self._error is None:
            self._error = error
        for events in self._waiting.values():
            for event in events:
                event.set()
        self._waiting.clear()
