"""Which request each instruction hits, and what became of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from mock_server.faults.script import Fault, Reset, kind_of
from mock_server.record import FaultUse


@dataclass(slots=True, eq=False)
class _Instruction:
    index: int
    fault: Fault
    seen: int = 0
    hits: list[int] = field(default_factory=list)

    def due(self) -> bool:
        """Tell whether the next request it counts is one it hits."""
        fault, number = self.fault, self.seen + 1
        return number >= fault.at and (fault.times == "always" or number < fault.at + fault.times)

    @property
    def resets_unread(self) -> bool:
        return isinstance(self.fault, Reset) and self.fault.when == "headers"


class Instructions:
    """A tenant's fault script being played. Not thread-safe: the tenant's lock guards it.

    A request is offered before its body is read (`unread`), and again once it was decoded (`decoded`); the first
    instruction in the order of the script that is due plays. A reset that does not read the body comes before
    every other. What cannot be decoded is refused and counts for nothing.
    """

    def __init__(self, faults: Sequence[Fault]) -> None:
        self._all = [_Instruction(index, fault) for index, fault in enumerate(faults)]

    def unread(self, route: str) -> int | None:
        """Return the instruction that hits a request whose body was not read, or None; only then it counts."""
        chosen = next((i for i in self._all if i.fault.route == route and i.resets_unread and i.due()), None)
        if chosen is None:
            return None
        # What its body names stays unknown: only instructions without a filter count it.
        self._count(route, seq_id=None, model=None)
        return chosen.index

    def decoded(self, route: str, *, seq_id: int | None, model: int | None) -> int | None:
        """Count a decoded request and return the instruction that hits it, or None.

        `seq_id` is that of the request (of the operation asked for, where it is a poll), `model` the number of its
        model; None where there is none.
        """
        due = [i for i in self._matching(route, seq_id, model) if i.due()]
        self._count(route, seq_id=seq_id, model=model)
        # An instruction that resets unread had its chance before; a filter cannot keep it from being due here.
        return next((i.index for i in due if not i.resets_unread), None)

    def fault(self, index: int) -> Fault:
        """Return an instruction by its place in the script."""
        return self._all[index].fault

    def hit(self, index: int, request: int) -> None:
        """Note that an instruction was played on a request (its ordinal)."""
        self._all[index].hits.append(request)

    def uses(self) -> tuple[FaultUse, ...]:
        """Return what became of every instruction, in the order of the script."""
        return tuple(
            FaultUse(
                kind=kind_of(each.fault),
                route=each.fault.route,
                times=None if each.fault.times == "always" else each.fault.times,
                seen=each.seen,
                hits=tuple(each.hits),
            )
            for each in self._all
        )

    def _matching(self, route: str, seq_id: int | None, model: int | None) -> list[_Instruction]:
        return [
            each
            for each in self._all
            if each.fault.route == route and each.fault.seq_id in (None, seq_id) and each.fault.model in (None, model)
        ]

    def _count(self, route: str, *, seq_id: int | None, model: int | None) -> None:
        for each in self._matching(route, seq_id, model):
            each.seen += 1
