"""What a part of a structured loss returns, read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any

from harness.reference.errors import Part, PartFailedError, PartNotScalarError

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Called:
    """What a part gave: its loss as a scalar tensor, the same as a number, its metrics."""

    loss: torch.Tensor
    value: float
    metrics: Mapping[str, float]


def read_result(result: Any, part: Part) -> Called:
    """Read what a part returned: a pair of a loss of one element, or a number, and metrics.

    Raises PartFailedError for anything else than such a pair, and PartNotScalarError for more or fewer elements.
    """
    import torch

    if not (isinstance(result, tuple | list) and len(result) == 2):
        said = f"{len(result)} things" if isinstance(result, tuple | list) else f"a {type(result).__name__}"
        raise PartFailedError(part, f"it returned {said}, not (loss, metrics)")
    loss, metrics = result
    if not isinstance(metrics, Mapping):
        raise PartFailedError(part, f"its metrics are a {type(metrics).__name__}, not a dict")
    numbers = {key: _metric(key, value, part) for key, value in metrics.items()}
    if isinstance(loss, Real) and not isinstance(loss, bool):
        number = _float(loss, "its loss", part)
        return Called(torch.tensor(number, dtype=torch.float64), number, numbers)
    if not isinstance(loss, torch.Tensor):
        raise PartFailedError(part, f"its loss is a {type(loss).__name__}, neither a tensor nor a number")
    if loss.numel() != 1:
        raise PartNotScalarError(part, f"its loss has shape {tuple(loss.shape)}, not one element")
    if loss.is_complex() or loss.dtype == torch.bool:
        raise PartFailedError(part, f"its loss is {loss.dtype}".replace("torch.", ""))
    return Called(loss.reshape(()), float(loss.detach().item()), numbers)


def _metric(key: Any, value: Any, part: Part) -> float:
    import torch

    if not isinstance(key, str):
        raise PartFailedError(part, f"a metric is called {key!r}, which is no text")
    if isinstance(value, torch.Tensor) and value.numel() == 1 and not value.is_complex() and value.dtype != torch.bool:
        return float(value.detach().item())
    if isinstance(value, Real) and not isinstance(value, bool):
        return _float(value, f"its metric {key!r}", part)
    raise PartFailedError(part, f"its metric {key!r} is {value!r}, which is no number")


def _float(number: Real, what: str, part: Part) -> float:
    try:
        return float(number)
    except OverflowError as error:
        raise PartFailedError(part, f"{what} is too large for a float") from error
