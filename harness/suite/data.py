"""Datums from their specification: literal ones, and ones drawn from a counter-based generator.

The generator is a pure function of four unsigned 64-bit counters; anyone can recompute any number of it alone:

    mix(x):  x += 0x9E3779B97F4A7C15
             x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9
             x = (x ^ (x >> 27)) * 0x94D049BB133111EB
             return x ^ (x >> 31)                           (splitmix64; everything modulo 2**64)
    word(seed, stream, datum, position) = mix(mix(mix(mix(seed) + stream) + datum) + position)
    below(n) = ((word >> 32) * n) >> 32                     (a whole number in [0, n), n <= 2**32)

`stream` is 0 for tokens, 1 for target_tokens, and for any other input the first 8 bytes of the SHA-256 of its name,
big-endian, so that adding an input changes no other number. `datum` counts from 0 in each `generate` block.
`position` counts elements row-major. A generated input value is `(k + below(m)) / 8` where `k / 8` is the smallest
multiple of 1/8 that is at least `low`, and `m` the number of multiples of 1/8 in [low, high]: exact in float32.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.errors import ParityError
from harness.suite.scenario import Container, DataSpec, DatumSpec, GeneratedData, GeneratedInput, InputSpec

TARGETS = "target_tokens"

_DTYPES: dict[str, Any] = {"float32": np.float32, "int64": np.int64}
_INT64 = np.iinfo(np.int64)
_FLOAT32_MAX = float(np.finfo(np.float32).max)
_TOKENS, _TARGET_TOKENS = 0, 1
# How many elements are drawn at once: bounds the memory of the intermediate uint64 arrays.
_BATCH = 1 << 20


@dataclass(frozen=True, slots=True)
class InputValue:
    """One entry of loss_fn_inputs: a float32 or int64 array in its shape, and how the caller hands it over."""

    array: NDArray[Any]
    container: Container


@dataclass(frozen=True, slots=True)
class DatumValue:
    """One datum: its tokens (int64, 1-D) and its loss_fn_inputs, in the order of their names.

    Arrays are read-only.
    """

    tokens: NDArray[np.int64]
    inputs: dict[str, InputValue]


def expand(spec: DataSpec, *, place: str = "data") -> tuple[DatumValue, ...]:
    """Return the datums of `spec`: the literal ones, then each generated block, in order.

    `place` names the specification in errors. Raises ParityError `data-invalid`. Linear in the number of tokens.
    """
    check(spec, place=place)
    literal = [_literal(datum, f"{place}.datums[{index}]") for index, datum in enumerate(spec.datums)]
    return (*literal, *(datum for block in spec.generate for datum in _generated(block)))


def check(spec: DataSpec, *, place: str = "data") -> None:
    """Raise ParityError `data-invalid` if `spec` cannot be expanded. Draws no numbers."""
    for index, datum in enumerate(spec.datums):
        _literal(datum, f"{place}.datums[{index}]")
    for index, block in enumerate(spec.generate):
        _check_generated(block, f"{place}.generate[{index}]")
    some = bool(spec.datums) or any(block.count for block in spec.generate)
    if some and spec.empty:
        raise _invalid(f"{place}.empty", "there are datums")
    if not some and not spec.empty:
        raise _invalid(place, "there is no datum, and `empty` does not say that this is meant")


def _invalid(place: str, what: str) -> ParityError:
    return ParityError("data-invalid", f"{place}: {what}", hint="correct the data of the scenario")


def _frozen(array: NDArray[Any]) -> NDArray[Any]:
    array.flags.writeable = False
    return array


# --- literal datums ---------------------------------------------------------------------------------------------------


def _literal(spec: DatumSpec, place: str) -> DatumValue:
    inputs: dict[str, InputValue] = {}
    if spec.targets is not None:
        if TARGETS in spec.inputs:
            raise _invalid(f"{place}.inputs", f"{TARGETS} is given twice: here and as `targets`")
        inputs[TARGETS] = InputValue(_targets(spec.targets, f"{place}.targets"), spec.container)
    for name in spec.inputs:
        inputs[name] = _literal_input(spec.inputs[name], f"{place}.inputs.{name}")
    return DatumValue(_integers(spec.tokens, f"{place}.tokens"), {name: inputs[name] for name in sorted(inputs)})


def _integers(values: tuple[Any, ...], place: str) -> NDArray[np.int64]:
    for index, value in enumerate(values):
        if not _INT64.min <= value <= _INT64.max:
            raise _invalid(f"{place}[{index}]", f"{value} does not fit in int64")
    return _frozen(np.array(values, dtype=np.int64))


def _targets(targets: tuple[int | tuple[int, ...], ...], place: str) -> NDArray[np.int64]:
    rows = [row for row in targets if isinstance(row, tuple)]
    if not rows:
        return _integers(targets, place)
    if len(rows) != len(targets):
        raise _invalid(place, "numbers and lists are mixed: give all numbers (1-D) or all lists (2-D)")
    width = len(rows[0])
    for index, row in enumerate(rows):
        if len(row) != width:
            raise _invalid(f"{place}[{index}]", f"{len(row)} values, but the first row has {width}")
    flat = _integers(tuple(value for row in rows for value in row), place)
    return _frozen(flat.reshape(len(rows), width))


def _literal_input(spec: InputSpec, place: str) -> InputValue:
    shape = (len(spec.values),) if spec.shape is None else spec.shape
    if any(size < 0 for size in shape):
        raise _invalid(f"{place}.shape", f"{list(shape)} has a negative size")
    if math.prod(shape) != len(spec.values):
        raise _invalid(
            f"{place}.shape", f"{list(shape)} holds {math.prod(shape)} values, but there are {len(spec.values)}"
        )
    if spec.dtype == "int64":
        for index, value in enumerate(spec.values):
            if not isinstance(value, int):
                raise _invalid(f"{place}.values[{index}]", f"{value} is not a whole number, but the dtype is int64")
        return InputValue(_integers(spec.values, f"{place}.values").reshape(shape), spec.container)
    for index, value in enumerate(spec.values):
        if math.isfinite(value) and abs(value) > _FLOAT32_MAX:
            raise _invalid(f"{place}.values[{index}]", f"{value} does not fit in float32")
    return InputValue(_frozen(np.array(spec.values, dtype=_DTYPES[spec.dtype]).reshape(shape)), spec.container)


# --- generated datums -------------------------------------------------------------------------------------------------


def _check_generated(block: GeneratedData, place: str) -> None:
    if block.count < 0:
        raise _invalid(f"{place}.count", f"{block.count} is negative")
    if not block.lengths:
        raise _invalid(f"{place}.lengths", "there is no length")
    for index, length in enumerate(block.lengths):
        if length < 0:
            raise _invalid(f"{place}.lengths[{index}]", f"{length} is negative")
        if length == 0 and block.distinct:
            raise _invalid(f"{place}.lengths[{index}]", "a datum without tokens cannot be distinct")
    if not 0 < block.vocab <= 1 << 32:
        raise _invalid(f"{place}.vocab", f"{block.vocab} is not in [1, 2**32]")
    if block.distinct and block.vocab <= block.count:
        raise _invalid(
            f"{place}.vocab", f"distinct needs a vocab above the count {block.count}, but it is {block.vocab}"
        )
    if not 0 <= block.seed < 1 << 63:
        raise _invalid(f"{place}.seed", f"{block.seed} is not in [0, 2**63)")
    if block.candidates < 0:
        raise _invalid(f"{place}.candidates", f"{block.candidates} is negative")
    for name, spec in block.inputs.items():
        if name == TARGETS:
            raise _invalid(f"{place}.inputs.{name}", "target_tokens are always generated")
        if spec.constant is not None:
            if math.isfinite(spec.constant) and abs(spec.constant) > _FLOAT32_MAX:
                raise _invalid(f"{place}.inputs.{name}.constant", f"{spec.constant} does not fit in float32")
        else:
            _eighths(spec, f"{place}.inputs.{name}")


def _eighths(spec: GeneratedInput, place: str) -> tuple[int, int]:
    """Return the smallest multiple of 1/8 in [low, high], times 8, and how many there are."""
    # Beyond 2**20 a multiple of 1/8 would not be exact in float32.
    if not (abs(spec.low) <= 1 << 20 and abs(spec.high) <= 1 << 20):
        raise _invalid(place, f"[{spec.low}, {spec.high}] is not within [-2**20, 2**20]")
    first, last = math.ceil(spec.low * 8), math.floor(spec.high * 8)
    if last < first:
        raise _invalid(place, f"there is no multiple of 1/8 in [{spec.low}, {spec.high}]")
    return first, last - first + 1


_U64 = np.uint64


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    x = x + _U64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> _U64(30))) * _U64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> _U64(27))) * _U64(0x94D049BB133111EB)
    return x ^ (x >> _U64(31))


def words(seed: int, stream: int, datum: NDArray[np.uint64], position: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Compute `word(seed, stream, datum, position)` of the module's description, element by element."""
    start = _mix(_mix(np.array([seed], dtype=_U64)) + _U64(stream))
    return _mix(_mix(start + datum) + position)


