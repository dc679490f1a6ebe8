"""Turn-taking: the requests of one model take effect in seq_id order, however they arrive.

Pure bookkeeping, no clock and no I/O. The ids of a model start at 1 (observed in releases 0.7.0 to 0.38.0) and a
complete run of a client leaves no hole.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import Generic, TypeVar

T = TypeVar("T")

MAX_MISSING = 1000


@dataclass(frozen=True, slots=True)
class Hole:
    """What is awaited: `held` ids cannot take effect because the `missing` ones below them never came.

    Of the missing ones the lowest `MAX_MISSING` are named: an id can be as large as a client likes.
    """

    missing: tuple[int, ...]
    held: tuple[int, ...]


class Turns(Generic[T]):
    """The turns of one model: `admit` takes an item and returns every item whose turn has come, in order."""

    def __init__(self, *, first: int = 1) -> None:
        self._next = first
        self._held: dict[int, T] = {}

    @property
    def next_id(self) -> int:
        """The lowest id that has not had its turn."""
        return self._next

    @property
    def held(self) -> tuple[int, ...]:
        """The ids that wait for a lower one, ascending."""
        return tuple(sorted(self._held))

    def admit(self, seq_id: int | None, item: T) -> list[T]:
        """Take `item` and return the items that may take effect now, in order.

        An item without an id, or with an id whose turn is over (a gap was skipped, and here comes the missing one),
        takes effect at once. An id that is already held is a caller's mistake: ValueError.
        """
        if seq_id is None or seq_id < self._next:
            return [item]
        if seq_id in self._held:
            raise ValueError(f"seq_id {seq_id} is already held")
        if seq_id == self._next and not self._held:  # nearly always
            self._next += 1
            return [item]
        self._held[seq_id] = item
        return self._run()

    def hole(self) -> Hole | None:
        """Return what is missing below the highest held id, or None when nothing is held."""
        if not self._held:
            return None
        held = self.held
        present = set(held)
        missing = (i for i in range(self._next, held[-1]) if i not in present)
        return Hole(tuple(islice(missing, MAX_MISSING)), held)

    def skip(self) -> list[T]:
        """Give up on the missing ids: return everything that is held, in order."""
        items = [self._held[i] for i in self.held]
        if self._held:
            self._next = max(self._held) + 1
            self._held.clear()
        return items

    def _run(self) -> list[T]:
        ready: list[T] = []
        while self._next in self._held:
            ready.append(self._held.pop(self._next))
            self._next += 1
        return ready
