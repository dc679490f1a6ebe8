"""The small rules of a contract: empty data, numbers that are not finite, failures, waiting, polling."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np

from harness.contracts.model import Polling
from harness.reference.errors import InvalidInputError
from harness.reference.order import Turns
from harness.reference.retrying import doubled
from harness.reference.values import Datum

# --- data without a datum ---------------------------------------------------------------------------------------------


def go_on(_chunks: int) -> None:
    """Go on without a request: a plain call gives an empty output, a custom call runs its loss on nothing."""


def refuse_empty(chunks: int) -> None:
    """Refuse data without a datum. Observed in 0.18.2 to 0.38.0. Raises InvalidInputError."""
    if not chunks:
        raise InvalidInputError("there is no data")


EMPTY_PLAIN: Mapping[str, Callable[[int], None]] = MappingProxyType({"empty_output": go_on, "refused": refuse_empty})
EMPTY_CUSTOM: Mapping[str, Callable[[int], None]] = MappingProxyType({"loss_runs": go_on, "refused": refuse_empty})

# --- numbers that are not finite --------------------------------------------------------------------------------------


def refuse_nonfinite(data: Sequence[Datum]) -> None:
    """Refuse NaN and infinities, which JSON cannot carry. Observed in 0.7.0 to 0.24.1. Raises InvalidInputError."""
    for index, datum in enumerate(data):
        for key, tensor in datum.inputs.items():
            if not np.isfinite(tensor.values).all():
                raise InvalidInputError(f"datum {index}, {key}: not every number is finite")


def send_nonfinite(_data: Sequence[Datum]) -> None:
    """Send every number. Observed in 0.25.0 to 0.38.0."""


NONFINITE: Mapping[str, Callable[[Sequence[Datum]], None]] = MappingProxyType(
    {"refused": refuse_nonfinite, "sent": send_nonfinite}
)

# --- after a failed custom call ---------------------------------------------------------------------------------------


def leave_usable(_turns: Turns, _error: Exception) -> None:
    """Leave the model usable. Observed in 0.7.0 to 0.36.0."""


def poison(turns: Turns, error: Exception) -> None:
    """Refuse every later request of the model. Observed in 0.38.0."""
    turns.poison(error)


AFTER_FAILURE: Mapping[str, Callable[[Turns, Exception], None]] = MappingProxyType(
    {"usable": leave_usable, "poisoned": poison}
)

# --- when a custom call returns ---------------------------------------------------------------------------------------


async def blocks(scheduled: asyncio.Future[None]) -> None:
    """Return when the backward pass has its ids; what fails before is raised here. Observed in 0.7.0 to 0.36.0."""
    await scheduled


async def returns(_scheduled: asyncio.Future[None]) -> None:
    """Return at once. Observed in 0.38.0."""


CUSTOM_CALLS: Mapping[str, Callable[[asyncio.Future[None]], Awaitable[None]]] = MappingProxyType(
    {"blocks": blocks, "returns": returns}
)

# --- polling ----------------------------------------------------------------------------------------------------------


def fails(_polling: Polling, _waits: int) -> float | None:
    """Fail at a 429. Observed in 0.7.0 to 0.20.0."""
    return None


def backs_off(polling: Polling, waits: int) -> float | None:
    """Wait after a 429, longer each time. Observed in 0.21.0 to 0.38.0. `waits` counts from 0."""
    return doubled(polling.first_delay, waits, polling.longest_delay)


TOO_MANY_REQUESTS: Mapping[str, Callable[[Polling, int], float | None]] = MappingProxyType(
    {"fails": fails, "backs_off": backs_off}
)

# --- get_info ---------------------------------------------------------------------------------------------------------

REMEMBERS_INFO: Mapping[str, bool] = MappingProxyType({"asks": False, "remembered": True})
"""Whether get_info() gives what was asked when the model was created."""
