"""What a caller may write as a regularizer, and what is refused before anything is sent."""

from __future__ import annotations

import functools
import math
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.reference.errors import InvalidInputError
from harness.reference.regularizers.spec import Regularizer, is_async, read_composition, read_regularizers


def _fn(_data, _logprobs):
    return 0.0, {}


async def _async(_data, _logprobs):
    return 0.0, {}


class _Object:
    async def __call__(self, _data, _logprobs):
        return 0.0, {}


def _spec(**changed):
    return {"fn": _fn, "weight": 0.1, "name": "topology", **changed}


def test_a_dict_and_a_regularizer_are_the_same():
    """Both forms may be mixed, and the order is that of the list."""
    own = Regularizer(_fn, 2, "sparsity", run_in_executor=True)
    assert read_regularizers([_spec(), own]) == (Regularizer(_fn, 0.1, "topology"), own)
    assert own.weight == 2.0
    assert isinstance(own.weight, float)


@given(st.text(alphabet="abcdefghijklmnopqrstuvwxyz0123456789_.-", min_size=1, max_size=40))
def test_every_allowed_name_is_accepted(name):
    """1 to 40 of the letters that upstream's metric names allow, without the separator."""
    if name != "base_loss":
        assert read_regularizers([_spec(name=name)])[0].name == name


@pytest.mark.parametrize(
    "name", ["", " ", "Topology", "a/b", "a:sum", "ä", "x" * 41, "a\n", "base_loss", None, 3, b"a"], ids=repr
)
def test_other_names_are_refused(name):
    """Empty, too long, with another letter, reserved, or no text."""
    with pytest.raises(InvalidInputError):
        read_regularizers([_spec(name=name)])


@pytest.mark.parametrize("weight", [0, -0.0, 1, 0.1, 1e30, np.float32(0.5), np.int64(3), Fraction(1, 4)], ids=repr)
def test_weights_are_finite_numbers_from_zero_on(weight):
    """Whatever counts as a real number becomes a float."""
    (found,) = read_regularizers([_spec(weight=weight)])
    assert found.weight == float(weight)


@pytest.mark.parametrize(
    "weight",
    [-1e-9, -math.inf, math.inf, math.nan, "0.1", None, True, 10**400, 1j, Decimal("0.1"), np.ones(1)],
    ids=lambda value: repr(value)[:20],
)
def test_other_weights_are_refused(weight):
    """Negative, not finite, no number; a bool is none."""
    with pytest.raises(InvalidInputError, match="'topology'"):
        read_regularizers([_spec(weight=weight)])


def test_a_negative_weight_says_what_to_do():
    """A reward is a penalty with the other sign."""
    with pytest.raises(InvalidInputError, match="negate what it returns"):
        read_regularizers([_spec(weight=-0.1)])


@pytest.mark.parametrize(
    ("fn", "why"),
    [
        (None, "cannot be called"),
        (lambda _data: (0.0, {}), "with data and logprobs"),
        (lambda _data, _logprobs, _opts: (0.0, {}), "with data and logprobs"),
    ],
    ids=["none", "one", "three"],
)
def test_functions_take_data_and_logprobs(fn, why):
    """A function of another number of arguments is refused at the call, a base loss like a regularizer."""
    with pytest.raises(InvalidInputError, match=why):
        read_regularizers([_spec(fn=fn)])
    if fn is not None:
        with pytest.raises(InvalidInputError, match=why):
            read_composition(fn, [])


def test_functions_that_do_not_tell_are_accepted():
    """A default argument is no obstacle, and neither is a function without a signature."""
    read_regularizers([_spec(fn=lambda _data, _logprobs, _opts=None: (0.0, {})), _spec(fn=max, name="other")])


@pytest.mark.parametrize(
    "specs",
    [
        {"fn": _fn, "weight": 1.0, "name": "a"},
        "topology",
        _fn,
        iter(()),
        [_fn],
        [None],
        [{"fn": _fn, "weight": 1.0}],
        [{"fn": _fn, "name": "a"}],
        [{"weight": 1.0, "name": "a"}],
        [{"fn": _fn, "weight": 1.0, "name": "a", "wieght": 2.0}],
        [{"fn": _fn, "weight": 1.0, "name": "a", "async": True}],
        [{"fn": _fn, "weight": 1.0, "name": "a", "run_in_executor": "yes"}],
    ],
    ids=[
        "a-dict",
        "text",
        "a-function",
        "an-iterator",
        "functions",
        "none",
        "no-name",
        "no-weight",
        "no-fn",
        "unknown-key",
        "async",
        "executor-text",
    ],
)
def test_anything_else_is_refused(specs):
    """No list, no dict, a key too many or too few."""
    with pytest.raises(InvalidInputError):
        read_regularizers(specs)


def test_names_are_unique():
    """Two of a name are refused, and the name is said; the same function under two names is fine."""
    with pytest.raises(InvalidInputError, match="'topology'"):
        read_regularizers([_spec(), _spec(name="other"), _spec(weight=2.0)])
    assert len(read_regularizers([_spec(), _spec(name="other")])) == 2


def test_something_has_to_be_there():
    """Neither a base nor a regularizer is refused, whether there is no list or an empty one; either alone will do."""
    for nothing in (None, [], ()):
        with pytest.raises(InvalidInputError, match="neither"):
            read_composition(None, nothing)
    assert read_composition(_fn, []).regularizers == ()
    assert read_composition(None, [_spec()]).base is None


@pytest.mark.parametrize(
    ("arguments", "reported"),
    [
        ({"regularizers": None}, False),
        ({"regularizers": None, "run_sync_in_executor": True}, False),
        ({"regularizers": None, "track_grad_norms": True}, True),
        ({"regularizers": []}, True),
    ],
    ids=["old", "executor", "norms", "empty"],
)
def test_what_is_reported(arguments, reported):
    """An empty list and tracking norms ask for a report; the executor flag alone asks for nothing."""
    assert read_composition(_fn, **arguments).reported is reported


@pytest.mark.parametrize("timeout", [0, -1.0, math.inf, math.nan, "1", True], ids=repr)
def test_a_timeout_is_a_positive_number_of_seconds(timeout):
    """Anything else is refused; none is no limit."""
    with pytest.raises(InvalidInputError, match="regularizer_timeout"):
        read_composition(_fn, [], timeout=timeout)
    assert read_composition(_fn, []).timeout is None


def test_asynchronous_functions_are_found_out():
    """`async def`, partials of one, objects whose call is one; a function that returns a coroutine cannot be told."""
    found = [_async, functools.partial(_async), functools.partial(functools.partial(_async)), _Object()]
    assert all(map(is_async, found))
    assert is_async(functools.partial(_Object()))
    assert not any(map(is_async, [_fn, functools.partial(_fn), lambda data, lps: _async(data, lps), _Object]))


@pytest.mark.parametrize("fn", [_async, functools.partial(_async), _Object()], ids=["def", "partial", "object"])
def test_an_asynchronous_function_has_no_executor(fn):
    """Asked for explicitly it is refused; the flag of the call does not concern it, and False says nothing new."""
    with pytest.raises(InvalidInputError, match="asynchronous"):
        read_regularizers([_spec(fn=fn, run_in_executor=True)])
    read_regularizers([_spec(fn=fn, run_in_executor=False)])
    read_composition(None, [_spec(fn=fn)], run_sync_in_executor=True)
