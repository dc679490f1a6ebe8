"""The contract's byte estimate of a datum, written here a second time, independent of the reference.

Observed in the official SDK: up to 0.24 each number counts the same whatever its type; from 0.25 the bytes of the
protobuf encoding are counted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from harness.checks.alignment import Group
from harness.checks.causes import Found, likely, told
from harness.checks.verdict import Case
from mock_server.record import Datum, Tensor

_ITEM_BYTES = {"float32": 4, "int64": 8, "int32": 4, "bfloat16": 2, "float16": 2, "float64": 8}


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one request: datums, estimated bytes, and the name of the estimate."""

    count: int
    bytes: int
    estimate: str


def limits_of(case: Case) -> Limits:
    """Return the limits that hold in a case: the contract's, or those the server's client/config names."""
    chunking = case.contract.chunking
    config: Mapping[str, object] = case.script.client_config if chunking.from_client_config else {}
    number = config.get("fwdbwd_max_chunk_len")
    size = config.get("fwdbwd_max_chunk_bytes_count")
    return Limits(
        count=number if isinstance(number, int) else chunking.max_count,
        bytes=size if isinstance(size, int) else chunking.max_bytes,
        estimate=chunking.estimate,
    )


def size_of(datum: Datum, estimate: str) -> int:
    """Return the estimated bytes of a datum as the wire carries it."""
    return ESTIMATES[estimate](datum)


def ten_per_element(datum: Datum) -> int:
    """Count ten bytes for every token and every stored number (0.7.0 to 0.24.1; CSR counts its values only)."""
    return 10 * (int(datum.tokens.size) + sum(int(t.values.size) for t in datum.inputs.values()))


def protobuf_bytes(datum: Datum) -> int:
    """Count four bytes for a token, a tensor's own bytes, and eight for each CSR index (from 0.25.0)."""
    return 4 * int(datum.tokens.size) + sum(_tensor_bytes(t) for t in datum.inputs.values())


def _tensor_bytes(tensor: Tensor) -> int:
    size = int(tensor.values.size) * _ITEM_BYTES.get(tensor.dtype, int(tensor.values.dtype.itemsize))
    if tensor.crow is not None and tensor.col is not None:
        size += 8 * (int(tensor.crow.size) + int(tensor.col.size))
    return size


ESTIMATES: Mapping[str, Callable[[Datum], int]] = {
    "ten_per_element": ten_per_element,
    "protobuf_bytes": protobuf_bytes,
}
"""By the name the contract gives to `chunking.estimate`."""

_OTHER_WAYS: Mapping[str, Callable[[Datum], int]] = {
    "10 bytes for each token and number": ten_per_element,
    "4 bytes for a token, a tensor's own bytes": protobuf_bytes,
    "1 for each token and number": lambda datum: ten_per_element(datum) // 10,
    "4 bytes for each token and number": lambda datum: ten_per_element(datum) * 4 // 10,
    "8 bytes for each token and number": lambda datum: ten_per_element(datum) * 8 // 10,
    "4 bytes for a token, nothing for tensors": lambda datum: 4 * int(datum.tokens.size),
    "10 bytes for a token, nothing for tensors": lambda datum: 10 * int(datum.tokens.size),
}


def why_limit(case: Case, group: Group) -> Found | None:
    """Return how other limits or another estimate lead to the observed cuts of a call's pass."""
    datums = [datum for r in group.observed if r.batch for datum in r.batch.datums]
    seen = [len(r.batch.datums) for r in group.observed if r.batch and r.batch.datums]
    golden = [len(r.batch.datums) for r in group.golden if r.batch and r.batch.datums]
    limit = limits_of(case)
    if not datums or sum(golden) != len(datums) or seen == golden:
        return None
    right = ESTIMATES[limit.estimate]
    if _cuts(datums, right, limit.count, limit.bytes, strict=False) == seen:
        return None  # what the contract's limits give: golden was cut by something else
    if _cuts(datums, right, limit.count, limit.bytes, strict=True) == seen:
        return likely("limit-exclusive", f"cut when {limit.bytes} bytes are reached, not when they are passed")
    for says, estimate in _OTHER_WAYS.items():
        if estimate is not right and _cuts(datums, estimate, limit.count, limit.bytes, strict=False) == seen:
            return likely("bytes-per-element", f"counted {says}; the contract counts {limit.estimate}")
    largest = max(seen)
    if largest != limit.count and _cuts(datums, right, largest, limit.bytes, strict=False) == seen:
        beside = abs(largest - limit.count) == 1
        several = len(seen) > 1
        # One request for all is no other limit, unless it is just one more.
        if several or beside:
            return told(
                "cut-off-by-one" if beside else "limit-differs",
                f"cut at {largest} datums, the contract at {limit.count}",
                sure=several,
            )
    return None


def _cuts(
    datums: list[Datum], estimate: Callable[[Datum], int], max_count: int, max_bytes: int, *, strict: bool
) -> list[int]:
    """Cut greedily and return the sizes; `strict` cuts at the byte limit, otherwise beyond it."""
    sizes: list[int] = []
    held = total = 0
    for datum in datums:
        size = estimate(datum)
        over = total + size >= max_bytes if strict else total + size > max_bytes
        if held and (over or held == max_count):
            sizes.append(held)
            held = total = 0
        held += 1
        total += size
    return [*sizes, held]
