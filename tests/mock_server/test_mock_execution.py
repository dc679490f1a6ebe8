"""What operations do to a model, and what cannot be computed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mock_server.execution import Trainer, UncomputableError
from mock_server.model import log_softmax
from mock_server.optimizer import StepParams
from mock_server.record import Batch, Datum, Tensor
from mock_server.script import Logprobs, Metrics, ModelSpec, Outputs, Script


def ints(*values: int, shape: tuple[int, ...] | None = None) -> Tensor:
    """Make an int64 tensor."""
    return Tensor("int64", shape or (len(values),), np.array(values, dtype=np.int64))


def floats(*values: float, shape: tuple[int, ...] | None = None) -> Tensor:
    """Make a float32 tensor."""
    return Tensor("float32", shape or (len(values),), np.array(values, dtype=np.float32))


def datum(tokens: list[int], **inputs: Tensor) -> Datum:
    """Make one datum."""
    return Datum(np.array(tokens, dtype=np.int64), inputs)


def batch(*datums: Datum) -> Batch:
    """Make a batch without forms."""
    return Batch(datums, {})


def logprobs(trainer: Trainer, *datums: Datum) -> list[list[float]]:
    """Return the logprobs of a forward pass, per datum."""
    return [output["logprobs"].values.tolist() for output in trainer.forward(batch(*datums)).outputs]


tokens = st.lists(st.tuples(st.integers(0, 15), st.integers(0, 15)), max_size=6)


@given(st.lists(tokens, max_size=5))
def test_a_logprob_does_not_depend_on_the_rest_of_the_batch(datums: list[list[tuple[int, int]]]) -> None:
    """Each datum has bit for bit the logprobs it has alone: chunking cannot change a number."""
    trainer = Trainer(Script())
    made = [datum([x for x, _ in pairs], target_tokens=ints(*[y for _, y in pairs])) for pairs in datums]
    assert logprobs(trainer, *made) == [logprobs(trainer, one)[0] for one in made]


def test_forward_changes_nothing_and_forward_backward_accumulates() -> None:
    """The gradient after two backward passes is the sum of both; a forward between them leaves it alone."""
    one, two = Trainer(Script()), Trainer(Script())
    first = batch(datum([1, 2], target_tokens=ints(3, 4), weights=floats(0.5, -1)))
    second = batch(datum([2], target_tokens=ints(0), weights=floats(2)))
    one.forward_backward(first)
    one.forward(second)
    assert two.gradient is not None
    assert not two.gradient.any()
    two.forward_backward(second)
    lone = two.gradient
    one_gradient = one.gradient
    one.forward_backward(second)
    assert one.gradient is not None
    np.testing.assert_allclose(one.gradient, one_gradient + lone, rtol=1e-15)


def test_missing_weights_count_as_ones() -> None:
    """The assumption of docs/server.md: no weights means a weight of 1 everywhere, in gradient and `loss:sum`."""
    without, ones = Trainer(Script()), Trainer(Script())
    a = without.forward_backward(batch(datum([1, 2], target_tokens=ints(3, 4))))
    b = ones.forward_backward(batch(datum([1, 2], target_tokens=ints(3, 4), weights=floats(1, 1))))
    assert a.metrics == b.metrics
    np.testing.assert_array_equal(without.gradient, ones.gradient)


def test_two_dimensional_targets_are_candidates_at_each_position() -> None:
    """[L, K] targets give the logprobs of K tokens after each input token, in the declared shape."""
    trainer = Trainer(Script())
    outcome = trainer.forward(batch(datum([5, 6], target_tokens=ints(1, 2, 3, 4, 5, 6, shape=(2, 3)))))
    assert trainer.parameters is not None
    exact = log_softmax(trainer.parameters)
    tensor = outcome.outputs[0]["logprobs"]
    assert tensor.shape == (2, 3)
    assert tensor.values.tolist() == [
        np.float32(exact[r, c]) for r, c in zip([5, 5, 5, 6, 6, 6], range(1, 7), strict=True)
    ]


def test_sparse_weights_equal_dense_ones() -> None:
    """CSR weights have the gradient of the same weights written out; flat weights of 2-D targets too."""
    targets = ints(1, 2, 3, 4, shape=(2, 2))
    sparse = Tensor("float32", (2, 2), np.array([2.0], dtype=np.float32), "csr", np.array([0, 0, 1]), np.array([1]))
    gradients = []
    for weights in (sparse, floats(0, 0, 0, 2, shape=(2, 2)), floats(0, 0, 0, 2)):
        trainer = Trainer(Script())
        trainer.forward_backward(batch(datum([1, 2], target_tokens=targets, weights=weights)))
        gradients.append(trainer.gradient)
    np.testing.assert_array_equal(gradients[0], gradients[1])
    np.testing.assert_array_equal(gradients[0], gradients[2])


def test_optim_step_applies_and_clears_the_gradient() -> None:
    """SGD moves against the gradient found, which is zero afterwards."""
    trainer = Trainer(Script(model=ModelSpec(optimizer="sgd")))
    before = trainer.parameters
    trainer.forward_backward(batch(datum([1], target_tokens=ints(3))))
    gradient = trainer.gradient
    metrics, found = trainer.optim_step(StepParams(learning_rate=0.5))
    assert metrics == {}
    np.testing.assert_array_equal(found, gradient)
    np.testing.assert_array_equal(trainer.parameters, before - 0.5 * gradient)
    assert not trainer.gradient.any()


def trained(steps: int) -> Trainer:
    """Return a trainer after some AdamW steps."""
    trainer = Trainer(Script())
    for n in range(steps):
        trainer.forward_backward(batch(datum([n], target_tokens=ints(n + 1))))
        trainer.optim_step(StepParams(learning_rate=0.1))
    return trainer


def test_loading_restores_the_optimizer_only_when_asked() -> None:
    """After a load with the optimizer the next step continues; without, it is the first step of a fresh AdamW."""
    saved = trained(3)
    checkpoint = saved.checkpoint("b", 4)
    more = batch(datum([1], target_tokens=ints(9)))
    results: dict[bool, Any] = {}
    for with_optimizer in (True, False):
        trainer = trained(1)
        trainer.restore(checkpoint, with_optimizer=with_optimizer)
        np.testing.assert_array_equal(trainer.parameters, saved.parameters)
        trainer.forward_backward(more)
        trainer.optim_step(StepParams(learning_rate=0.1))
        results[with_optimizer] = trainer.parameters
    saved.forward_backward(more)
    saved.optim_step(StepParams(learning_rate=0.1))
    np.testing.assert_array_equal(results[True], saved.parameters)
    assert np.abs(results[False] - saved.parameters).max() > 1e-3


def test_loading_keeps_the_accumulated_gradient() -> None:
    """A gradient belongs to the requests that made it; loading is not one of those that clear it."""
    trainer = Trainer(Script())
    checkpoint = trainer.checkpoint("b", None)
    trainer.forward_backward(batch(datum([1], target_tokens=ints(3))))
    gradient = trainer.gradient
    trainer.restore(checkpoint, with_optimizer=True)
    np.testing.assert_array_equal(trainer.gradient, gradient)


def test_scripted_metrics_are_answered_in_turn_then_the_servers_own() -> None:
    """Entry k for the k-th executed operation of a kind, each kind counted by itself."""
    script = Script(metrics=Metrics(forward=({"a:sum": 1.0}, {"a:sum": 2.0}), optim_step=({"n:max": 3.0},)))
    trainer = Trainer(script)
    one = batch(datum([1], target_tokens=ints(3)))
    assert trainer.forward(one).metrics == {"a:sum": 1.0}
    assert list(trainer.forward_backward(one).metrics) == ["loss:sum"]
    assert trainer.forward(one).metrics == {"a:sum": 2.0}
    assert list(trainer.forward(one).metrics) == ["loss:sum"]
    assert trainer.optim_step(StepParams())[0] == {"n:max": 3.0}
    assert trainer.optim_step(StepParams())[0] == {}


def test_loss_sum_is_the_weighted_sum_of_what_the_client_sees() -> None:
    """`loss:sum` = sum(-logprob * weight) over the request, 0.0 for an empty one."""
    trainer = Trainer(Script(logprobs=Logprobs("table", (-1.0, -0.5, -0.25))))
    outcome = trainer.forward(batch(datum([9, 9, 9], target_tokens=ints(0, 1, 2), weights=floats(1, 2, 4))))
    assert outcome.metrics == {"loss:sum": 3.0}
    empty = trainer.forward(batch()).metrics["loss:sum"]
    assert (empty, np.signbit(empty)) == (0.0, False)


def test_infinite_logprobs_are_sent_and_summed_as_they_are() -> None:
    """A table may hold -inf: outputs keep it, `loss:sum` is infinite, and NaN where its weight is zero."""
    trainer = Trainer(Script(logprobs=Logprobs("table", (-1.0, -np.inf))))
    weighted = datum([9, 9], target_tokens=ints(0, 1), weights=floats(1, 1))
    assert logprobs(trainer, weighted) == [[-1.0, -np.inf]]
    assert trainer.forward(batch(weighted)).metrics == {"loss:sum": np.inf}
    unweighted = datum([9, 9], target_tokens=ints(0, 1), weights=floats(0, 0))
    assert np.isnan(trainer.forward(batch(unweighted)).metrics["loss:sum"])


@pytest.mark.parametrize(
    ("outputs", "expected"),
    [
        (Outputs(), [(1, 2), (2,)]),
        (Outputs(shape="omitted"), [None, None]),
        (Outputs(shape="flat"), [(2,), (2,)]),
        (Outputs(extend=1), [(3,), (3,)]),
        (Outputs(drop=1), [(1, 2)]),
    ],
)
def test_output_shapes_follow_the_script(outputs: Outputs, expected: list[Any]) -> None:
    """Declared, omitted, flat, extended and dropped outputs; the backward result is never short."""
    trainer = Trainer(Script(outputs=outputs))
    data = batch(datum([1], target_tokens=ints(2, 3, shape=(1, 2))), datum([1, 2], target_tokens=ints(2, 3)))
    assert [output["logprobs"].shape for output in trainer.forward(data).outputs] == expected
    assert len(trainer.forward_backward(data).outputs) == 2


def test_scripted_logprobs_have_no_parameters() -> None:
    """With a hash there is no vocabulary to leave, no gradient and no optimizer state."""
    trainer = Trainer(Script(logprobs=Logprobs("hash")))
    trainer.forward_backward(batch(datum([10**6], target_tokens=ints(10**9))))
    assert trainer.gradient is None
    assert trainer.optim_step(StepParams()) == ({}, None)


BAD = {
    "no targets": (datum([1]), "no target_tokens"),
    "float targets": (datum([1], target_tokens=floats(1)), "expected int64"),
    "too few targets": (datum([1, 2], target_tokens=ints(1)), "first dimension"),
    "shape not filled": (datum([1], target_tokens=ints(1, shape=(1, 2))), "do not fill"),
    "scalar": (datum([1], target_tokens=Tensor("int64", (), np.array([1]))), "first dimension"),
    "weights too long": (datum([1], target_tokens=ints(1), weights=floats(1, 2)), "weights has 2 elements"),
    "input token": (datum([16], target_tokens=ints(1)), "input token 16 is outside"),
    "negative target": (datum([1], target_tokens=ints(-1)), "target token -1 is outside"),
    "csr rows": (
        datum([1, 2], target_tokens=Tensor("int64", (2, 2), np.array([1]), "csr", np.array([0, 1]), np.array([0]))),
        "row pointers",
    ),
    "csr columns": (
        datum([1], target_tokens=Tensor("int64", (1, 2), np.array([1]), "csr", np.array([0, 1]), np.array([2]))),
        "column indices",
    ),
    "csr shape": (
        datum([1], target_tokens=Tensor("int64", None, np.array([1]), "csr", np.array([0, 1]), np.array([0]))),
        "two dimensions",
    ),
    "csr size": (
        datum([1], target_tokens=Tensor("int64", (1, 2**40), np.array([1]), "csr", np.array([0, 1]), np.array([0]))),
        "more than",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_computed_names_the_datum(name: str) -> None:
    """A datum that makes no sense is refused by its index, and leaves the gradient as it was."""
    bad, message = BAD[name]
    trainer = Trainer(Script())
    with pytest.raises(UncomputableError, match=message) as caught:
        trainer.forward_backward(batch(datum([1], target_tokens=ints(1)), bad))
    assert "datum 1" in str(caught.value)
    assert not trainer.gradient.any()
