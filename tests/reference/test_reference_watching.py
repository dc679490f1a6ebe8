"""What the driver notes about a loss callback."""

from __future__ import annotations

import numpy as np
import torch

from harness.drivers.reference.watching import WatchedLoss
from harness.reference.values import datum_from, dense
from harness.suite.data import DatumValue, InputValue

SUM = {"nodes": [["lps"], ["sum", 0]], "loss": 1}


def _data():
    weights = InputValue(np.array([1.0, 2.0], np.float32), "tensor")
    return [DatumValue(tokens=np.array([1, 2]), inputs={"weights": weights})]


def _call(watched, data, *, leaf=None):
    leaf = torch.tensor([-1.0, -2.0], requires_grad=True) if leaf is None else leaf
    return watched([datum_from(value, sparse=dense, nested=lambda _key, array: array) for value in data], [leaf])


def test_a_loss_that_was_not_called_saw_nothing():
    """No call, no leaves, and data that did not change."""
    saw = WatchedLoss(SUM, _data()).saw()
    assert (saw.calls, saw.datums, saw.leaves, saw.unchanged) == (0, 0, None, True)


def test_every_call_is_counted_and_the_last_described():
    """Calls add up; shapes and values are those of the last."""
    data = _data()
    watched = WatchedLoss(SUM, data)
    loss, metrics = _call(watched, data)
    first = watched.saw().digest
    _call(watched, data, leaf=torch.tensor([[-4.0], [-2.0]], requires_grad=True))
    saw = watched.saw()
    assert (loss.item(), metrics) == (-3.0, {})
    assert (saw.calls, saw.shapes, saw.keys, saw.leaves) == (2, [[2, 1]], [["weights"]], True)
    assert saw.digest != first


def test_a_tensor_that_is_no_leaf_is_noticed():
    """A loss must get leaves that require a gradient."""
    data = _data()
    watched = WatchedLoss(SUM, data)
    _call(watched, data, leaf=torch.tensor([-1.0, -2.0]))
    assert watched.saw().leaves is False


def test_changed_data_is_noticed():
    """One number of the caller's data, or one more input, and it is not unchanged."""
    data = _data()
    watched = WatchedLoss(SUM, data)
    data[0].inputs["weights"].array[1] = 3.0
    assert not watched.saw().unchanged
    data[0].inputs["weights"].array[1] = 2.0
    assert watched.saw().unchanged
    data[0].inputs["mask"] = data[0].inputs["weights"]
    assert not watched.saw().unchanged
