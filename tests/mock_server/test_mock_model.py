"""The tiny model and its optimizers, against torch and finite differences."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim.adamw import adamw

from mock_server import model, optimizer
from mock_server.optimizer import AdamState, StepParams
from mock_server.script import ModelSpec

TABLE = model.initial_table(ModelSpec(vocab=7, seed=3, scale=2.0))
RNG = np.random.default_rng(5)
TOKENS, TARGETS = RNG.integers(0, 7, 40), RNG.integers(0, 7, 40)
WEIGHTS = RNG.normal(size=40)


def weighted_loss(table: np.ndarray) -> float:
    """sum(-logprob * weight) of the sample above."""
    return -float(np.sum(model.log_softmax(table)[TOKENS, TARGETS] * WEIGHTS))


def test_logprobs_equal_torch() -> None:
    """log_softmax and gather agree with torch in float64."""
    expected = torch.log_softmax(torch.from_numpy(TABLE), dim=1)[torch.from_numpy(TOKENS), torch.from_numpy(TARGETS)]
    np.testing.assert_allclose(model.log_softmax(TABLE)[TOKENS, TARGETS], expected.numpy(), rtol=1e-14)


def test_gradient_equals_torch() -> None:
    """The closed-form gradient of sum(-logprob * weight) equals autograd."""
    table = torch.from_numpy(TABLE).requires_grad_(True)
    logprobs = torch.log_softmax(table, dim=1)[torch.from_numpy(TOKENS), torch.from_numpy(TARGETS)]
    (-(logprobs * torch.from_numpy(WEIGHTS)).sum()).backward()
    assert table.grad is not None
    found = model.gradient(model.log_softmax(TABLE), TOKENS, TARGETS, WEIGHTS)
    np.testing.assert_allclose(found, table.grad.numpy(), rtol=1e-12, atol=1e-14)


def test_gradient_equals_finite_differences() -> None:
    """Every entry of the gradient equals the central difference of the loss."""
    found = model.gradient(model.log_softmax(TABLE), TOKENS, TARGETS, WEIGHTS)
    step = 1e-6
    for index in np.ndindex(TABLE.shape):
        moved = np.zeros_like(TABLE)
        moved[index] = step
        difference = (weighted_loss(TABLE + moved) - weighted_loss(TABLE - moved)) / (2 * step)
        assert found[index] == pytest.approx(difference, rel=1e-6, abs=1e-7)


def test_gradient_of_nothing_is_zero() -> None:
    """An empty batch has a float64 gradient of zeros."""
    none = np.zeros(0, dtype=np.int64)
    found = model.gradient(model.log_softmax(TABLE), none, none, np.zeros(0))
    assert found.dtype == np.float64
    assert not found.any()


@given(
    st.floats(1e-5, 0.5),
    st.floats(0, 0.99),
    st.floats(0, 0.99),
    st.sampled_from([1e-12, 1e-8]),
    st.sampled_from([0.0, 0.1]),
    st.integers(1, 5),
)
def test_adamw_equals_torch(lr: float, beta1: float, beta2: float, eps: float, decay: float, steps: int) -> None:
    """Several AdamW steps equal torch.optim.AdamW in float64."""
    rng = np.random.default_rng(steps)
    ours = rng.normal(size=(3, 3))
    theirs = torch.tensor(ours)
    averages, squares, count = torch.zeros_like(theirs), torch.zeros_like(theirs), torch.tensor(0.0)
    state = AdamState(np.zeros((3, 3)), np.zeros((3, 3)))
    for _ in range(steps):
        gradient = rng.normal(size=(3, 3))
        # the function behind torch.optim.AdamW; the class imports torch's compiler, which takes seconds
        adamw(
            [theirs], [torch.tensor(gradient)], [averages], [squares], [], [count],
            foreach=False, amsgrad=False, maximize=False,
            lr=lr, beta1=beta1, beta2=beta2, eps=eps, weight_decay=decay,
        )  # fmt: skip
        ours, state = optimizer.adamw(ours, gradient, state, StepParams(lr, beta1, beta2, eps, decay))
    np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-9, atol=1e-12)


def test_a_gradient_that_is_always_zero_moves_nothing() -> None:
    """Zero over zero is no movement, with or without eps."""
    zero = np.zeros((2, 2))
    for eps in (0.0, 1e-12):
        moved, _ = optimizer.adamw(np.ones((2, 2)), zero, AdamState(zero, zero), StepParams(eps=eps))
        np.testing.assert_array_equal(moved, np.ones((2, 2)))


@pytest.mark.parametrize(
    "params", [StepParams(), StepParams(weight_decay=0.5), StepParams(eps=0.0), StepParams(beta1=0.0, beta2=0.5)]
)
def test_steps_before_any_gradient_are_as_computed(params: StepParams) -> None:
    """The array that stands for "nothing but zeros yet" leads to the same bits as zeros that are computed with."""
    start = np.random.default_rng(0).normal(size=(2, 3))
    nothing, zero = optimizer.zeros((2, 3)), np.zeros((2, 3))
    short = long = start
    brief, computed = AdamState(nothing, nothing), AdamState(zero, zero)
    for gradient in (None, None, start + 1, None):
        short, brief = optimizer.adamw(short, nothing if gradient is None else gradient, brief, params)
        long, computed = optimizer.adamw(long, zero if gradient is None else gradient, computed, params)
        assert short.tobytes() == long.tobytes()
        assert brief.step == computed.step


def test_clipping_scales_the_gradient_to_the_bound() -> None:
    """A gradient of norm 5 under a bound of 1 keeps its direction; a shorter one and no bound change nothing."""
    gradient = np.array([[3.0, 4.0]])
    np.testing.assert_allclose(optimizer.clip(gradient, 1.0), [[0.6, 0.8]])
    assert optimizer.clip(gradient, 5.0) is gradient
    assert optimizer.clip(gradient, 0.0) is gradient


def test_sgd_is_plain() -> None:
    """Parameters minus learning rate times gradient, nothing else."""
    moved = optimizer.sgd(np.ones((1, 2)), np.array([[1.0, -2.0]]), StepParams(0.5, weight_decay=9, grad_clip_norm=0.1))
    np.testing.assert_array_equal(moved, [[0.5, 2.0]])


def test_the_initial_table_is_frozen() -> None:
    """The table under a seed is part of the golden numbers: these values must never change."""
    np.testing.assert_allclose(
        model.initial_table(ModelSpec(vocab=2, seed=1)).reshape(-1),
        [1.6243453636632417, -0.6117564136500754, -0.5281717522634557, -1.0729686221561705],
        rtol=1e-15,
    )
    assert not model.initial_table(ModelSpec(vocab=3, scale=0.0)).any()


def splitmix(value: int) -> int:
    """Return what the mixing function of docs/server.md gives, in plain integers."""
    mask = 2**64 - 1
    value = (value + 0x9E3779B97F4A7C15) & mask
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & mask
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & mask
    return value ^ (value >> 31)


@given(st.lists(st.tuples(*[st.integers(0, 2**40)] * 3), min_size=1, max_size=20))
def test_hash_logprobs_are_what_the_documentation_says(triples: list[tuple[int, int, int]]) -> None:
    """The vectorised hash equals the documented formula in plain integers, and lies in its range."""
    tokens, targets, positions = (np.array(column, dtype=np.int64) for column in zip(*triples, strict=True))
    found = model.hash_logprobs(tokens, targets, positions)
    mask = 2**64 - 1
    expected = [-((splitmix((x + splitmix((y + splitmix(p)) & mask)) & mask) % 256) + 1) / 8 for x, y, p in triples]
    assert found.tolist() == expected
    assert np.array_equal(found.astype(np.float32).astype(np.float64), found)
    assert ((found >= -32) & (found <= -0.125)).all()


def test_hash_logprobs_tell_token_target_and_position_apart() -> None:
    """Changing any one of the three changes the sequence of logprobs."""
    base = np.arange(64)
    reference = model.hash_logprobs(base, base + 1, base)
    for changed in ((base + 1, base + 1, base), (base, base + 2, base), (base, base + 1, base + 1)):
        assert (model.hash_logprobs(*changed) != reference).sum() > 48


def test_table_logprobs_wrap_around() -> None:
    """The literal table is indexed by target token modulo its length."""
    assert model.table_logprobs((-1.0, -0.5), np.array([0, 1, 2, 5])).tolist() == [-1.0, -0.5, -1.0, -0.5]
