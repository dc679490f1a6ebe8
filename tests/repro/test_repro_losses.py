"""Loss graphs as torch code compute what the graphs compute."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import torch

from harness.drivers.protocol import WireTensor
from harness.drivers.python import graph
from harness.drivers.wire import decode_tensor
from harness.repro.losses import HELPER, loss_source, quoted
from harness.suite.loader import load_suite
from harness.suite.losses.vectors import load_vectors
from harness.suite.scenario import Loss

ROOT = Path(__file__).parents[2]
LOSSES = load_suite(ROOT).losses
VECTORS = load_vectors(ROOT / "fixtures" / "losses" / "ops")


class _Tensor:
    """A container of the SDK, as far as a loss uses it."""

    def __init__(self, values):
        self._values = values

    def to_torch(self):
        return self._values


class _Datum:
    def __init__(self, fields):
        self.loss_fn_inputs = {name: _Tensor(value) for name, value in fields.items()}


def _compiled(loss):
    space = {"torch": torch}
    exec(HELPER + "\n" + "\n".join(loss_source("loss", loss)), space)  # the generated code is what is tested
    return space["loss"]


def _read(wire):
    return torch.from_numpy(decode_tensor(msgspec.convert(wire, WireTensor)).copy())


def _both(loss, logprobs, fields):
    """Return loss, metrics and gradients of the graph, and of the generated code."""
    wanted = graph.value_and_gradients(
        {"nodes": loss.nodes, "loss": loss.loss, "metrics": loss.metrics}, logprobs, fields
    )
    leaves = [leaf.detach().clone().requires_grad_() for leaf in logprobs]
    value, metrics = _compiled(loss)([_Datum(each) for each in fields], leaves)
    if value.requires_grad:
        value.backward()
    return wanted, (value.detach(), metrics, [leaf.grad for leaf in leaves])


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.name)
def test_every_operation_vector(vector):
    """On every vector of every operation the code gives the graph's value, metrics and gradients, to the last bit."""
    loss = msgspec.convert(vector.case["loss"], Loss)
    logprobs = [_read(each) for each in vector.case["logprobs"]]
    fields = [{name: _read(value) for name, value in each.items()} for each in vector.case["fields"]]
    (value, metrics, gradients), (other, seen, found) = _both(loss, logprobs, fields)
    assert torch.equal(value, other)
    assert metrics == seen
    for left, right in zip(gradients, found, strict=True):
        assert (left is None) is (right is None)
        assert left is None or torch.equal(left, right)


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_of_the_suite_is_python(name):
    """Each loss of the suite becomes one function, with its description."""
    source = loss_source("loss", LOSSES[name])
    assert callable(_compiled(LOSSES[name]))
    assert source[0] == "def loss(data, logprobs):"


def test_a_loss_that_raises():
    """`fail` becomes an exception with that message, whatever characters it has."""
    message = 'said "no"\\ \n\u2028'
    with pytest.raises(RuntimeError) as caught:
        _compiled(Loss(nodes=(("lps",),), loss=0, fail=message))([], [])
    assert str(caught.value) == message
    assert eval(quoted(message)) == message  # what is written is one literal
