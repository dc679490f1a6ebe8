"""What callers hand over, and how it is held."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from harness.reference.errors import InvalidInputError
from harness.reference.values import accept_nested, csr_if_smaller, datum_from, dense, refuse_nested
from harness.suite.data import DatumValue, InputValue

MATRICES = hnp.arrays(
    np.float32, hnp.array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=6), elements=st.sampled_from([0, 0, 0, 1])
)


@given(MATRICES)
def test_csr_holds_the_same_numbers(array):
    """Sparse or not, the dense numbers are the caller's; rows are stored only where that takes fewer numbers."""
    held = csr_if_smaller(array)
    assert np.array_equal(held.dense(), array.reshape(-1))
    rows, columns = array.shape
    smaller = rows + 1 + 2 * np.count_nonzero(array) < rows * columns
    assert (held.crow is not None) == smaller


def test_csr_layout():
    """Row pointers, column indices and values of a matrix worked out by hand; -0.0 is not stored."""
    held = csr_if_smaller(np.array([[0, 0, 0, 0], [0, -3, 0, -0.0], [0, 0, 0, 0], [0, 0, 2, 0]], dtype=np.float32))
    assert held.values.tolist() == [-3.0, 2.0]
    assert held.crow.tolist() == [0, 0, 1, 1, 2]
    assert held.col.tolist() == [1, 2]
    assert held.shape == (4, 4)


def test_one_dimension_is_never_sparse():
    """Only two-dimensional tensors have rows."""
    assert csr_if_smaller(np.zeros(100, dtype=np.float32)).crow is None


def _datum(key, array, container, **strategies):
    value = DatumValue(tokens=np.array([1]), inputs={key: InputValue(np.asarray(array), container)})
    chosen = {"sparse": csr_if_smaller, "nested": accept_nested, **strategies}
    return datum_from(value, **chosen).inputs[key]


def test_a_list_takes_its_dtype_from_its_key():
    """Whole numbers under weights become float32, under target_tokens int64."""
    assert _datum("weights", [1, 0], "list").dtype == "float32"
    assert _datum("weights", [1, 0], "list").values.dtype == np.float32
    assert _datum("target_tokens", [1, 0], "list").dtype == "int64"


def test_a_list_of_another_name_has_no_dtype():
    """A plain list under a name that is not known is refused; a tensor of that name is not."""
    with pytest.raises(InvalidInputError):
        _datum("mask", [1.0], "list")
    assert _datum("mask", np.array([1.0], dtype=np.float32), "tensor").dtype == "float32"


def test_nested_lists_are_refused_or_accepted():
    """Up to 0.15.0 a list must be flat."""
    with pytest.raises(InvalidInputError):
        _datum("target_tokens", [[1, 2]], "list", nested=refuse_nested)
    assert _datum("target_tokens", [[1, 2]], "list").shape == (1, 2)
    assert _datum("target_tokens", [1, 2], "list", nested=refuse_nested).shape == (2,)


def test_only_native_tensors_under_two_names_can_be_sparse():
    """The SDK's own container, lists and other names stay dense."""
    zeros = np.zeros((4, 6), dtype=np.float32)
    assert _datum("weights", zeros, "native").crow is not None
    assert _datum("weights", zeros, "native", sparse=dense).crow is None
    assert _datum("weights", zeros, "tensor").crow is None
    assert _datum("weights", zeros, "list").crow is None
    assert _datum("advantages", zeros, "native").crow is None
