"""Three ways to a gradient, each checked against the other two, and differences against the error they claim."""

from __future__ import annotations

import asyncio
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from harness.reference.errors import InvalidInputError, NoGradientError, PartFailedError
from harness.reference.regularizers.gradients import (
    autograd,
    by_central_differences,
    central_differences,
    check_gradient,
    with_gradient,
)
from harness.reference.regularizers.pipeline import compute

LOGPROBS = st.lists(
    hnp.arrays(np.float64, st.integers(1, 3), elements=st.floats(-6, -0.125, allow_subnormal=False)),
    min_size=1,
    max_size=3,
)


def _torch(term):
    return lambda _data, lps: (sum(term(each).sum() for each in lps), {"n": float(len(lps))})


SMOOTH = {
    "square": (_torch(torch.square), lambda x: 2 * x),
    "entropy": (_torch(lambda x: -torch.exp(x) * x), lambda x: -np.exp(x) * (1 + x)),
    "cube": (_torch(lambda x: x**3), lambda x: 3 * x**2),
    "sine": (_torch(torch.sin), np.cos),
    "linear": (_torch(lambda x: 3 * x), lambda x: np.full_like(x, 3.0)),
}


def _given(name, *, wrong=1.0):
    fn, gradient = SMOOTH[name]

    def with_its_gradient(data, logprobs):
        loss, metrics = fn(data, logprobs)
        return loss.item(), [wrong * gradient(each.detach().numpy()) for each in logprobs], metrics

    return with_gradient(with_its_gradient)