def stream_of(name: str) -> int:
    """Return the stream of a generated input."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")


def _below(n: int, drawn: NDArray[np.uint64]) -> NDArray[np.int64]:
    return (((drawn >> _U64(32)) * _U64(n)) >> _U64(32)).astype(np.int64)


def _generated(block: GeneratedData) -> Iterator[DatumValue]:
    cycle = np.array(block.lengths, dtype=np.int64)
    width = max(block.candidates, 1)
    step = max(1, _BATCH // max(1, int(cycle.max()) * width))
    for start in range(0, block.count, step):
        datums = np.arange(start, min(start + step, block.count), dtype=np.int64)
        yield from _batch(block, datums, cycle[datums % len(cycle)])


def _batch(block: GeneratedData, datums: NDArray[np.int64], lengths: NDArray[np.int64]) -> Iterator[DatumValue]:
    token_ends, (token_datum, token_position) = np.cumsum(lengths), _counters(datums, lengths)
    tokens = _below(block.vocab, words(block.seed, _TOKENS, token_datum, token_position))
    if block.distinct:
        tokens[token_ends - lengths] = datums
    sizes = lengths * max(block.candidates, 1)
    ends, (datum, position) = np.cumsum(sizes), _counters(datums, sizes)
    arrays: dict[str, tuple[NDArray[Any], Container]] = {
        TARGETS: (_below(block.vocab, words(block.seed, _TARGET_TOKENS, datum, position)), block.container)
    }
    for name, spec in block.inputs.items():
        if spec.constant is not None:
            values = np.full(len(datum), spec.constant, dtype=np.float32)
        else:
            first, count = _eighths(spec, name)
            drawn = _below(count, words(block.seed, stream_of(name), datum, position))
            values = ((drawn + first) / 8).astype(np.float32)
        arrays[name] = (values, spec.container)
    _frozen(tokens)
    ordered = [(name, *arrays[name]) for name in sorted(arrays)]
    for _, array, _ in ordered:
        _frozen(array)
    # Plain integers: slicing with numpy's is several times slower, and there may be 200,000 datums.
    for length, token_end, size, end in zip(
        lengths.tolist(), token_ends.tolist(), sizes.tolist(), ends.tolist(), strict=True
    ):
        shape = (length, block.candidates) if block.candidates else (length,)
        inputs = {name: InputValue(array[end - size : end].reshape(shape), how) for name, array, how in ordered}
        yield DatumValue(tokens[token_end - length : token_end], inputs)


def _counters(datums: NDArray[np.int64], sizes: NDArray[np.int64]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Return the datum and the position of every element of datums of these sizes, concatenated."""
    datum = np.repeat(datums, sizes).astype(_U64)
    starts = np.repeat(np.cumsum(sizes) - sizes, sizes)
    return datum, (np.arange(len(datum)) - starts).astype(_U64)
