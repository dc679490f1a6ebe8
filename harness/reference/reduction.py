"""How the metrics of chunks become the metrics of a call, and how a custom loss adds its own.

A metric is called `name:reduction`. Arithmetic is numpy's in float64, as in the official SDK.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np

from harness.reference.errors import BadOutputError

Number = float | int
Metrics = dict[str, Number]
Reduction = Callable[[str, Sequence[Number], Sequence[int]], Metrics]
"""(full name, one value per chunk, number of outputs per chunk) -> metrics of the call."""
Merge = Callable[[Mapping[str, Number], Mapping[str, Number], float], Metrics]
"""(server's metrics, custom metrics, value of the custom loss) -> metrics of the call."""

OWN = "loss:sum"
SURROGATE = "surrogate_loss:sum"


def total(key: str, values: Sequence[Number], _weights: Sequence[int]) -> Metrics:
    """Add the values."""
    return {key: np.sum(values).item()}


def weighted_mean(key: str, values: Sequence[Number], weights: Sequence[int]) -> Metrics:
    """Average the values, weighted by the number of outputs of their chunks."""
    return {key: _average(values, weights)}


def least(key: str, values: Sequence[Number], _weights: Sequence[int]) -> Metrics:
    """Take the smallest value."""
    return {key: np.min(values).item()}


def greatest(key: str, values: Sequence[Number], _weights: Sequence[int]) -> Metrics:
    """Take the greatest value."""
    return {key: np.max(values).item()}


def slack(key: str, values: Sequence[Number], weights: Sequence[int]) -> Metrics:
    """Take the distance of the greatest value from the weighted mean."""
    return {key: np.max(values).item() - _average(values, weights)}


def unique(key: str, values: Sequence[Number], _weights: Sequence[int]) -> Metrics:
    """Keep every chunk's value: `key`, `key_1`, `key_2`, ..."""
    return {key if index == 0 else f"{key}_{index}": value for index, value in enumerate(values)}


def hash_unordered(key: str, values: Sequence[Number], _weights: Sequence[int]) -> Metrics:
    """Hash the sorted whole parts as CPython hashes a tuple of integers (64 bits), kept as a float64.

    Observed in 0.7.0 to 0.15.0, read up to 0.26.1.
    """
    return {key: float(hash(tuple(sorted(_whole(value) for value in values))))}


def hash2(key: str, values: Sequence[Number], _weights: Sequence[int]) -> Metrics:
    """Add the whole parts modulo 2^64. Observed in 0.26.2 to 0.38.0."""
    return {key: sum(_whole(value) for value in values) % 2**64}


REDUCTIONS: Mapping[str, Reduction] = MappingProxyType(
    {
        "mean": weighted_mean,
        "sum": total,
        "min": least,
        "max": greatest,
        "slack": slack,
        "unique": unique,
        "hash_unordered": hash_unordered,
        "hash2": hash2,
    }
)


def reduce_metrics(
    chunks: Sequence[Mapping[str, Number]], outputs: Sequence[int], reductions: Mapping[str, Reduction]
) -> Metrics:
    """Combine the metrics of chunks, also of a single one.

    The names of the first chunk count; a metric that another chunk lacks, or whose reduction is unknown, is dropped.
    `outputs` is the number of loss_fn_outputs per chunk. Raises BadOutputError when a name has not exactly one colon,
    or when a mean has no outputs to weigh with. Observed in 0.7.0 to 0.38.0.
    """
    combined: Metrics = {}
    for key in chunks[0] if chunks else ():
        if key.count(":") != 1:
            raise BadOutputError(f"the metric {key!r} is not called name:reduction")
        reduction = reductions.get(key.split(":")[1])
        if reduction is None or not all(key in chunk for chunk in chunks):
            continue
        combined.update(reduction(key, [chunk[key] for chunk in chunks], outputs))
    return combined


def update(server: Mapping[str, Number], custom: Mapping[str, Number], _loss: float) -> Metrics:
    """Put the custom metrics over the server's. Observed in 0.7.0 to 0.30.0."""
    return {**server, **custom}


def update_own_loss(server: Mapping[str, Number], custom: Mapping[str, Number], loss: float) -> Metrics:
    """Put the custom metrics over the server's, then name the two losses.

    `loss:sum` is the custom loss and `surrogate_loss:sum` the server's `loss:sum`, over anything the caller named so.
    Raises BadOutputError when the server sent no `loss:sum`. Observed in 0.30.1 to 0.38.0.
    """
    if OWN not in server:
        raise BadOutputError(f"the server's metrics lack {OWN!r}")
    rest = {key: value for key, value in server.items() if key != OWN}
    return {**rest, **custom, OWN: loss, SURROGATE: server[OWN]}


MERGES: Mapping[str, Merge] = MappingProxyType({"update": update, "update_own_loss": update_own_loss})


def _average(values: Sequence[Number], weights: Sequence[int]) -> float:
    if not sum(weights):
        raise BadOutputError("a mean over no outputs")
    return float(np.average(values, weights=weights).item())


def _whole(value: Number) -> int:
    try:
        return int(value)
    except (ValueError, OverflowError) as error:
        raise BadOutputError(f"{value} has no whole part") from error
