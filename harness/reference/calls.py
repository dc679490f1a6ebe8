"""A call of the reference client: its label on the wire, and what it returns before there is a result."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Generic, TypeVar

from harness.reference.errors import CallCancelledError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Pending(Generic[T]):
    """A submitted call. `type` is the name of the result's type in the official SDK."""

    task: asyncio.Task[T]
    type: str

    async def result(self) -> T:
        """Wait for the result. Raises a CallError when the call failed. A cancelled wait leaves the call alone."""
        try:
            return await asyncio.shield(self.task)
        except asyncio.CancelledError:
            if self.task.cancelled():
                raise CallCancelledError("the call was cancelled") from None
            raise

    def cancel(self) -> None:
        """Cancel the call, unless it has ended."""
        self.task.cancel()


@dataclass(frozen=True, slots=True)
class Call:
    """Which public call a request belongs to: its label, its phase in a custom call, its method in the official SDK."""

    label: str
    method: str
    phase: str = ""
