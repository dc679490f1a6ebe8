"""Tensors on the driver's line: what goes out comes back, bit by bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from harness.drivers import wire
from harness.drivers.protocol import WireDatum, WireTensor
from harness.drivers.python import spelling
from harness.suite.data import DatumValue, InputValue

SHAPES = arrays.array_shapes(min_dims=1, max_dims=2, min_side=0, max_side=40)
ANY_ARRAY = st.sampled_from(["float32", "int64", "float64", "int32", "bool"]).flatmap(
    lambda dtype: arrays.arrays(dtype, SHAPES)
)


def bits(array: np.ndarray[Any, Any]) -> tuple[str, tuple[int, ...], bytes]:
    """Everything that makes an array what it is. NaN has one spelling, so its payload does not count."""
    if array.dtype.kind == "f":
        array = np.where(np.isnan(array), np.array(np.nan, array.dtype), array)
    return array.dtype.name, array.shape, array.tobytes()


@given(array=ANY_ARRAY)
def test_an_inline_array_survives_the_line(array: np.ndarray[Any, Any]) -> None:
    """dtype, shape and every bit survive strict JSON, NaN, infinities, -0.0 and large integers included."""
    encoded = wire.DataEncoder(Path("unused")).tensor(array[:1])
    line = msgspec.json.encode(encoded)
    json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert bits(wire.decode_tensor(msgspec.json.decode(line, type=WireTensor))) == bits(array[:1])


@given(values=st.lists(st.integers(-(2**63), 2**63 - 1), max_size=9))
def test_integers_survive_a_reader_of_floats(values: list[int]) -> None:
    """Every integer on the line is a string or exact as a float64."""
    spelled = spelling.spell(np.array(values, dtype=np.int64))
    through_floats = [value if isinstance(value, str) else float(value) for value in spelled]
    assert spelling.unspell(through_floats, "int64").tolist() == values


@given(array=arrays.arrays(np.float32, SHAPES))
def test_numbers_are_spelled_for_strict_json(array: np.ndarray[Any, Any]) -> None:
    """The sign of zero, NaN and the infinities are strings; everything else is a number of the same value."""
    for value, spelled in zip(array.reshape(-1).tolist(), spelling.spell(array), strict=True):
        if isinstance(spelled, str):
            assert spelled in {"NaN", "Infinity", "-Infinity", "-0.0"}
        assert bits(np.array([spelled], dtype=np.float64)) == bits(np.array([value]))


@given(
    sizes=st.lists(st.integers(0, 3000), min_size=1, max_size=6),
    container=st.sampled_from(["tensor", "native", "list"]),
)
def test_datums_survive_with_large_arrays_in_one_file(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], container: Any
) -> None:
    """Arrays above the limit share one file at different offsets; small ones stay on the line; all come back."""
    file = tmp_path_factory.mktemp("wire") / "run.bin"
    datums = [
        DatumValue(
            tokens=np.arange(size, dtype=np.int64) + 2**60,
            inputs={"weights": InputValue(array=np.full((size, 1), -0.0, np.float32), container=container)},
        )
        for size in sizes
    ]
    encoder = wire.DataEncoder(file)
    encoded = msgspec.json.encode(encoder.data({"d": datums}))
    encoder.save()
    decoded = msgspec.json.decode(encoded, type=dict[str, list[WireDatum]])["d"]
    assert file.exists() is any(size > wire.INLINE_ELEMENTS for size in sizes)
    for datum, wired in zip(datums, decoded, strict=True):
        again = wire.decode_datum(wired)
        assert bits(again.tokens) == bits(datum.tokens)
        assert bits(again.inputs["weights"].array) == bits(datum.inputs["weights"].array)
        assert again.inputs["weights"].container == container
        assert (wired.tokens.file is not None) is (datum.tokens.size > wire.INLINE_ELEMENTS)


def test_a_line_does_not_grow_without_end(tmp_path: Path) -> None:
    """When many small arrays have filled the line, further ones go into the file."""
    encoder = wire.DataEncoder(tmp_path / "run.bin")
    small = np.zeros(wire.INLINE_ELEMENTS, dtype=np.float32)
    encoded = [encoder.tensor(small) for _ in range(wire.INLINE_TOTAL // wire.INLINE_ELEMENTS + 1)]
    assert [tensor.file is None for tensor in encoded] == [True] * (len(encoded) - 1) + [False]


@pytest.mark.parametrize(
    ("tensor", "complaint"),
    [
        (WireTensor("float32", [2], data=[1.0]), "1 elements do not fit"),
        (WireTensor("float32", [1]), "either data or file"),
        (WireTensor("float32", [1], data=[1.0], file="x"), "either data or file"),
        (WireTensor("complex64", [1], data=[1.0]), "dtype 'complex64' is none of"),
        (WireTensor("complex64", [1], file="x"), "dtype 'complex64' is none of"),
        (WireTensor("int64", [1], data=[1.5]), "a fraction"),
        (WireTensor("int64", [1], data=["NaN"]), "invalid literal"),
        (WireTensor("int32", [1], data=[2**40]), "outside int32"),
        (WireTensor("float32", [1], data=["many"]), "could not convert"),
    ],
)
def test_a_bad_tensor_is_refused(tensor: WireTensor, complaint: str) -> None:
    """What cannot be meant is refused, not guessed."""
    with pytest.raises(ValueError, match=complaint):
        wire.decode_tensor(tensor)


def test_a_file_that_is_too_short_is_refused(tmp_path: Path) -> None:
    """A file that ends before the tensor does is an error."""
    (tmp_path / "short").write_bytes(b"\0" * 7)
    with pytest.raises(ValueError, match="1 elements do not fit"):
        wire.decode_tensor(WireTensor("float32", [2], file=str(tmp_path / "short")))


def test_a_summary_describes_the_values_in_the_named_dtype() -> None:
    """The digest is over the converted little-endian bytes; at most eight first values are spelled."""
    summary = wire.summarise(np.array([[1.0, -0.0], [np.nan, 2.5]]), dtype="float32")
    assert (summary.dtype, summary.shape) == ("float32", [2, 2])
    assert summary.first == [1.0, "-0.0", "NaN", 2.5]
    same = wire.summarise(np.array([1.0, -0.0, np.nan, 2.5], dtype=np.float32), shape=[2, 2])
    assert same == summary
    assert wire.summarise(np.arange(9)).first == list(range(8))
    negative_nan = np.array([0xFFC00001], dtype=np.uint32).view(np.float32)
    assert wire.summarise(negative_nan) == wire.summarise(np.array([np.nan], dtype=np.float32))
    # SHA-256 of 00 00 80 3f, the float32 1.0
    one = "e00e5eb9444182f352323374ef4e08ebcb784725fdd4fd612d7730540b3e0c8c"
    assert wire.summarise(np.array([1.0]), dtype="float32").digest == one
