"""Ready-made regularizers: the graph beside each is the function that is asked for, and one callback stays one."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from harness.reference.regularizers import builtins
from harness.suite.loader import load_suite
from harness.suite.losses.float64 import evaluate
from harness.suite.losses.parts import compositions
from harness.suite.losses.pruning import pruned
from harness.suite.ready_made import Consistency, KlDivergence, Orthogonality, ReadyMade, reference_of
from harness.suite.rules import capabilities, looked_at
from harness.suite.scenario import Loss

SUITE = load_suite(Path(__file__).parents[2])
MADE = [
    (name, index)
    for name, loss in SUITE.losses.items()
    for index, term in enumerate((loss.apart and loss.apart.regularizers) or ())
    if term.adapter is not None
]


def _formula(adapter: ReadyMade, datums: int) -> Loss:
    """Return the documented graph of a ready-made regularizer, of so many datums."""
    options = msgspec.structs.asdict(adapter)
    if isinstance(adapter, Orthogonality):
        return builtins.orthogonality(datums)
    if field := options.pop("reference", ""):
        options["field"] = field
    kind = str(adapter.__struct_config__.tag)
    return getattr(builtins, "kl_reference" if kind == "kl_divergence" else kind)(**options)


@pytest.mark.parametrize(("name", "index"), MADE, ids=[f"{name}-{index}" for name, index in MADE])
def test_the_graph_computes_what_the_adapter_is_asked_for(name, index):
    """Value and gradient of the part are those of docs/regularizers.md with the adapter's options."""
    loss = SUITE.losses[name]
    assert loss.apart is not None
    assert loss.apart.regularizers is not None
    term = loss.apart.regularizers[index]
    assert term.adapter is not None
    drawn = np.random.default_rng(index)
    logprobs = [-drawn.uniform(0.2, 2.0, size=3) for _ in range(3)]
    field = reference_of(term.adapter)
    fields = [{field: -drawn.uniform(0.2, 2.0, size=3)} if field else {} for _ in logprobs]
    nodes, places = pruned(loss.nodes, (term.node,))
    part = evaluate(Loss(nodes, places[term.node]), logprobs, fields)
    wanted = evaluate(_formula(term.adapter, len(logprobs)), logprobs, fields)
    assert float(part.loss) == pytest.approx(float(wanted.loss), rel=1e-12)
    assert part.gradients is not None
    assert wanted.gradients is not None
    for left, right in zip(part.gradients, wanted.gradients, strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-12, atol=1e-15)


def test_every_kind_is_asked_for():
    """The suite has a regularizer of every kind there is, in a custom loss and offline."""
    asked: dict[bool, set[type]] = {True: set(), False: set()}
    for name, index in MADE:
        apart = SUITE.losses[name].apart
        assert apart is not None
        assert apart.regularizers is not None
        asked[apart.folded].add(type(apart.regularizers[index].adapter))
    kinds = set(ReadyMade.__args__)
    assert asked == {True: kinds, False: kinds}


def test_only_comparisons_read_an_input():
    """The input that is compared with is named by the adapter; the others name none."""
    assert reference_of(KlDivergence("q")) == reference_of(Consistency("q")) == "q"
    assert reference_of(Orthogonality()) == ""


def test_a_folded_loss_is_one_callback_for_every_driver():
    """It needs no capability, has no report to look at, and is still known as a composition."""
    scenario = SUITE.scenarios["regularizers/adapters-training"]
    assert looked_at(scenario, SUITE.losses) == frozenset()
    assert capabilities(scenario, SUITE.losses) == {"create_model", "forward_backward_custom"}
    assert set(compositions(scenario, SUITE.losses)) == {"fb"}


def test_a_driver_without_ready_made_regularizers_evaluates_the_graphs():
    """No scenario asks for the capability: it says what a driver hands over, not what it can be judged by."""
    scenario = SUITE.scenarios["regularizers/adapters-offline"]
    assert not {each for each in capabilities(scenario, SUITE.losses) if "adapters" in each}
