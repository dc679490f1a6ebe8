"""How metrics of chunks are combined: against a plain restatement, and the numbers that were measured."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.reference.errors import BadOutputError
from harness.reference.reduction import REDUCTIONS, reduce_metrics, update, update_own_loss

VALUES = st.floats(-1e6, 1e6)
CHUNKS = st.integers(1, 6).flatmap(
    lambda count: st.tuples(
        st.lists(
            st.dictionaries(st.sampled_from([f"a:{name}" for name in (*REDUCTIONS, "median")]), VALUES),
            min_size=count,
            max_size=count,
        ),
        st.lists(st.integers(1, 50), min_size=count, max_size=count),
    )
)


def _restated(reduction, values, outputs):
    weighted = math.fsum(v * n for v, n in zip(values, outputs, strict=True)) / sum(outputs)
    return {
        "mean": weighted,
        "sum": math.fsum(values),
        "min": min(values),
        "max": max(values),
        "slack": max(values) - weighted,
        "unique": values[0],
        "hash_unordered": float(hash(tuple(sorted(int(value) for value in values)))),
        "hash2": sum(int(value) for value in values) % 2**64,
    }[reduction]


@given(CHUNKS)
def test_reduction_is_what_it_says(drawn):
    """Names of the first chunk that all chunks have and whose reduction is known, each combined as its name says."""
    chunks, outputs = drawn
    combined = reduce_metrics(chunks, outputs, REDUCTIONS)
    expected = [key for key in chunks[0] if all(key in chunk for chunk in chunks) and not key.endswith("median")]
    assert {key for key in combined if not key.startswith("a:unique_")} == set(expected)
    for key in expected:
        values = [chunk[key] for chunk in chunks]
        assert combined[key] == pytest.approx(_restated(key[2:], values, outputs), rel=1e-9, abs=1e-6)
    if "a:unique" in expected:
        for index, chunk in enumerate(chunks[1:], start=1):
            assert combined[f"a:unique_{index}"] == chunk["a:unique"]


@given(st.lists(VALUES, min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_hashes_do_not_depend_on_the_order_of_chunks(values, random):
    """hash_unordered and hash2 give the same for any order."""
    shuffled = random.sample(values, len(values))
    for name in ("hash_unordered", "hash2"):
        key = f"a:{name}"
        one, other = ([{key: value} for value in order] for order in (values, shuffled))
        outputs = [1] * len(values)
        assert reduce_metrics(one, outputs, REDUCTIONS) == reduce_metrics(other, outputs, REDUCTIONS)


def test_measured_numbers():
    """Chunks of 1024 and 276 outputs that report their sizes: what 0.38.0 was measured to make of them."""
    names = ("mean", "slack", "min", "max", "unique", "hash2", "median")
    chunks = [{f"a:{name}": float(size) for name in names} for size in (1024, 276)]
    assert reduce_metrics(chunks, [1024, 276], REDUCTIONS) == {
        "a:mean": pytest.approx(865.1938461538462, rel=1e-15),
        "a:slack": pytest.approx(158.80615384615385, rel=1e-15),
        "a:min": 276.0,
        "a:max": 1024.0,
        "a:unique": 1024.0,
        "a:unique_1": 276.0,
        "a:hash2": 1300,
    }


def test_hash2_is_modulo_two_to_the_64():
    """Negative whole parts wrap around; the sum wraps around too."""
    assert reduce_metrics([{"a:hash2": -1.0}], [1], REDUCTIONS) == {"a:hash2": 2**64 - 1}
    assert reduce_metrics([{"a:hash2": -1.0}, {"a:hash2": 3.0}], [1, 1], REDUCTIONS) == {"a:hash2": 2}


@pytest.mark.parametrize("key", ["nocolon", "two:colons:sum", ""])
def test_a_name_needs_exactly_one_colon(key):
    """Any other number of colons makes the result unusable, also in a single chunk."""
    with pytest.raises(BadOutputError):
        reduce_metrics([{key: 1.0}], [1], REDUCTIONS)


def test_a_mean_needs_outputs():
    """Chunks without an output have nothing to weigh a mean with."""
    with pytest.raises(BadOutputError):
        reduce_metrics([{"a:mean": 1.0}], [0], REDUCTIONS)


def test_nothing_is_combined_to_nothing():
    """No chunk, no metric."""
    assert reduce_metrics([], [], REDUCTIONS) == {}


SERVER = {"loss:sum": 1.5, "num_tokens:sum": 3.0}
CUSTOM = {"loss:sum": 123.0, "num_tokens:sum": -7.0, "plain_name": 5.0, "surrogate_loss:sum": 999.0}


def test_custom_metrics_stand_over_the_servers():
    """Up to 0.30.0 nothing is kept from a custom metric, `loss:sum` included."""
    assert update(SERVER, CUSTOM, -1.5) == {**SERVER, **CUSTOM}


def test_the_two_losses_stand_over_custom_metrics():
    """From 0.30.1 loss:sum is the custom loss and surrogate_loss:sum the server's, whatever the callback named."""
    merged = update_own_loss(SERVER, CUSTOM, -1.5)
    assert merged == {"num_tokens:sum": -7.0, "plain_name": 5.0, "loss:sum": -1.5, "surrogate_loss:sum": 1.5}


def test_the_servers_loss_must_be_there():
    """Without loss:sum the result is unusable from 0.30.1 on, and fine before."""
    assert update({}, {}, 1.0) == {}
    with pytest.raises(BadOutputError, match="loss:sum"):
        update_own_loss({}, {"loss:sum": 1.0}, 1.0)
