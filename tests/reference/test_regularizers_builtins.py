"""Ready-made regularizers: each graph against its formula and its gradient, written in numpy in float64."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.reference.regularizers import builtins
from harness.reference.regularizers.builtins import BUILTINS, regularizer_of
from harness.reference.regularizers.gradients import check_gradient
from harness.reference.regularizers.pipeline import compute
from harness.reference.values import Datum, dense
from harness.suite.loader import load_loss
from harness.suite.losses import float64
from harness.suite.losses.domain import departures
from harness.suite.losses.validate import validate

LOSSES = Path(__file__).parents[2] / "fixtures" / "losses"


def _unit(rows):
    return rows / np.sqrt((rows**2).sum(axis=1, keepdims=True))


def _orthogonality(x, *, normalize):
    """Return the penalty and its gradient for rows of three datums, by the chain rule through the normalization."""
    rows = x.reshape(3, -1)
    lengths = np.sqrt((rows**2).sum(axis=1, keepdims=True))
    unit = rows / lengths if normalize else rows
    gram = unit @ unit.T
    off = gram - np.diag(np.diag(gram))
    slope = 4 * off @ unit
    if normalize:
        slope = (slope - unit * (slope * unit).sum(axis=1, keepdims=True)) / lengths
    return (off**2).sum(), slope.reshape(-1)


def _cosine(x, q):
    lengths = np.sqrt(x @ x) * np.sqrt(q @ q)
    cosine = x @ q / lengths
    return 1 - cosine, -(q / lengths - cosine * x / (x @ x))


def _half(one, other):
    return tuple((a + b) / 2 for a, b in zip(one, other, strict=True))


def _forward(x, q):
    return np.exp(x) @ (x - q), np.exp(x) * (1 + x - q)


def _reverse(x, q):
    return np.exp(q) @ (q - x), -np.exp(q)


CLOSED = {
    "l1": (builtins.l1(), lambda x, _q: (np.abs(x).sum(), np.sign(x))),
    "l1 mean": (builtins.l1(reduction="mean"), lambda x, _q: (np.abs(x).mean(), np.sign(x) / x.size)),
    "l1 probs": (builtins.l1(target="probs"), lambda x, _q: (np.exp(x).sum(), np.exp(x))),
    "l2": (builtins.l2(), lambda x, _q: (x @ x, 2 * x)),
    "l2 mean": (builtins.l2(reduction="mean"), lambda x, _q: ((x**2).mean(), 2 * x / x.size)),
    "l2 probs": (builtins.l2(target="probs"), lambda x, _q: (np.exp(2 * x).sum(), 2 * np.exp(2 * x))),
    "l2 centered": (builtins.l2(center="mean"), lambda x, _q: (((x - x.mean()) ** 2).sum(), 2 * (x - x.mean()))),
    "l2 at -1": (builtins.l2(center=-1.0), lambda x, _q: (((x + 1) ** 2).sum(), 2 * (x + 1))),
    "elastic_net": (builtins.elastic_net(), lambda x, _q: (np.abs(x).sum() / 2 + x @ x / 2, np.sign(x) / 2 + x)),
    "elastic_net 0.9 mean": (
        builtins.elastic_net(l1_ratio=0.9, reduction="mean"),
        lambda x, _q: (0.9 * np.abs(x).mean() + 0.1 * (x**2).mean(), (0.9 * np.sign(x) + 0.2 * x) / x.size),
    ),
    "entropy": (builtins.entropy(), lambda x, _q: (-np.exp(x) @ x, -np.exp(x) * (1 + x))),
    "entropy maximize": (builtins.entropy(mode="maximize"), lambda x, _q: (np.exp(x) @ x, np.exp(x) * (1 + x))),
    "kl": (builtins.kl_reference(), _forward),
    "kl reverse": (builtins.kl_reference(direction="reverse"), _reverse),
    "kl symmetric": (
        builtins.kl_reference(symmetric=True),
        lambda x, q: _half(_forward(x, q), _reverse(x, q)),
    ),
    "consistency": (builtins.consistency(), lambda x, q: (((x - q) ** 2).mean(), 2 * (x - q) / x.size)),
    "consistency sum": (builtins.consistency(reduction="sum"), lambda x, q: (((x - q) ** 2).sum(), 2 * (x - q))),
    "consistency l1": (
        builtins.consistency(metric="l1"),
        lambda x, q: (np.abs(x - q).mean(), np.sign(x - q) / x.size),
    ),
    "consistency cosine": (builtins.consistency(metric="cosine"), _cosine),
    "gradient_penalty": (
        builtins.gradient_penalty(),
        lambda x, _q: (
            (2 * np.sqrt(x @ x) - 1) ** 2,
            2 * (2 * np.sqrt(x @ x) - 1) * 2 * x / np.sqrt(x @ x),
        ),
    ),
    "gradient_penalty of exp": (
        # f = sum exp(x): its gradient is exp(x).
        builtins.gradient_penalty(lambda add, x: add("exp", x), target_norm=0.5),
        lambda x, _q: (
            (np.sqrt(np.exp(2 * x).sum()) - 0.5) ** 2,
            2 * (np.sqrt(np.exp(2 * x).sum()) - 0.5) * np.exp(2 * x) / np.sqrt(np.exp(2 * x).sum()),
        ),
    ),
    "orthogonality": (builtins.orthogonality(3), lambda x, _q: _orthogonality(x, normalize=True)),
    "orthogonality of lengths": (
        builtins.orthogonality(3, normalize=False),
        lambda x, _q: _orthogonality(x, normalize=False),
    ),
}

# Three datums of two logprobs: multiples of 1/64, x at odd ones and q at even ones, so that they never meet.
X = st.lists(st.integers(-160, -4).map(lambda k: (2 * k + 1) / 64), min_size=6, max_size=6).map(np.array)
Q = st.lists(st.integers(-160, -4).map(lambda k: 2 * k / 64), min_size=6, max_size=6).map(np.array)


def _data(q):
    return [
        Datum(
            tokens=np.arange(2),
            inputs={name: dense(part.astype(np.float32)) for name in ("reference_logprobs", "original_logprobs")},
        )
        for part in q.reshape(3, 2)
    ]


@pytest.mark.parametrize("name", CLOSED)
@given(x=X, q=Q)
@settings(max_examples=20)
def test_a_graph_is_its_formula(name, x, q):
    """Value and gradient, through the torch evaluator in float32 and through the one by hand in float64."""
    loss, closed = CLOSED[name]
    validate(loss)
    value, gradient = closed(x, q)
    leaves = [part.astype(np.float32) for part in x.reshape(3, 2)]
    found = asyncio.run(compute(_data(q), leaves, None, [{"fn": regularizer_of(loss), "weight": 1.0, "name": "r"}]))
    tolerance = {"rtol": 1e-4, "atol": 1e-4 * max(1.0, float(np.abs(gradient).max()))}
    assert found.report.regularizers["r"].value == pytest.approx(value, rel=1e-4, abs=1e-4)
    np.testing.assert_allclose(np.concatenate(found.gradients), gradient, **tolerance)

    fields = [{"reference_logprobs": part, "original_logprobs": part} for part in q.reshape(3, 2)]
    exact = float64.evaluate(loss, list(x.reshape(3, 2)), fields)
    assert float(exact.loss) == pytest.approx(value, rel=1e-9, abs=1e-9)
    np.testing.assert_allclose(np.concatenate(exact.gradients), gradient, rtol=1e-9, atol=1e-9)
    # Logprobs of this size keep every library inside its domain.
    assert [each for each in departures(loss, exact) if "exceeds" not in each.what] == []


@pytest.mark.parametrize("name", CLOSED)
def test_a_graph_has_the_gradient_of_its_differences(name):
    """The third way to the gradient agrees."""
    x = np.array([-0.5, -1.25, -0.75, -2.0, -0.3, -0.9])
    q = np.array([-0.6, -1.0, -0.7, -1.5, -0.45, -1.1])
    loss, _ = CLOSED[name]
    wide = [
        Datum(each.tokens, {key: dense(part.astype(np.float32)) for key in each.inputs})
        for each, part in zip(_data(q), q.reshape(3, 2), strict=True)
    ]
    assert check_gradient(regularizer_of(loss), wide, list(x.reshape(3, 2))).agrees


def test_metrics_are_those_of_the_port():
    """Under the names that Tinkex 0.4.0 gives them, where they are numbers."""
    data, leaves = _data(np.full(6, -1.0)), [np.full(2, -2.0, np.float32)] * 3
    specs = [{"fn": regularizer_of(loss), "weight": 1.0, "name": name} for name, loss in BUILTINS.items()]
    report = asyncio.run(compute(data, leaves, None, specs)).report.regularizers
    assert {name: set(each.custom) for name, each in report.items()} == {
        "l1": {"l1_raw", "l1_mean"},
        "l2": {"l2_raw", "l2_mean"},
        "elastic_net": {"elastic_net"},
        "entropy": {"entropy"},
        "kl_reference": {"kl_divergence"},
        "consistency": set(),
        "gradient_penalty": {"grad_norm"},
        "orthogonality": {"orthogonality"},
    }
    assert report["l1"].custom == {"l1_raw": 12.0, "l1_mean": 2.0}
    assert report["l2"].custom == {"l2_raw": 24.0, "l2_mean": 4.0}


@pytest.mark.parametrize("name", BUILTINS)
def test_every_driver_has_them(name):
    """The loss file of the suite is the graph with its defaults."""
    assert load_loss(LOSSES / f"regularizer_{name}.json") == BUILTINS[name]


def test_there_are_no_other_files():
    """Each loss file of that name is a built-in one."""
    assert {path.stem.removeprefix("regularizer_") for path in LOSSES.glob("regularizer_*.json")} == set(BUILTINS)


def test_orthogonality_of_one_tensor_is_nothing():
    """A single row is orthogonal to nothing: what the port computes of one flat tensor is always 0."""
    leaf = [torch.tensor([-1.0, -2.0, -3.0])]
    datum = [Datum(np.arange(3), {})]
    value, _ = regularizer_of(builtins.orthogonality(1))(datum, leaf)
    assert float(value) == 0.0


def test_datums_of_unequal_length_have_no_angle():
    """Rows of different lengths are an error that says so."""
    loss = regularizer_of(builtins.orthogonality(2))
    with pytest.raises(ValueError, match="dot"):
        loss([Datum(np.arange(3), {})] * 2, [torch.zeros(2), torch.zeros(3)])


def test_a_graph_is_plain_data():
    """It can be written and read like any loss of the suite."""
    for loss in BUILTINS.values():
        assert msgspec.json.decode(msgspec.json.encode(loss), type=type(loss)).nodes == loss.nodes
