"""The composed loss: its value, its gradient, the norms, and that neither order nor tracking changes a bit of it."""

from __future__ import annotations

import asyncio
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from harness.reference.custom_loss import gradients_of
from harness.reference.errors import LossFailedError, NoGradientError, PartFailedError
from harness.reference.regularizers.norms import l2_norm
from harness.reference.regularizers.pipeline import compute

EIGHTHS = st.integers(-40, -1).map(lambda k: k / 8)
LOGPROBS = st.lists(hnp.arrays(np.float32, st.integers(1, 4), elements=EIGHTHS), min_size=1, max_size=4)
WEIGHTS = st.lists(st.sampled_from([0.0, 0.125, 0.1, 0.7, 3.0, 100.0]), min_size=1, max_size=6)


def _compute(logprobs, base=None, regularizers=None, **options):
    arrays = [np.asarray(each, dtype=np.float32) for each in logprobs]
    return asyncio.run(compute([{} for _ in arrays], arrays, base, regularizers, **options))


def _spec(name, weight, fn, **rest):
    return {"fn": fn, "weight": weight, "name": name, **rest}


def _linear(_data, logprobs):
    return sum(each.sum() for each in logprobs), {}


def _power(exponent):
    return lambda _data, logprobs: (sum((each**exponent).sum() for each in logprobs), {})


def _of(number):
    """Return a part with that value and a gradient of ones: the logprobs in the tests below add up to -8."""
    return lambda _data, logprobs: (sum(each.sum() for each in logprobs) + (8.0 + number), {})


MINUS_EIGHT = [[-1.0, -2.0], [-5.0]]


def test_the_designs_own_example():
    """Base 2.5, topology 1.23 times 0.1, sparsity 22.4 times 0.01: regularizers 0.347, in all 2.847."""
    found = _compute(
        MINUS_EIGHT,
        lambda _data, lps: (_of(2.5)(None, lps)[0], {"perplexity": 12.18}),
        [_spec("topology", 0.1, _of(1.23)), _spec("sparsity", 0.01, _of(22.4))],
        track_grad_norms=True,
    )
    report = found.report
    assert report.regularizer_total == pytest.approx(0.347, rel=1e-6)
    assert report.loss_total == pytest.approx(2.847, rel=1e-6)
    assert found.value == pytest.approx(2.847, rel=1e-6)
    assert report.base_loss.value == 2.5
    assert report.base_loss.custom == {"perplexity": 12.18}
    topology, sparsity = report.regularizers["topology"], report.regularizers["sparsity"]
    assert (topology.weight, sparsity.weight) == (0.1, 0.01)
    assert topology.contribution == pytest.approx(0.123, rel=1e-6)
    assert sparsity.contribution == pytest.approx(0.224, rel=1e-6)
    # Each part has a gradient of three ones.
    assert report.base_loss.grad_norm == topology.grad_norm == pytest.approx(math.sqrt(3))
    assert topology.grad_norm_weighted == pytest.approx(0.1 * math.sqrt(3))
    assert report.total_grad_norm == pytest.approx(1.11 * math.sqrt(3), rel=1e-6)
    for gradient in found.gradients:
        assert gradient == pytest.approx(np.full(gradient.shape, 1.11), rel=1e-6)


def test_numbers_that_the_port_was_checked_by():
    """Base -mean over 3 logprobs and L1 times 0.1: norms 0.57735, 1.73205 and 0.173205, in all 0.750555."""
    found = _compute(
        [[-1.0, -2.0, -3.0]],
        lambda _data, lps: (-lps[0].mean(), {}),
        [_spec("l1", 0.1, lambda _data, lps: (lps[0].abs().sum(), {}))],
        track_grad_norms=True,
    ).report
    assert found.base_loss.grad_norm == pytest.approx(0.5773503, rel=1e-6)
    assert found.regularizers["l1"].grad_norm == pytest.approx(1.7320508, rel=1e-6)
    assert found.regularizers["l1"].grad_norm_weighted == pytest.approx(0.17320508, rel=1e-6)
    assert found.total_grad_norm == pytest.approx(math.sqrt(3) * (1 / 3 + 0.1), rel=1e-6)