@pytest.mark.parametrize("name", SMOOTH)
@given(logprobs=LOGPROBS)
@settings(max_examples=20)
def test_the_three_ways_agree(name, logprobs):
    """Autograd, differences and the closed form, at random points; the differences within the error they claim."""
    fn, closed = SMOOTH[name]
    found = autograd(fn, [], logprobs)
    given_ones = autograd(_given(name), [], logprobs)
    differences = central_differences(fn, [], logprobs)
    value = fn([], [torch.from_numpy(each) for each in logprobs])[0].item()
    for x, one, other, near, error in zip(
        logprobs, found, given_ones, differences.gradients, differences.errors, strict=True
    ):
        np.testing.assert_allclose(one, closed(x), rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(other, closed(x), rtol=1e-12, atol=1e-12)
        assert np.all(np.abs(near - closed(x)) <= error)
        # What is rounded is the whole loss, whichever element is moved.
        assert np.all(error <= 1e-8 * max(1.0, abs(value), float((np.abs(x) ** 3).max())))


@pytest.mark.parametrize("name", SMOOTH)
@pytest.mark.parametrize("wrong", [-1.0, 0.0, 0.999, 1.001])
def test_a_wrong_gradient_is_found(name, wrong):
    """The sign, nothing at all, a thousandth too much: given so, the check says no, and where and by how much."""
    logprobs = [np.array([-0.5, -1.5]), np.array([-2.5])]
    fn, closed = SMOOTH[name]
    assert check_gradient(fn, [], logprobs).agrees
    assert check_gradient(_given(name), [], logprobs).agrees
    found = check_gradient(_given(name, wrong=wrong), [], logprobs)
    assert not found.agrees
    datum, element = found.worst
    assert found.expected == pytest.approx(closed(logprobs[datum])[element], abs=1e-6)
    assert found.found == pytest.approx(wrong * found.expected, abs=1e-6)
    assert abs(found.found - found.expected) > 4 * found.error


def test_the_error_grows_with_the_step():
    """With a step that is too large the truncation shows: for x^3 it is h^2."""
    found = central_differences(SMOOTH["cube"][0], [], [np.array([-1.0])], step=0.1)
    assert found.gradients[0][0] == pytest.approx(3.0 + 0.01)
    assert 0.01 <= found.errors[0][0] == pytest.approx(0.03, rel=1e-6)


def test_a_loss_in_float32_has_the_error_of_float32():
    """What rounds its loss gets a larger step and a larger error, and stays within it."""

    def rounded(_data, logprobs):
        return sum((each.float() ** 2).sum() for each in logprobs), {}

    x = np.array([-0.5, -1.5, -3.0])
    found = central_differences(rounded, [], [x])
    assert np.all(np.abs(found.gradients[0] - 2 * x) <= found.errors[0])
    assert np.all(found.errors[0] > 1e-5)
    assert check_gradient(rounded, [], [x]).agrees


def test_a_function_that_autograd_cannot_follow():
    """Numpy inside: autograd finds nothing, differences find the gradient, and it is weighted and added like any."""

    def in_numpy(_data, logprobs):
        x = np.concatenate([each.detach().numpy() for each in logprobs])
        return float(np.sum(x**2)), {"n": x.size}

    x = [np.array([-1.0, -2.0], np.float32), np.array([-4.0], np.float32)]
    with pytest.raises(NoGradientError):
        autograd(in_numpy, [], x)
    found = asyncio.run(
        compute(
            [],
            x,
            _torch(lambda each: each),
            [{"fn": by_central_differences(in_numpy), "weight": 0.5, "name": "numpy"}],
            track_grad_norms=True,
        )
    )
    assert [each.dtype for each in found.gradients] == [np.dtype(np.float32)] * 2
    np.testing.assert_allclose(np.concatenate(found.gradients), [0.0, -1.0, -3.0], atol=1e-5)
    report = found.report.regularizers["numpy"]
    assert (report.value, report.custom) == (21.0, {"n": 3.0})
    assert report.grad_norm == pytest.approx(2 * math.sqrt(21), rel=1e-5)


def test_a_given_gradient_is_weighted_and_added():
    """It is taken as it is, wrong or not: 100 times the weight is 100 times the gradient."""
    x = [np.array([-1.0, -2.0], np.float32)]
    for weight in (1.0, 100.0):
        found = asyncio.run(
            compute([], x, None, [{"fn": _given("square", wrong=-1.0), "weight": weight, "name": "mine"}])
        )
        assert found.gradients[0].tolist() == [2.0 * weight, 4.0 * weight]
        assert found.report.regularizers["mine"].value == 5.0


@pytest.mark.parametrize(
    "gradients", [[], [np.zeros(2)] * 2, [np.zeros(3)], [np.zeros((2, 1))], [None], ["no"]], ids=lambda x: str(x)[:20]
)
def test_a_given_gradient_has_the_shape_of_the_logprobs(gradients):
    """Otherwise the regularizer has failed."""
    fn = with_gradient(lambda _data, _lps: (1.0, gradients, {}))
    with pytest.raises(PartFailedError, match="'mine'"):
        asyncio.run(compute([], [np.array([-1.0, -2.0])], None, [{"fn": fn, "weight": 1.0, "name": "mine"}]))


def test_shapes_and_empty_datums():
    """Logprobs of two dimensions and of no elements: gradients have their shape."""
    x = [np.array([[-1.0, -2.0], [-3.0, -4.0]]), np.zeros(0)]
    fn = SMOOTH["square"][0]
    for found in (autograd(fn, [], x), central_differences(fn, [], x).gradients):
        assert [each.shape for each in found] == [(2, 2), (0,)]
        np.testing.assert_allclose(found[0], 2 * x[0], atol=1e-6)
    assert check_gradient(fn, [], x).agrees
    assert check_gradient(_torch(torch.square), [], [np.zeros(0)]).worst is None


def test_datums_that_a_loss_does_not_look_at():
    """Their gradient is zero, by autograd and by differences."""
    fn = lambda _data, lps: (lps[0].square().sum(), {})  # noqa: E731
    x = [np.array([-1.0]), np.array([-2.0])]
    assert [each.tolist() for each in autograd(fn, [], x)] == [[-2.0], [0.0]]
    assert central_differences(fn, [], x).gradients[1].tolist() == [0.0]
    assert check_gradient(fn, [], x).agrees


def test_a_loss_that_is_no_number_agrees_with_nothing():
    """NaN is not within any error."""
    assert not check_gradient(_torch(lambda x: x * math.nan), [], [np.array([-1.0])]).agrees


LAYOUTS = {
    "transposed": lambda: np.asfortranarray(np.array([[-1.0, -2.0, -3.0], [-4.0, -5.0, -6.0]], np.float32)),
    "every other": lambda: np.array([-1.0, 9.0, -2.0, 9.0], np.float32)[::2],
    "backwards": lambda: np.array([-1.0, -2.0, -3.0], np.float32)[::-1],
    "tensor": lambda: torch.tensor([[-1.0, -2.0, -3.0], [-4.0, -5.0, -6.0]]).T,
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_layout_in_memory_does_not_matter(layout):
    """Differences, autograd and given gradients of arrays that are not row-major, or run backwards."""

    def square(_data, logprobs):
        return sum((each**2).sum() for each in logprobs), {}

    x = LAYOUTS[layout]()
    expected = 2 * np.asarray(x.numpy() if isinstance(x, torch.Tensor) else x)
    np.testing.assert_allclose(central_differences(square, [], [x]).gradients[0], expected, rtol=1e-6)
    assert check_gradient(square, [], [x]).agrees
    backwards = with_gradient(
        lambda _data, logprobs: (1.0, [(2 * each.detach().numpy())[::-1].copy()[::-1] for each in logprobs], {})
    )
    for fn in (square, by_central_differences(square), backwards):
        found = asyncio.run(compute([], [x], None, [{"fn": fn, "weight": 1.0, "name": "r"}]))
        np.testing.assert_allclose(found.gradients[0], expected, rtol=1e-5)


def test_logprobs_without_a_gradient_are_refused():
    """Whole numbers have none; the error says which datum."""
    with pytest.raises(InvalidInputError, match="datum 1 are int64"):
        asyncio.run(compute([], [np.zeros(1, np.float32), np.zeros(1, np.int64)], _torch(lambda each: each)))


def test_a_given_gradient_is_copied():
    """Two regularizers may fill the same array; a loss that has a gradient only gives its number."""
    buffer = np.zeros(2, np.float32)

    def filling(number):
        def fn(_data, logprobs):
            buffer[:] = number
            return logprobs[0].sum(), [buffer], {}

        return with_gradient(fn)

    specs = [{"fn": filling(number), "weight": 1.0, "name": f"n{number}"} for number in (1, 10)]
    found = asyncio.run(compute([], [np.array([-1.0, -2.0], np.float32)], None, specs, track_grad_norms=True))
    assert found.gradients[0].tolist() == [11.0, 11.0]
    assert found.report.regularizers["n1"].grad_norm == pytest.approx(math.sqrt(2))


def test_an_empty_first_datum_does_not_hide_the_rounding():
    """The error counts the loss's own dtype, which is looked up at the first datum that has an element."""

    def rounded(_data, logprobs):
        return sum((each.float() ** 2).sum() for each in logprobs), {}

    x = np.array([-1.0, -2.0])
    alone = central_differences(rounded, [], [x])
    behind = central_differences(rounded, [], [np.zeros(0), x])
    assert behind.errors[1].tolist() == alone.errors[0].tolist()


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        ((True, [np.zeros(2)]), "its loss is a bool"),
        (("2.5", [np.zeros(2)]), "its loss is a str"),
        ((1.0, [np.zeros(2, np.complex64)]), "complex"),
    ],
    ids=["bool", "text", "complex"],
)
def test_what_is_given_is_numbers(returned, said):
    """A truth value or a text is no loss, a complex gradient none of real logprobs."""
    fn = with_gradient(lambda *_: (*returned, {}))
    with pytest.raises(PartFailedError, match=f"'mine': .*{said}"):
        asyncio.run(compute([], [np.zeros(2, np.float32)], None, [{"fn": fn, "weight": 1.0, "name": "mine"}]))


@pytest.mark.parametrize("way", [with_gradient, by_central_differences])
def test_ways_to_a_gradient_take_synchronous_functions(way):
    """An asynchronous one is refused where it is handed over, not in the middle of a call."""

    async def later(_data, logprobs):
        return logprobs[0].sum(), {}

    with pytest.raises(InvalidInputError, match="'later' is asynchronous"):
        way(later)
