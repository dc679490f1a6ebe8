"""The custom loss: leaves, gradients, weights, and what cannot be used."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from harness.reference.custom_loss import (
    as_given,
    as_sent,
    call_loss,
    declared_dtype,
    declared_shape,
    flat_shape,
    gradients_of,
    linearize,
    make_leaves,
    negated,
    read_loss,
    strict,
    targets_and_weights,
    truncating,
)
from harness.reference.errors import (
    BadOutputError,
    InvalidInputError,
    LossFailedError,
    NoGradientError,
    NotScalarError,
)
from harness.reference.values import Datum, TensorValue, dense

LOGPROBS = st.lists(
    hnp.arrays(np.float32, st.integers(1, 5), elements=st.integers(-40, -1).map(lambda k: k / 8)),
    min_size=1,
    max_size=4,
)


def _datum(count=2, **inputs):
    given_inputs = {"target_tokens": dense(np.arange(count)), **inputs}
    return Datum(tokens=np.arange(count), inputs=given_inputs)


def _outputs(*arrays):
    return [{"logprobs": dense(np.asarray(array, dtype=np.float32))} for array in arrays]


def _leaves(*arrays, shape=declared_shape, numbers=declared_dtype):
    return make_leaves(_outputs(*arrays), shape=shape, numbers=numbers)


def _weights(data):
    return [datum.inputs["weights"].dense().tolist() for datum in data]


@given(LOGPROBS, st.randoms(use_true_random=False))
def test_the_linear_loss_has_the_gradient_of_the_custom_one(logprobs, random):
    """sum(-logprob * weight), differentiated by torch under the weights made, gives back the custom gradient."""
    leaves = _leaves(*logprobs)
    factors = [random.randint(1, 8) / 8 for _ in leaves]
    loss = sum(factor * (leaf**2).sum() for factor, leaf in zip(factors, leaves, strict=True))
    gradients = gradients_of(loss, leaves)
    pairs = strict([_datum(leaf.numel()) for leaf in leaves], gradients)
    backward = linearize(pairs, sparse=dense, weigh=negated)
    fresh = _leaves(*logprobs)
    linear = sum((-leaf * torch.tensor(w)).sum() for leaf, w in zip(fresh, _weights(backward), strict=True))
    again = gradients_of(linear, fresh)
    for one, other in zip(gradients, again, strict=True):
        assert np.array_equal(one, other)
    for datum in backward:
        assert set(datum.inputs) == {"target_tokens", "weights"}
        assert datum.inputs["weights"].dtype == "float32"


def test_literal_weights():
    """The sum gives -1 everywhere; loss = -lp[-1] gives [0, 0, 1]; a gradient of [0.1, 0.2, 0.3] gives its negative."""
    for loss_of, expected in (
        (lambda leaf: leaf.sum(), [-1.0, -1.0, -1.0]),
        (lambda leaf: -leaf[-1], [0.0, 0.0, 1.0]),
        (lambda leaf: (leaf * torch.tensor([0.1, 0.2, 0.3])).sum(), np.float32([-0.1, -0.2, -0.3]).tolist()),
    ):
        (leaf,) = _leaves([-1.0, -2.0, -3.0])
        pairs = strict([_datum(3)], gradients_of(loss_of(leaf), [leaf]))
        assert _weights(linearize(pairs, sparse=dense, weigh=negated)) == [expected]


def test_a_zero_gradient_becomes_minus_zero():
    """Negation keeps the sign of zero, as torch does: dense weights of an untouched token are -0.0."""
    (leaf,) = _leaves([-1.0, -2.0])
    (gradient,) = gradients_of(leaf[0] * 2, [leaf])
    assert np.signbit(negated(gradient)).all()


def test_leaves_are_float32_leaves_of_the_contracts_shape():
    """Flat or as declared, float32, requiring a gradient."""
    output = [{"logprobs": TensorValue("float32", (2, 2), np.array([-1.0, -2.0, -3.0, -4.0]))}]
    for shape, expected in ((flat_shape, (4,)), (declared_shape, (2, 2))):
        (leaf,) = make_leaves(output, shape=shape, numbers=as_sent)
        assert tuple(leaf.shape) == expected
        assert leaf.dtype == torch.float32
        assert leaf.is_leaf
        assert leaf.requires_grad


def test_a_shape_that_was_not_declared_is_one_dimensional():
    """Without a shape on the wire the numbers are a vector."""
    output = [{"logprobs": TensorValue("float32", None, np.array([-1.0, -2.0]))}]
    (leaf,) = make_leaves(output, shape=declared_shape, numbers=declared_dtype)
    assert tuple(leaf.shape) == (2,)


def test_whole_numbers():
    """Numbers without a decimal point have no gradient as they were sent, and are float32 as they were declared."""
    output = [{"logprobs": TensorValue("float32", (2,), np.array([-1, -2]))}]
    with pytest.raises(BadOutputError, match="floating-point"):
        make_leaves(output, shape=declared_shape, numbers=as_sent)
    (leaf,) = make_leaves(output, shape=declared_shape, numbers=declared_dtype)
    assert leaf.tolist() == [-1.0, -2.0]
    with pytest.raises(BadOutputError):
        make_leaves(
            [{"logprobs": TensorValue("int64", (1,), np.array([1]))}], shape=declared_shape, numbers=declared_dtype
        )


@pytest.mark.parametrize("numbers", [as_sent, declared_dtype])
def test_an_empty_datum_has_an_empty_leaf(numbers):
    """Zero-length targets are no error."""
    (leaf,) = _leaves([], numbers=numbers)
    assert leaf.numel() == 0
    (gradient,) = gradients_of(leaf.sum(), [leaf])
    assert gradient.shape == (0,)


def test_outputs_that_cannot_be_used():
    """No logprobs, or numbers that do not fill the declared shape."""
    for output in ({}, {"logprobs": TensorValue("float32", (3,), np.array([-1.0]))}):
        with pytest.raises(BadOutputError):
            make_leaves([output], shape=declared_shape, numbers=declared_dtype)


def test_missing_gradients_are_errors():
    """A datum the loss never looked at, a loss of no logprob, a loss that is no scalar, one that breaks backward."""
    one, other = _leaves([-1.0], [-2.0])
    with pytest.raises(NoGradientError, match="datum 1"):
        gradients_of(one.sum(), [one, other])
    with pytest.raises(NoGradientError):
        gradients_of(torch.tensor(1.0), [one])
    with pytest.raises(NotScalarError):
        gradients_of(torch.stack([one.sum(), one.sum()]), [one])
    spent = (one**2).sum()
    spent.backward()
    with pytest.raises(LossFailedError):
        gradients_of(spent, [one])


def test_a_loss_that_raises_keeps_its_cause():
    """Whatever the callback raises, and a value that is no tensor, is one kind of error with the original as cause."""

    def boom(_data, _logprobs):
        raise KeyError("boom")

    with pytest.raises(LossFailedError, match="KeyError: 'boom'") as caught:
        call_loss(boom, [], [])
    assert isinstance(caught.value.__cause__, KeyError)
    with pytest.raises(LossFailedError):
        read_loss((1.0, {}))


def test_pairing():
    """Truncating leaves datums without an output out, strict refuses them."""
    data, gradients = [_datum(), _datum()], [np.zeros(2, dtype=np.float32)]
    assert truncating(data, gradients) == [(data[0], gradients[0])]
    with pytest.raises(BadOutputError, match="1 outputs for 2 datums"):
        strict(data, gradients)


def test_what_goes_forward():
    """As given: everything. Otherwise targets and weights only, zeros where the caller has no weights."""
    extra = dense(np.ones(2, dtype=np.float32))
    data = [_datum(advantages=extra), _datum(advantages=extra, weights=extra)]
    assert as_given(data) == data
    forward = targets_and_weights(data)
    assert [sorted(datum.inputs) for datum in forward] == [["target_tokens", "weights"]] * 2
    assert _weights(forward) == [[0.0, 0.0], [1.0, 1.0]]
    assert sorted(data[0].inputs) == ["advantages", "target_tokens"]


def test_targets_must_be_there():
    """Missing targets are refused before the forward pass, or when the backward pass is made."""
    bare = Datum(tokens=np.arange(2), inputs={})
    with pytest.raises(InvalidInputError, match="target_tokens"):
        targets_and_weights([bare])
    with pytest.raises(InvalidInputError, match="target_tokens"):
        linearize([(bare, np.zeros(2, dtype=np.float32))], sparse=dense, weigh=negated)
