"""How data is cut: properties, and the numbers that were measured."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.reference.chunking import (
    Limits,
    count_or_bytes,
    forward_bounds,
    own_bounds,
    protobuf_bytes,
    ten_per_element,
)
from harness.reference.values import Datum, csr_if_smaller, dense

SIZES = st.lists(st.integers(0, 60), max_size=40)
LIMITS = st.builds(Limits, max_count=st.integers(1, 8), max_bytes=st.integers(1, 100))
KNOWN = Limits(1024, 5_000_000)


@given(SIZES, LIMITS)
def test_chunks_are_a_partition_in_order(sizes, limits):
    """Every datum is in exactly one chunk, in order, and no chunk is empty."""
    bounds = count_or_bytes(sizes, limits)
    assert [index for start, end in bounds for index in range(start, end)] == list(range(len(sizes)))
    assert all(start < end for start, end in bounds)


@given(SIZES, LIMITS)
def test_limits_hold_unless_a_datum_is_alone(sizes, limits):
    """No chunk has too many datums; only a single datum may weigh more than the limit."""
    for start, end in count_or_bytes(sizes, limits):
        assert end - start <= limits.max_count
        assert sum(sizes[start:end]) <= limits.max_bytes or end - start == 1


@given(SIZES, LIMITS)
def test_chunks_are_as_large_as_they_can_be(sizes, limits):
    """A chunk ends because the next datum would have broken a limit, and for no other reason."""
    bounds = count_or_bytes(sizes, limits)
    for start, end in bounds[:-1]:
        full = end - start == limits.max_count
        assert full or sum(sizes[start:end]) + sizes[end] > limits.max_bytes


@pytest.mark.parametrize(
    ("count", "lengths"),
    [(0, []), (1, [1]), (1024, [1024]), (1025, [1024, 1]), (2049, [1024, 1024, 1])],
)
def test_count_limit(count, lengths):
    """1024 datums fit one request, the 1025th starts another."""
    assert [end - start for start, end in count_or_bytes([10] * count, KNOWN)] == lengths


def _text(tokens, *, weights):
    inputs = {"target_tokens": dense(np.zeros(tokens, dtype=np.int64))}
    if weights:
        inputs["weights"] = dense(np.zeros(tokens, dtype=np.float32))
    return Datum(tokens=np.zeros(tokens, dtype=np.int64), inputs=inputs)


MEASURED = {
    "oversized first": ([400_000, *[50_000] * 8], True, [1, 3, 3, 2], [1, 6, 2]),
    "16 * 62500 * 5 is the limit": ([62_500] * 6, True, [2, 2, 2], [5, 1]),
    "no weights": ([50_000] * 10, False, [5, 5], [8, 2]),
    "with weights": ([50_000] * 10, True, [3, 3, 3, 1], [6, 4]),
}


@pytest.mark.parametrize(("tokens", "weights", "ten", "protobuf"), MEASURED.values(), ids=MEASURED)
def test_measured_boundaries(tokens, weights, ten, protobuf):
    """The boundaries that 0.7.0 to 0.24.1 and 0.25.0 to 0.38.0 were measured to choose."""
    data = [_text(count, weights=weights) for count in tokens]
    for estimate, expected in ((ten_per_element, ten), (protobuf_bytes, protobuf)):
        bounds = count_or_bytes([estimate(datum) for datum in data], KNOWN)
        assert [end - start for start, end in bounds] == expected


def test_estimates_count_stored_numbers_only():
    """A CSR tensor weighs its stored values; protobuf adds 8 bytes for every index."""
    weights = np.zeros((4, 6), dtype=np.float32)
    weights[1, 2] = -3.0
    datum = Datum(tokens=np.zeros(4, dtype=np.int64), inputs={"weights": csr_if_smaller(weights)})
    assert ten_per_element(datum) == 10 * (4 + 1)
    assert protobuf_bytes(datum) == 4 * 4 + 4 * 1 + 8 * (5 + 1)


def test_the_backward_pass_is_cut_again_or_not():
    """`own` looks at the backward sizes, `forward` keeps the boundaries whatever they weigh."""
    limits = Limits(10, 10)
    assert own_bounds(count_or_bytes, ((0, 3),), [6, 6, 6], limits) == ((0, 1), (1, 2), (2, 3))
    assert forward_bounds(count_or_bytes, ((0, 3),), [6, 6, 6], limits) == ((0, 3),)