@given(LOGPROBS, WEIGHTS)
@settings(max_examples=40)
def test_the_composition_is_the_sum_of_its_parts(logprobs, weights):
    """Value and gradient against float64 numpy: base sum(x), regularizers sum(x^k)."""
    found = _compute(
        logprobs,
        _linear,
        [_spec(f"r{k}", weight, _power(k)) for k, weight in enumerate(weights, 1)],
        track_grad_norms=True,
    )
    x = np.concatenate(logprobs).astype(np.float64)
    values = [float((x**k).sum()) for k, _ in enumerate(weights, 1)]
    gradients = [k * x ** (k - 1) for k, _ in enumerate(weights, 1)]
    total = 1.0 + sum(weight * each for weight, each in zip(weights, gradients, strict=True))
    close = {"rtol": 1e-5, "atol": 1e-5 * float(np.abs(gradients).max() * max(1.0, *weights))}
    np.testing.assert_allclose(np.concatenate(found.gradients), total, **close)
    report = found.report
    assert report.regularizer_total == sum(each.contribution for each in report.regularizers.values())
    assert report.loss_total == report.base_loss.value + report.regularizer_total
    for name, value, weight, gradient in zip(report.regularizers, values, weights, gradients, strict=True):
        part = report.regularizers[name]
        assert part.value == pytest.approx(value, rel=1e-5, abs=1e-5)
        assert part.contribution == weight * part.value
        assert part.grad_norm == pytest.approx(float(np.sqrt((gradient**2).sum())), rel=1e-5)
        assert part.grad_norm_weighted == weight * part.grad_norm
    np.testing.assert_allclose(report.total_grad_norm, np.sqrt((total**2).sum()), **close)


@given(LOGPROBS, WEIGHTS, st.randoms(use_true_random=False))
@settings(max_examples=25)
def test_neither_order_of_work_nor_tracking_changes_a_bit(logprobs, weights, random):
    """Synchronous, in threads, asynchronous in any interleaving, with norms or without: bitwise the same gradient."""

    def forms(place, go):
        fn = _power(place + 1)

        async def asynchronous(data, leaves):
            await go[place].wait()
            return fn(data, leaves)

        return fn, asynchronous

    async def run(kinds, order, *, track):
        go = [asyncio.Event() for _ in weights]
        regularizers = [
            _spec(f"r{k}", weight, forms(k, go)[kinds[k] == "async"], run_in_executor=kinds[k] == "thread")
            for k, weight in enumerate(weights)
        ]
        loop = asyncio.get_running_loop()
        for turn, place in enumerate(order):
            # The others are let go one turn of the event loop after the other.
            loop.call_soon(_after, loop, turn, go[place])
        arrays = [each.copy() for each in logprobs]
        return await compute([], arrays, _power(2), regularizers, track_grad_norms=track)

    def _after(loop, turns, event):
        event.set() if turns == 0 else loop.call_soon(_after, loop, turns - 1, event)

    plain = asyncio.run(run(["sync"] * len(weights), range(len(weights)), track=False))
    for _ in range(3):
        kinds = [random.choice(["sync", "thread", "async"]) for _ in weights]
        order = random.sample(range(len(weights)), len(weights))
        other = asyncio.run(run(kinds, order, track=random.choice([False, True])))
        assert [each.tobytes() for each in other.gradients] == [each.tobytes() for each in plain.gradients]
        assert other.report.loss_total == plain.report.loss_total
        assert list(other.report.regularizers) == list(plain.report.regularizers)


@given(LOGPROBS, st.booleans())
@settings(max_examples=25)
def test_a_base_alone_has_the_gradient_of_a_custom_loss(logprobs, track):
    """With an empty list, and with norms tracked, the gradient is bitwise that of a call without regularizers."""
    base = _power(3)
    found = _compute(logprobs, base, [], track_grad_norms=track)
    leaves = [torch.from_numpy(each.copy()).requires_grad_(True) for each in logprobs]
    expected = gradients_of(base(None, leaves)[0], leaves)
    assert [each.tobytes() for each in found.gradients] == [each.tobytes() for each in expected]
    assert found.report.regularizers == {}
    assert found.report.regularizer_total == 0.0
    assert found.report.total_grad_norm == (found.report.base_loss.grad_norm if track else None)
    if track:
        assert found.report.total_grad_norm is not None


