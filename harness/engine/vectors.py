"""The operation vectors: a driver proves that it computes losses right before its scenarios mean anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.drivers.process import DriverProcess

RTOL = 1e-5
ATOL = 1e-6
"""What float32 gives against float64 wherever the guards of the operations hold."""


@dataclass(frozen=True, slots=True)
class Vector:
    """One case and what it must give.

    `case` goes to the driver as it is (`loss`, `logprobs`, `fields`). `loss` is the expected loss, `gradients` one
    flat list per datum (None: that datum has no gradient), both computed in float64.
    """

    name: str
    case: Mapping[str, Any]
    loss: float
    gradients: Sequence[Sequence[float] | None]


def load_vectors(folder: Path) -> tuple[Vector, ...]:
    raise NotImplementedError


async def distrust(driver: DriverProcess, vectors: Sequence[Vector]) -> str:
    """Let `driver` evaluate `vectors`; return why its losses cannot be trusted, or "".

    Raises DriverFailure.
    """
    if not vectors:
        return ""
    answer = await driver.evaluate([vector.case for vector in vectors])
    if len(answer.results) != len(vectors):
        return f"the driver's losses cannot be trusted: {len(answer.results)} answers to {len(vectors)} vectors"
    wrong = [
        f"{vector.name}: {difference}"
        for vector, result in zip(vectors, answer.results, strict=True)
        if (difference := compare(vector, result))
    ]
    if not wrong:
        return ""
    return (
        f"the driver's losses cannot be trusted: {len(wrong)} of {len(vectors)} operation vectors differ; "
        + "; ".join(wrong[:3])
    )


def compare(vector: Vector, result: Mapping[str, Any]) -> str:
    """Return how the driver's result differs from what `vector` must give, or ""."""
    if "error" in result:
        return f"error {result['error']}"
    try:
        loss = float(result["loss"])
        gradients = result["gradients"] or []
        given = [None if gradient is None else [float(value) for value in gradient] for gradient in gradients]
    except (KeyError, TypeError, ValueError) as error:
        return f"not an answer ({error!r})"
    if not np.isclose(loss, vector.loss, rtol=RTOL, atol=ATOL, equal_nan=True):
        return f"loss is {loss!r}, not {vector.loss!r}"
    if [gradient is None for gradient in given] != [gradient is None for gradient in vector.gradients]:
        return "other datums have a gradient"
    for datum, (got, wanted) in enumerate(zip(given, vector.gradients, strict=True)):
        if got is None or wanted is None:
            continue
        if len(got) != len(wanted):
            return f"the gradient of datum {datum} has {len(got)} elements, not {len(wanted)}"
        near = np.isclose(got, wanted, rtol=RTOL, atol=ATOL, equal_nan=True)
        if not near.all():
            first = int(np.argmin(near))
            return f"gradient[{datum}][{first}] is {got[first]!r}, not {wanted[first]!r}"
    return ""
