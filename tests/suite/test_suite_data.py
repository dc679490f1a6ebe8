"""Deterministic data: the documented generator, literal datums, and their cost."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.suite.data import DatumValue, expand, stream_of
from harness.suite.scenario import DataSpec, DatumSpec, GeneratedData, GeneratedInput, InputSpec

MASK = (1 << 64) - 1

FROZEN = [[2, 0, 4, 13], [7, 14, 14, 2], [0.875, 0.0, 1.0, 0.625], [7, 14]]


def _mix(x: int) -> int:
    x = (x + 0x9E3779B97F4A7C15) & MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


def _below(n: int, seed: int, stream: int, datum: int, position: int) -> int:
    word = _mix((_mix((_mix((_mix(seed) + stream) & MASK) + datum) & MASK) + position) & MASK)
    return ((word >> 32) * n) >> 32


def _generated(**options: Any) -> tuple[DatumValue, ...]:
    return expand(DataSpec(generate=(GeneratedData(**options),)))


def _same(one: tuple[DatumValue, ...], other: tuple[DatumValue, ...]) -> bool:
    return len(one) == len(other) and all(
        np.array_equal(a.tokens, b.tokens)
        and list(a.inputs) == list(b.inputs)
        and all(np.array_equal(a.inputs[key].array, b.inputs[key].array) for key in a.inputs)
        for a, b in zip(one, other, strict=True)
    )


@given(
    count=st.integers(1, 12),
    lengths=st.lists(st.integers(0, 5), min_size=1, max_size=4).map(tuple),
    vocab=st.integers(1, 1 << 32),
    seed=st.integers(0, (1 << 63) - 1),
    candidates=st.integers(0, 3),
)
@settings(derandomize=True, max_examples=60)
def test_every_number_is_that_of_the_description(
    count: int, lengths: tuple[int, ...], vocab: int, seed: int, candidates: int
) -> None:
    """The vectorised generator equals the scalar formula written in its description, for every element."""
    spec = {"w": GeneratedInput(low=-1.1, high=2.0)}
    data = _generated(count=count, lengths=lengths, vocab=vocab, seed=seed, candidates=candidates, inputs=spec)
    for datum, value in enumerate(data):
        length = lengths[datum % len(lengths)]
        assert value.tokens.tolist() == [_below(vocab, seed, 0, datum, at) for at in range(length)]
        targets, weights = value.inputs["target_tokens"].array, value.inputs["w"].array
        size = length * max(candidates, 1)
        assert targets.shape == weights.shape == ((length, candidates) if candidates else (length,))
        assert targets.ravel().tolist() == [_below(vocab, seed, 1, datum, at) for at in range(size)]
        # -1.1 <= -8/8 and 16/8 <= 2: 25 multiples of 1/8.
        drawn = [(_below(25, seed, stream_of("w"), datum, at) - 8) / 8 for at in range(size)]
        assert weights.ravel().tolist() == drawn


def test_the_numbers_are_frozen() -> None:
    """Some literal numbers: scenarios and golden traces hang on them."""
    first, second = _generated(count=2, lengths=(4, 2), seed=7, inputs={"adv": GeneratedInput()})
    assert first.tokens.tolist() == FROZEN[0]
    assert first.inputs["target_tokens"].array.tolist() == FROZEN[1]
    assert first.inputs["adv"].array.tolist() == FROZEN[2]
    assert second.tokens.tolist() == FROZEN[3]


def test_an_input_changes_no_other_number() -> None:
    """Adding an input leaves tokens, targets and other inputs alone, and so does asking for more datums."""
    plain = _generated(count=3, lengths=(3,), inputs={"a": GeneratedInput()})
    more = _generated(count=5, lengths=(3,), inputs={"a": GeneratedInput(), "b": GeneratedInput()})
    for one, other in zip(plain, more[:3], strict=True):
        assert np.array_equal(one.tokens, other.tokens)
        for key in one.inputs:
            assert np.array_equal(one.inputs[key].array, other.inputs[key].array)


def test_seeds_and_streams_differ() -> None:
    """Another seed gives other tokens; targets are not the tokens; datums are not each other."""
    one, other = _generated(count=2, lengths=(32,), seed=1), _generated(count=2, lengths=(32,), seed=2)
    assert not np.array_equal(one[0].tokens, other[0].tokens)
    assert not np.array_equal(one[0].tokens, one[0].inputs["target_tokens"].array)
    assert not np.array_equal(one[0].tokens, one[1].tokens)


def test_the_parts_of_a_large_block_are_one_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing in batches gives the numbers of drawing at once."""
    options = {"count": 23, "lengths": (3, 0, 2), "vocab": 64, "candidates": 2}
    whole = _generated(**options)
    monkeypatch.setattr("harness.suite.data._BATCH", 17)
    assert _same(whole, _generated(**options))


def test_distinct_datums_start_with_their_number() -> None:
    """The first token encodes the datum, so that no two are equal."""
    data = _generated(count=2049, lengths=(1, 2), vocab=4096, distinct=True)
    assert [int(datum.tokens[0]) for datum in data] == list(range(2049))


def test_literal_datums_come_first_with_their_dtypes_and_shapes() -> None:
    """Nested targets are 2-D int64, inputs have dtype, shape and container as written, in the order of their names."""
    literal = DatumSpec(
        tokens=(1, 2),
        targets=((3, 4, 5), (6, 7, 8)),
        container="native",
        inputs={
            "weights": InputSpec(values=(1, 2.5), container="list"),
            "k": InputSpec(values=(1, 2, 3, 4), dtype="int64", shape=(2, 2)),
        },
    )
    data = expand(DataSpec(datums=(literal,), generate=(GeneratedData(count=1),)))
    assert len(data) == 2
    assert data[0].tokens.dtype == np.int64
    assert list(data[0].inputs) == ["k", "target_tokens", "weights"]
    targets, k, weights = (data[0].inputs[name] for name in ("target_tokens", "k", "weights"))
    assert (targets.array.shape, targets.array.dtype, targets.container) == ((2, 3), np.int64, "native")
    assert (k.array.shape, k.array.dtype, k.container) == ((2, 2), np.int64, "tensor")
    assert (weights.array.tolist(), weights.array.dtype, weights.container) == ([1.0, 2.5], np.float32, "list")


def test_arrays_cannot_be_changed() -> None:
    """What was expanded once can be handed to several runs."""
    spec = DataSpec(datums=(DatumSpec(tokens=(1,), targets=((1, 2),)),), generate=(GeneratedData(count=1),))
    for datum in expand(spec):
        for array in (datum.tokens, *(value.array for value in datum.inputs.values())):
            assert not array.flags.writeable


def test_many_datums_take_linear_time() -> None:
    """200,000 datums take at most a few times ten times what 20,000 take: the work is linear, measured in CPU time."""

    def cost(count: int) -> float:
        start = time.process_time()
        assert len(_generated(count=count, lengths=(1, 2, 3), inputs={"w": GeneratedInput()})) == count
        return time.process_time() - start

    assert cost(200_000) < 40 * max(cost(20_000), 0.02)
