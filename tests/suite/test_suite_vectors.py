"""Files of operation vectors come back as they were written."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from harness.suite.losses.vectors import Expected, Vector, dump_vectors, load_vectors

numbers = st.floats(allow_nan=False, allow_infinity=False)
names = st.text(max_size=8)
plain: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | numbers | names,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)
vectors = st.builds(
    Vector,
    name=names,
    case=st.dictionaries(names, plain, max_size=3),
    expected=st.builds(
        Expected,
        loss=numbers,
        metrics=st.dictionaries(names, numbers, max_size=3),
        gradients=st.lists(st.none() | st.lists(numbers, max_size=4).map(tuple), max_size=3).map(tuple),
    ),
)


@given(st.lists(vectors, min_size=1, max_size=4))
def test_vectors_come_back_bit_for_bit(written: list[Vector]) -> None:
    """Names, cases, numbers and missing gradients survive the file, in their order."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "one.json").write_text(dump_vectors(written), "utf-8")
        read = load_vectors(Path(folder))
    assert read == tuple(written)
    assert dump_vectors(read) == dump_vectors(written)