def test_a_regularizer_that_cancels_the_base():
    """The total norm is that of the sum, which is 0, not a sum of norms."""
    found = _compute(
        MINUS_EIGHT,
        _power(2),
        [_spec("against", 1.0, lambda data, lps: (-_power(2)(data, lps)[0], {}))],
        track_grad_norms=True,
    )
    assert found.report.total_grad_norm == 0.0
    assert found.report.base_loss.grad_norm == found.report.regularizers["against"].grad_norm > 0
    assert found.report.loss_total == 0.0
    assert all(not each.any() for each in found.gradients)


def test_without_a_base_only_regularizers_contribute():
    """The base is null in the report, and the total is that of the regularizers."""
    found = _compute(MINUS_EIGHT, None, [_spec("a", 2.0, _linear), _spec("b", 0.5, _linear)])
    assert found.report.base_loss is None
    assert found.report.loss_total == found.report.regularizer_total == -20.0
    assert found.report.total_grad_norm is None
    assert [each.tolist() for each in found.gradients] == [[2.5, 2.5], [2.5]]


def test_weights_of_zero_and_large_ones():
    """A weight of zero reports its value and contributes nothing; a large one is not cut."""
    found = _compute(
        MINUS_EIGHT, _linear, [_spec("off", 0.0, _power(2)), _spec("on", 1e6, _linear)], track_grad_norms=True
    )
    off, on = found.report.regularizers["off"], found.report.regularizers["on"]
    assert (off.value, off.contribution, off.grad_norm_weighted) == (30.0, 0.0, 0.0)
    assert off.grad_norm == pytest.approx(2 * math.sqrt(30))
    assert on.contribution == -8e6
    assert [each.tolist() for each in found.gradients] == [[1000001.0, 1000001.0], [1000001.0]]


def test_zero_times_infinity_is_no_number():
    """A weight of zero is arithmetic, not a switch: an infinite value stays to be seen."""
    found = _compute(MINUS_EIGHT, _linear, [_spec("off", 0.0, lambda _data, lps: (lps[0].sum() * math.inf, {}))])
    assert math.isnan(found.report.loss_total)
    assert math.isnan(found.report.regularizers["off"].contribution)


def test_sixty_four_regularizers():
    """As many as one likes, in their order."""
    found = _compute(
        MINUS_EIGHT, None, [_spec(f"r{63 - k}", 1 / 64, _linear) for k in range(64)], track_grad_norms=True
    )
    assert list(found.report.regularizers) == [f"r{63 - k}" for k in range(64)]
    assert [each.tolist() for each in found.gradients] == [[1.0, 1.0], [1.0]]
    assert found.report.total_grad_norm == pytest.approx(math.sqrt(3))


def test_a_part_without_a_gradient():
    """A constant counts for the value and not for the gradient; its norm is null, not 0."""
    found = _compute(
        MINUS_EIGHT,
        lambda _data, _lps: (2.5, {}),
        [_spec("topology", 0.1, lambda _data, _lps: (torch.tensor(1.23), {})), _spec("l", 1.0, _linear)],
        track_grad_norms=True,
    )
    assert found.report.base_loss.grad_norm is None
    assert found.report.regularizers["topology"].grad_norm is None
    assert found.report.regularizers["topology"].grad_norm_weighted is None
    assert found.report.regularizers["l"].grad_norm == found.report.total_grad_norm == pytest.approx(math.sqrt(3))
    assert found.report.loss_total == pytest.approx(2.5 + 0.123 - 8.0)


def test_a_gradient_of_zeros_is_a_gradient():
    """A part that depends on the logprobs, but flatly, has the norm 0."""
    found = _compute(
        MINUS_EIGHT, _linear, [_spec("flat", 1.0, lambda _data, lps: (0.0 * lps[0].sum(), {}))], track_grad_norms=True
    )
    assert found.report.regularizers["flat"].grad_norm == 0.0


