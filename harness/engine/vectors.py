"""A driver proves that it computes losses right before its scenarios mean anything."""

from __future__ import annotations

from collections.abc import Sequence

from harness.drivers.process import DriverProcess
from harness.suite.losses.vectors import Vector, judge_vectors

_SHOWN = 3
_WITH_LOSSES = "forward_backward_custom"


async def distrust(driver: DriverProcess, vectors: Sequence[Vector]) -> str:
    """Let `driver` evaluate the operation vectors; return why its losses cannot be trusted, or "".

    A driver that declares no custom losses evaluates none, and is not asked. Raises DriverFailure.
    """
    if not vectors or _WITH_LOSSES not in driver.hello.capabilities:
        return ""
    answer = await driver.evaluate([vector.case for vector in vectors])
    wrong = judge_vectors(answer.results, vectors)
    if not wrong:
        return ""
    shown = "\n".join(str(mismatch) for mismatch in wrong[:_SHOWN])
    more = f"\nand {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
    return (
        f"the driver's losses cannot be trusted: {len(wrong)} of {len(vectors)} operation vectors differ\n{shown}{more}"
    )
