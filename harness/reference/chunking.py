"""How data is cut into requests: pure functions over sizes.

Bounds are half-open ranges of datum indices, in order, that together cover all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from harness.reference.values import Datum

Bounds = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one request: datums, and estimated bytes."""

    max_count: int
    max_bytes: int


Cut = Callable[[Sequence[int], Limits], Bounds]
Estimate = Callable[[Datum], int]
BackwardCut = Callable[[Cut, Bounds, Sequence[int], Limits], Bounds]


def count_or_bytes(sizes: Sequence[int], limits: Limits) -> Bounds:
    """Cut before a datum that would put a non-empty chunk over `max_bytes`, or when it holds `max_count` datums.

    Both limits are inclusive. A datum over the limit is sent alone; there is no empty chunk. `sizes` are estimated
    bytes per datum. Observed in 0.7.0 to 0.38.0.
    """
    bounds = []
    start, held = 0, 0
    for index, size in enumerate(sizes):
        count = index - start
        if (count > 0 and held + size > limits.max_bytes) or count == limits.max_count:
            bounds.append((start, index))
            start, held = index, 0
        held += size
    if start < len(sizes):
        bounds.append((start, len(sizes)))
    return tuple(bounds)


def ten_per_element(datum: Datum) -> int:
    """Estimate 10 bytes for every token and every stored number of every input. Observed in 0.7.0 to 0.24.1."""
    return 10 * (datum.tokens.size + sum(tensor.values.size for tensor in datum.inputs.values()))


def protobuf_bytes(datum: Datum) -> int:
    """Estimate 4 bytes a token, stored numbers in their dtype, 8 bytes a CSR index. Observed in 0.25.0 to 0.38.0."""
    size = 4 * datum.tokens.size
    for tensor in datum.inputs.values():
        size += tensor.values.nbytes
        size += 8 * sum(index.size for index in (tensor.crow, tensor.col) if index is not None)
    return size


def own_bounds(cut: Cut, _forward: Bounds, sizes: Sequence[int], limits: Limits) -> Bounds:
    """Cut the backward pass by its own sizes. Observed in 0.7.0 to 0.36.0."""
    return cut(sizes, limits)


def forward_bounds(_cut: Cut, forward: Bounds, _sizes: Sequence[int], _limits: Limits) -> Bounds:
    """Keep the forward pass's boundaries, whatever the backward data weighs. Observed in 0.38.0."""
    return forward


CUTS: Mapping[str, Cut] = MappingProxyType({"count_or_bytes": count_or_bytes})
ESTIMATES: Mapping[str, Estimate] = MappingProxyType(
    {"ten_per_element": ten_per_element, "protobuf_bytes": protobuf_bytes}
)
BACKWARD_CUTS: Mapping[str, BackwardCut] = MappingProxyType({"own": own_bounds, "forward": forward_bounds})