def test_a_total_without_a_gradient():
    """It is an error when the sum depends on no logprob, or not on those of one datum, whatever the parts do."""
    with pytest.raises(NoGradientError, match="any logprob"):
        _compute(MINUS_EIGHT, lambda _data, _lps: (2.5, {}), [_spec("c", 1.0, lambda _data, _lps: (1.0, {}))])
    with pytest.raises(NoGradientError, match="datum 1"):
        _compute(MINUS_EIGHT, lambda _data, lps: (lps[0].sum(), {}), [])
    # One part looks at the first datum, another at the second: together they are complete.
    found = _compute(
        MINUS_EIGHT,
        lambda _data, lps: (lps[0].sum(), {}),
        [_spec("b", 3.0, lambda _data, lps: (lps[1].sum(), {}))],
        track_grad_norms=True,
    )
    assert [each.tolist() for each in found.gradients] == [[1.0, 1.0], [3.0]]
    assert found.report.base_loss.grad_norm == pytest.approx(math.sqrt(2))


def test_what_a_part_does_to_its_logprobs_stays_its_own():
    """A part that writes into its logprobs, or differentiates itself, does not disturb the others."""

    def writes(_data, logprobs):
        loss = sum(each.sum() for each in logprobs)
        loss.backward(retain_graph=True)
        for each in logprobs:
            each.data.mul_(100.0)
        return loss, {}

    found = _compute(MINUS_EIGHT, _linear, [_spec("writes", 1.0, writes), _spec("after", 1.0, _linear)])
    assert found.report.regularizers["after"].value == -8.0
    assert [each.tolist() for each in found.gradients] == [[3.0, 3.0], [3.0]]


def test_a_part_may_use_what_another_has_computed():
    """What the base keeps counts where a regularizer uses it: the sum is differentiated as a whole, norms too."""
    kept = []

    def base(_data, logprobs):
        kept.append(sum((each**2).sum() for each in logprobs))
        return kept[0], {}

    found = _compute(MINUS_EIGHT, base, [_spec("again", 0.5, lambda _data, _lps: (kept[0], {}))], track_grad_norms=True)
    assert [each.tolist() for each in found.gradients] == [[-3.0, -6.0], [-15.0]]
    assert found.report.regularizers["again"].grad_norm == pytest.approx(2 * math.sqrt(30))


class _Breaks(torch.autograd.Function):
    @staticmethod
    def forward(_ctx, x):
        return x.clone()

    @staticmethod
    def backward(_ctx, _gradient):
        raise RuntimeError("no way back")


def test_a_part_that_cannot_be_differentiated_is_named():
    """The sum fails backward; the part that fails on its own is to blame, tracked or not."""

    def broken(_data, logprobs):
        return sum(_Breaks.apply(each.sum()) for each in logprobs), {}

    for track in (False, True):
        with pytest.raises(PartFailedError, match=r"'broken'.*no way back") as caught:
            _compute(MINUS_EIGHT, _linear, [_spec("broken", 1.0, broken)], track_grad_norms=track)
        assert isinstance(caught.value, LossFailedError)
        with pytest.raises(PartFailedError, match=r"base loss.*no way back"):
            _compute(MINUS_EIGHT, broken, [_spec("fine", 1.0, _linear)], track_grad_norms=track)


@given(
    st.lists(hnp.arrays(np.float32, st.integers(0, 5), elements=st.floats(-(2.0**60), 2.0**60, width=32)), max_size=5)
)
def test_a_norm_is_that_of_the_concatenation(gradients):
    """However the elements are spread over datums; a missing gradient adds nothing."""
    whole = np.concatenate([np.zeros(0), *gradients]).astype(np.float64)
    assert l2_norm(gradients) == pytest.approx(float(np.sqrt((whole**2).sum())), rel=1e-12)
    assert l2_norm([None, *gradients, None]) == l2_norm(gradients)


def test_norms_of_what_is_no_number():
    """NaN and infinities are not hidden, and float32 numbers do not overflow."""
    assert math.isnan(l2_norm([np.array([1.0, math.nan], np.float32)]))
    assert l2_norm([np.array([math.inf], np.float32)]) == math.inf
    assert l2_norm([np.full(4, 3e38, np.float32)]) == pytest.approx(6e38)


def test_float64_parts_and_logprobs():
    """A part may compute in float64; the gradient comes back in the dtype of the logprobs."""
    found = _compute(
        MINUS_EIGHT, _linear, [_spec("wide", 0.1, lambda _data, lps: (sum(each.double().sum() for each in lps), {}))]
    )
    assert {each.dtype for each in found.gradients} == {np.dtype(np.float32)}
    wide = asyncio.run(compute([], [np.array([-1.0, -2.0])], _linear, []))
    assert wide.gradients[0].dtype == np.float64
