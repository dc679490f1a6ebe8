"""Losses that are taken apart: their parts add up to the whole, and closed forms agree with what is computed."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from harness.suite.composition import Apart, ExpectedReport, ExpectedTerm, Regularizer
from harness.suite.data import expand
from harness.suite.loader import load_suite
from harness.suite.losses.float64 import evaluate
from harness.suite.losses.parts import Composition, composed, compositions, gradient_of
from harness.suite.losses.pruning import pruned
from harness.suite.rules import looked_at
from harness.suite.scenario import ForwardBackwardCustom, Loss

SUITE = load_suite(Path(__file__).parents[2])
COMPOSED = [
    (scenario.id, step)
    for scenario in SUITE.scenarios.values()
    for step, composition in compositions(scenario, SUITE.losses).items()
    if composition.loss.apart is not None and not composition.loss.apart.required
]


def _logprobs(scenario: str, step: str) -> tuple[Composition, list[np.ndarray]]:
    """Return a composition and logprobs for it: the scenario's, or multiples of 1/8 that no two datums share."""
    found = compositions(SUITE.scenarios[scenario], SUITE.losses)[step]
    if found.logprobs is not None:
        return found, [np.asarray(each, dtype=np.float64) for each in found.logprobs]
    drawn = np.random.default_rng(7)
    shapes = [
        np.shape(datum.inputs["target_tokens"].array)
        for datum in expand(SUITE.scenarios[scenario].stimulus.data[_data(scenario, step)])
    ]
    return found, [-(drawn.integers(1, 24, size=shape) / 8.0) for shape in shapes]


def _data(scenario: str, step: str) -> str:
    steps = SUITE.scenarios[scenario].stimulus.steps
    return next(each.data for each in steps if isinstance(each, ForwardBackwardCustom) and each.id == step)


@pytest.mark.parametrize(("scenario", "step"), COMPOSED, ids=[f"{name}-{step}" for name, step in COMPOSED])
def test_one_callback_stands_for_the_parts(scenario, step):
    """The loss node has the value and the gradient of the base plus the weighted regularizers."""
    composition, logprobs = _logprobs(scenario, step)
    whole = evaluate(composition.loss, logprobs, composition.fields)
    if whole.gradients is None:
        assert scenario.endswith("not-scalar")  # the scenario wants the error
        return
    open_ = dataclasses.replace(composition, closed=ExpectedReport(step=step))
    assert float(whole.loss) == pytest.approx(composed(open_, logprobs).loss_total, rel=1e-12)
    parts = gradient_of(composition, logprobs, base=1.0, weigh=lambda weight: weight)
    for left, right in zip(whole.gradients, parts, strict=True):
        np.testing.assert_allclose(np.zeros_like(right) if left is None else left, right, rtol=1e-12, atol=1e-12)


def _closed() -> list[tuple[str, str]]:
    return [(each.id, expected.step) for each in SUITE.scenarios.values() for expected in each.judge.expect]


@pytest.mark.parametrize(("scenario", "step"), _closed(), ids=lambda value: value)
def test_closed_forms_agree_with_the_graph(scenario, step):
    """What a scenario knows by hand is what its graph has in float64, on the logprobs that the server's table has."""
    found = SUITE.scenarios[scenario]
    composition = compositions(found, SUITE.losses)[step]
    logprobs = composition.logprobs
    if logprobs is None:
        table = np.asarray(found.stimulus.server.logprobs.table)
        logprobs = tuple(table[given["target_tokens"] % table.size] for given in composition.fields)
    told = composed(composition, logprobs)
    computed = composed(dataclasses.replace(composition, closed=ExpectedReport(step=step)), logprobs)
    assert told.loss_total == pytest.approx(computed.loss_total, rel=1e-6, abs=1e-12)
    assert told.regularizer_total == pytest.approx(computed.regularizer_total, rel=1e-6)
    assert told.total_grad_norm == pytest.approx(computed.total_grad_norm, rel=1e-6, abs=1e-12)
    assert told.base is not None
    assert computed.base is not None
    assert dataclasses.astuple(told.base)[:2] == pytest.approx(dataclasses.astuple(computed.base)[:2], rel=1e-6)
    for name, term in told.terms.items():
        other = computed.terms[name]
        assert (term.part.value, term.contribution) == pytest.approx((other.part.value, other.contribution), rel=1e-6)
        assert term.part.grad_norm == pytest.approx(other.part.grad_norm, rel=1e-6)
        assert term.grad_norm_weighted == pytest.approx(other.grad_norm_weighted, rel=1e-6)


X = [np.array([-0.5, -0.75]), np.array([-1.25])]
NODES = (("lps",), ("sum", 0), ("square", 0), ("sum", 2), ("const", 3.0))


def _composition(apart: Apart, closed: ExpectedReport | None = None) -> Composition:
    return Composition(Loss(NODES, 1, apart=apart), ({}, {}), None, True, closed or ExpectedReport(step="fb"))


def test_norms_are_of_all_logprobs_as_one_vector():
    """The norm of a part is the root of the sum of squares over all datums, that of the whole of the sum."""
    told = composed(_composition(Apart(base=1, regularizers=(Regularizer("l2", 3, 0.5),))), X)
    assert told.base is not None
    assert told.base.grad_norm == pytest.approx(np.sqrt(3))
    assert told.terms["l2"].part.grad_norm == pytest.approx(np.sqrt(1 + 2.25 + 6.25))
    assert told.total_grad_norm == pytest.approx(np.sqrt(0.5**2 + 0.25**2 + 0.25**2))


def test_what_depends_on_no_logprob_has_no_norm():
    """A constant has a value, contributes, and its norm is None, not 0."""
    told = composed(_composition(Apart(base=1, regularizers=(Regularizer("constant", 4, 0.5),))), X)
    assert told.terms["constant"].part.grad_norm is None
    assert told.terms["constant"].grad_norm_weighted is None
    assert told.loss_total == -2.5 + 1.5


def test_a_closed_form_goes_before_what_is_computed():
    """What the scenario knows by hand is what a report must hold; the rest follows from the graph."""
    closed = ExpectedReport(step="fb", loss_total=7.0, regularizers={"l2": ExpectedTerm(value=2.0)})
    told = composed(_composition(Apart(base=1, regularizers=(Regularizer("l2", 3, 0.5),)), closed), X)
    assert (told.loss_total, told.terms["l2"].part.value, told.terms["l2"].contribution) == (7.0, 2.0, 1.0)


@pytest.mark.parametrize(("node", "weight"), [(2, 1.0), (3, "NaN")])
def test_a_composition_without_numbers_has_none(node, weight):
    """A part that is no scalar and a weight that is no number are errors: there is nothing to expect."""
    with pytest.raises(ValueError, match=r"is no scalar|is NaN"):
        composed(_composition(Apart(base=1, regularizers=(Regularizer("r", node, weight),))), X)


def test_a_part_keeps_only_the_nodes_it_needs():
    """What no root is computed from is left out; the others keep their order and find their operands."""
    nodes, places = pruned((("lps",), ("neg", 0), ("const", 2.0), ("mul", 0, 2), ("sum", 3), ("pow", 1, 2)), (4,))
    assert nodes == (("lps",), ("const", 2.0), ("mul", 0, 1), ("sum", 2))
    assert places == {0: 0, 2: 1, 3: 2, 4: 3}


def test_a_scenario_has_something_for_what_it_composes():
    """Composed training looks at regularizers.train, composing offline does not; other scenarios look at nothing."""

    def looked(scenario: str) -> frozenset[str]:
        return looked_at(SUITE.scenarios[scenario], SUITE.losses)

    assert "regularizers.train" in looked("regularizers/several")
    assert "regularizers.train" not in looked("regularizers/compute-several")
    assert "regularizers.flat" in looked("regularizers/compute-several")
    assert looked("custom/sum-literal") == frozenset()
