"""Loss graphs: torch against the independent float64 evaluation, gradients against differences, and the rules."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_graphs import random_graph

from harness.contracts.timeline import load_timeline
from harness.drivers.python import graph
from harness.golden.store import GoldenStore
from harness.suite.composition import ExpectedReport
from harness.suite.data import expand
from harness.suite.loader import load_suite
from harness.suite.losses import OPERATIONS, validate
from harness.suite.losses.cases import make_vectors
from harness.suite.losses.domain import departures
from harness.suite.losses.float64 import evaluate
from harness.suite.losses.parts import composed, compositions, gradient_of
from harness.suite.losses.spelling import SPELLINGS
from harness.suite.losses.vectors import ATOL, RTOL, Expected, Vector, judge_vectors, load_vectors
from harness.suite.publish import published
from harness.suite.scenario import ForwardBackwardCustom, Loss

ROOT = Path(__file__).parents[2]
VECTORS = load_vectors(ROOT / "fixtures" / "losses" / "ops")
SEEDS = st.integers(min_value=0, max_value=2**32)


def _torch(loss: Loss, logprobs: list[Any], fields: list[Any], dtype: torch.dtype) -> Any:
    plain = {"nodes": [list(node) for node in loss.nodes], "loss": loss.loss, "metrics": loss.metrics}
    return graph.value_and_gradients(
        plain,
        [torch.tensor(leaf).to(dtype) for leaf in logprobs],
        [{key: torch.tensor(array) for key, array in datum.items()} for datum in fields],
    )


def _array(tensor: dict[str, Any]) -> Any:
    values = [float(value) for value in tensor["data"]]
    return np.array(values, dtype=tensor["dtype"]).reshape(tensor["shape"])


def _parts(vector: Vector) -> tuple[Loss, list[Any], list[dict[str, Any]]]:
    content = vector.case["loss"]
    loss = Loss(tuple(tuple(node) for node in content["nodes"]), content["loss"], content["metrics"])
    logprobs = [_array(tensor) for tensor in vector.case["logprobs"]]
    return loss, logprobs, [{key: _array(t) for key, t in datum.items()} for datum in vector.case["fields"]]


def _answer(vector: Vector) -> dict[str, Any]:
    loss, metrics, gradients = _torch(*_parts(vector), torch.float32)
    assert loss.dtype is torch.float32
    return {
        "loss": loss.item(),
        "metrics": metrics,
        "gradients": [None if part is None else part.reshape(-1).tolist() for part in gradients],
    }


# --- two evaluators ---------------------------------------------------------------------------------------------------


@given(SEEDS)
@settings(max_examples=120, derandomize=True, deadline=None)
def test_torch_in_float64_equals_the_hand_written_derivatives(seed: int) -> None:
    """Loss, metric and every gradient element agree to rounding on random graphs."""
    made = random_graph(seed)
    mine = evaluate(made.loss, made.logprobs, made.fields)
    loss, metrics, gradients = _torch(made.loss, made.logprobs, made.fields, torch.float64)
    np.testing.assert_allclose(loss.item(), mine.loss, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(metrics["m"], mine.metrics["m"], rtol=1e-9, atol=1e-9)
    assert mine.gradients is not None
    for theirs, own in zip(gradients, mine.gradients, strict=True):
        assert own is not None
        assert theirs.shape == own.shape
        np.testing.assert_allclose(theirs.numpy(), own, rtol=1e-7, atol=1e-9)


@given(SEEDS)
@settings(max_examples=60, derandomize=True, deadline=None)
def test_float32_stays_float32_and_close(seed: int) -> None:
    """In float32 the graph's values and gradients have that dtype, and the loss is that of float64 to its precision."""
    made = random_graph(seed)
    loss, _, gradients = _torch(made.loss, made.logprobs, made.fields, torch.float32)
    assert loss.dtype is torch.float32
    assert {part.dtype for part in gradients} == {torch.float32}
    mine = evaluate(made.loss, made.logprobs, made.fields)
    largest = max(float(np.max(np.abs(value), initial=1.0)) for value in mine.values)
    assert abs(loss.item() - float(mine.loss)) <= 1e-4 * largest


def test_the_random_graphs_use_every_operation() -> None:
    """The generator reaches every operation, so that the comparison above means something."""
    used = Counter(node[0] for seed in range(160) for node in random_graph(seed).loss.nodes)
    assert set(used) == set(OPERATIONS)


def test_the_cost_is_linear_in_datums() -> None:
    """A graph on 20,000 datums records as many autograd nodes as on 2: none of its operations is repeated per datum."""

    def size(count: int) -> int:
        leaves = [torch.zeros(1, requires_grad=True) for _ in range(count)]
        nodes = [["lps"], ["seg_mean", 0], ["expand", 1], ["mul", 0, 2], ["seg_sum", 3], ["logsumexp", 4]]
        loss, _ = graph.evaluate({"nodes": nodes, "loss": 5}, leaves, [{} for _ in leaves])
        seen, waiting = set(), [loss.grad_fn]
        while waiting:
            function = waiting.pop()
            if function is not None and function not in seen:
                seen.add(function)
                waiting += [following for following, _ in function.next_functions]
        # One view and one accumulator belong to each leaf.
        return len(seen) - len(leaves)

    assert size(20_000) - size(2) <= 20_000


# --- vectors ----------------------------------------------------------------------------------------------------------


def test_every_operation_has_vectors() -> None:
    """Each operation has a file of its own, every graph of which uses it."""
    files = {vector.name.split("/")[0] for vector in VECTORS}
    assert files == {*OPERATIONS, "compositions", "empty"}
    for vector in VECTORS:
        name = vector.name.split("/")[0]
        assert name not in OPERATIONS or name in {node[0] for node in vector.case["loss"]["nodes"]}
    assert len({vector.name for vector in VECTORS}) == len(VECTORS)


def test_torch_passes_every_vector_in_float32() -> None:
    """The evaluator of the Python drivers agrees with float64 within the published tolerance."""
    assert judge_vectors([_answer(vector) for vector in VECTORS], VECTORS) == []


def test_gradients_of_the_vectors_are_central_differences() -> None:
    """The hand-written derivatives are those of the hand-written values: both are needed for a wrong vector to pass."""
    step = 1e-5
    for vector in VECTORS:
        if "stop_grad" in {node[0] for node in vector.case["loss"]["nodes"]}:
            continue
        loss, logprobs, fields = _parts(vector)
        leaves = [leaf.astype(np.float64) for leaf in logprobs]
        gradients = evaluate(loss, leaves, fields).gradients
        assert gradients is not None
        for leaf, gradient in zip(leaves, gradients, strict=True):
            for place in np.ndindex(leaf.shape):
                kept = leaf[place]
                leaf[place] = kept + step
                above = float(evaluate(loss, leaves, fields).loss)
                leaf[place] = kept - step
                below = float(evaluate(loss, leaves, fields).loss)
                leaf[place] = kept
                slope = 0.0 if gradient is None else gradient[place]
                if vector.name.endswith("/equal"):
                    continue
                assert (above - below) / (2 * step) == pytest.approx(slope, rel=2e-4, abs=2e-6), vector.name


def test_vectors_stay_in_the_domain() -> None:
    """No vector hangs on what libraries disagree about, but for exact ties of comparisons and of a clipped ratio."""
    outside = set()
    for vector in VECTORS:
        loss, logprobs, fields = _parts(vector)
        if departures(loss, evaluate(loss, logprobs, fields)):
            outside.add(vector.name)
    assert outside == {"gt/equal", "ge/equal", "lt/equal", "le/equal", "compositions/ppo"}


def _one(loss: float = 1.0, gradient: Any = (2.0,)) -> Vector:
    return Vector("x/y", {}, Expected(loss=loss, metrics={"m": 3.0}, gradients=(gradient,)))


@pytest.mark.parametrize(
    ("result", "where"),
    [
        ({"error": "it raised"}, "result"),
        ({"loss": 1.1, "metrics": {"m": 3.0}, "gradients": [[2.0]]}, "loss"),
        ({"loss": "NaN", "metrics": {"m": 3.0}, "gradients": [[2.0]]}, "loss"),
        ({"loss": True, "metrics": {"m": 3.0}, "gradients": [[2.0]]}, "loss"),
        ({"metrics": {"m": 3.0}, "gradients": [[2.0]]}, "loss"),
        ({"loss": 1.0, "metrics": {}, "gradients": [[2.0]]}, "metrics"),
        ({"loss": 1.0, "metrics": {"m": 3.1}, "gradients": [[2.0]]}, "metrics.m"),
        ({"loss": 1.0, "metrics": {"m": 3.0}, "gradients": None}, "gradients"),
        ({"loss": 1.0, "metrics": {"m": 3.0}, "gradients": [None]}, "gradients[0]"),
        ({"loss": 1.0, "metrics": {"m": 3.0}, "gradients": [[2.0, 2.0]]}, "gradients[0]"),
        ({"loss": 1.0, "metrics": {"m": 3.0}, "gradients": [[-2.0]]}, "gradients[0][0]"),
    ],
)
def test_a_wrong_result_is_a_mismatch_where_it_is_wrong(result: dict[str, Any], where: str) -> None:
    """Each kind of wrong answer is found and located."""
    found = judge_vectors([result], [_one()])
    assert [mismatch.where for mismatch in found] == [where]


def test_results_that_are_missing_or_too_many_are_mismatches() -> None:
    """A driver cannot pass by answering less or more than it was asked."""
    right = {"loss": 1.0, "metrics": {"m": 3.0}, "gradients": [[2.0]]}
    assert judge_vectors([right], [_one()]) == []
    assert [found.where for found in judge_vectors([], [_one()])] == ["result"]
    assert [found.where for found in judge_vectors([right, right], [_one()])] == ["results"]


def test_a_gradient_of_zeros_is_not_a_missing_gradient() -> None:
    """Zeros where no gradient is expected, and nothing where zeros are, both differ."""
    zeros = {"loss": 1.0, "metrics": {"m": 3.0}, "gradients": [[0.0]]}
    nothing = {"loss": 1.0, "metrics": {"m": 3.0}, "gradients": [None]}
    assert judge_vectors([zeros], [_one(gradient=None)])
    assert judge_vectors([nothing], [_one(gradient=(0.0,))])
    assert judge_vectors([nothing], [_one(gradient=None)]) == []


@given(st.floats(min_value=-1e6, max_value=1e6), st.floats(min_value=0, max_value=3))
@settings(derandomize=True)
def test_the_tolerance_is_the_published_one(expected: float, units: float) -> None:
    """A loss off by less than the tolerance passes, one off by more does not."""
    off = units * (ATOL + RTOL * abs(expected))
    result = {"loss": expected + off, "metrics": {"m": 3.0}, "gradients": [[2.0]]}
    if not 0.999 < units < 1.001:
        assert bool(judge_vectors([result], [_one(loss=expected)])) == (units > 1)


# --- rules of the torch evaluator -------------------------------------------------------------------------------------


def _run(nodes: list[Any], logprobs: list[Any], fields: list[Any] | None = None) -> Any:
    loss = {"nodes": nodes, "loss": len(nodes) - 1}
    return graph.value_and_gradients(loss, logprobs, fields or [{} for _ in logprobs])


def test_a_datum_no_path_reaches_has_no_gradient() -> None:
    """`lp` of another datum leaves None; `lps` gives zeros; a constant loss leaves None everywhere."""
    leaves = [torch.ones(2), torch.ones(1)]
    assert _run([["lp", 0], ["sum", 0]], leaves)[2][1] is None
    taken = _run([["lps"], ["take", 0, [0]], ["sum", 1]], leaves)[2]
    assert [part.tolist() for part in taken] == [[1.0, 0.0], [0.0]]
    assert _run([["const", 1.5]], leaves)[2] == [None, None]


def test_a_two_dimensional_leaf_gets_a_gradient_of_its_shape() -> None:
    """Logprobs are flattened row-major inside and the gradient comes back in their shape."""
    leaf = torch.arange(6.0).reshape(3, 2)
    gradient = _run([["lps"], ["square", 0], ["sum", 1]], [leaf])[2][0]
    assert torch.equal(gradient, 2 * leaf)


def test_fail_raises_its_message_before_anything_is_computed() -> None:
    """A loss with `fail` raises RuntimeError with exactly that message."""
    with pytest.raises(RuntimeError, match=r"^on purpose$"):
        graph.evaluate({"nodes": [["lp", 7]], "loss": 0, "fail": "on purpose"}, [], [])


@pytest.mark.parametrize(
    ("nodes", "fields", "message"),
    [
        ([["lp", 2]], [{}, {}], "nodes\\[0\\] lp: no datum 2"),
        ([["fields", "k"]], [{"k": torch.ones(2)}, {}], "datum 1 has no field 'k'"),
        ([["fields", "k"]], [{"k": torch.ones(2)}, {"k": torch.ones(2)}], "datum 1 has 2 values, its logprobs 1"),
        ([["lp", 0], ["lp", 1], ["add", 0, 1]], [{}, {}], "operands of lengths"),
        ([["lps"], ["take", 0, [3]]], [{}, {}], "no element 3"),
        ([["lps"], ["median", 0]], [{}, {}], "unknown operation 'median'"),
        ([["lps"]], [{}], "2 logprobs but fields of 1 datums"),
    ],
)
def test_a_graph_that_does_not_fit_its_data_is_refused(nodes: list[Any], fields: list[Any], message: str) -> None:
    """Nothing is broadcast or clamped in silence: a vector of length 1 is not a scalar."""
    with pytest.raises(graph.GraphError, match=message):
        graph.evaluate({"nodes": nodes, "loss": 0}, [torch.ones(2), torch.ones(1)], fields)


def test_no_datum_at_all_is_evaluated() -> None:
    """Without datums the concatenation is empty and its sum 0."""
    assert _run([["lps"], ["sum", 0]], [])[0].item() == 0.0


# --- shapes and publication -------------------------------------------------------------------------------------------


def test_shapes_follow_the_rules() -> None:
    """The validator tells the shape of every node; a loss may be a vector."""
    nodes = (("lps",), ("seg_sum", 0), ("expand", 1), ("take", 1, [0, 0]), ("lp", 0), ("mul", 3, 4), ("sum", 5))
    assert [str(shape) for shape in validate(Loss(nodes, 2))] == ["T", "D", "T", "V<2>", "V", "V<2>", "S"]


def test_the_losses_of_the_suite_stay_in_their_domain() -> None:
    """On the logprobs that golden traces hold, every loss is away from kinks and inside its operations' domain.

    Excepted are the ties of a clipped ratio, which have one derivative, and sums over many tokens, which are exact
    where the logprobs are multiples of 1/8 and may be larger than what the random graphs allow. Logprobs that the
    server scripts as infinite are no numbers to compare derivatives at.
    """
    suite = load_suite(ROOT)
    described = load_timeline(ROOT / "fixtures" / "contracts" / "tinker.toml").described
    store = GoldenStore(ROOT / "golden")
    looked, outside = 0, set()
    for scenario in suite.scenarios.values():
        if not np.isfinite(scenario.stimulus.server.logprobs.table).all():
            continue
        requests = store.load(scenario.id, described[-1], described).requests
        for step in scenario.stimulus.steps:
            if not isinstance(step, ForwardBackwardCustom):
                continue
            data = expand(scenario.stimulus.data[step.data])
            sent = [r for r in requests if (r.call, r.phase) == (step.id, "forward")]
            logprobs = [output["logprobs"].dense().astype(np.float64) for r in sent for output in r.outputs]
            loss = suite.losses[step.loss]
            if loss.fail or len(logprobs) != len(data) or not data:
                continue
            fields = [{name: value.array for name, value in datum.inputs.items()} for datum in data]
            looked += 1
            found = departures(loss, evaluate(loss, logprobs, fields))
            outside |= {(step.loss, departure.what) for departure in found}
    large = "a value is not finite or exceeds 1000"
    assert looked >= 80
    assert {name for name, what in outside if what != large} <= {"clipped_ratio"}
    sums = {"half_square", "mean_of_means", "one_per_datum"}
    assert {name for name, what in outside if what == large} <= {*sums, "infinite_gradient", "nan_gradient"}


def test_every_operation_is_spelled() -> None:
    """The documentation has a spelling for each operation and none for others."""
    assert set(SPELLINGS) == set(OPERATIONS)


def test_published_files_are_up_to_date() -> None:
    """Schemas, tables and vectors are what `python -m harness.suite.publish` would write.

    Expected numbers of vectors may differ in their last digits between machines; everything else is equal.
    """
    vectors = ROOT / "fixtures" / "losses" / "ops"
    wanted = published(ROOT)
    assert {path for path in wanted if path.parent == vectors} == set(vectors.glob("*.json"))
    for path, content in wanted.items():
        if path.parent != vectors:
            assert path.read_text(encoding="utf-8") == content, f"{path} is stale"


def test_published_vectors_are_those_of_the_generator() -> None:
    """The committed vectors are the generated ones, number by number."""
    made = {vector.name: vector for vectors in make_vectors().values() for vector in vectors}
    assert {vector.name for vector in VECTORS} == set(made)
    for vector in VECTORS:
        assert vector.case == made[vector.name].case
        fresh, kept = made[vector.name].expected, vector.expected
        assert kept.loss == pytest.approx(fresh.loss, rel=1e-9, abs=1e-12)
        for one, other in zip(kept.gradients, fresh.gradients, strict=True):
            assert (one is None) == (other is None)
            assert one is None or list(one) == pytest.approx(list(other or ()), rel=1e-9, abs=1e-12)


def test_a_loss_taken_apart_is_the_same_loss() -> None:
    """Where one callback can stand for a loss, its base plus weighted regularizers has the whole's value and gradient.

    On the data and logprobs of every step that composes one; parts that are vectors have no sum.
    """
    suite = load_suite(ROOT)
    compared = set()
    for scenario in suite.scenarios.values():
        for composition in compositions(scenario, suite.losses).values():
            apart = composition.loss.apart
            assert apart is not None
            if apart.required or scenario.id.endswith("not-scalar"):
                continue
            leaves = composition.logprobs or [
                np.linspace(-0.25, -1.75, inputs["target_tokens"].size) for inputs in composition.fields
            ]
            whole = evaluate(composition.loss, leaves, composition.fields)
            numbers = composed(dataclasses.replace(composition, closed=ExpectedReport(step="none")), leaves)
            assert numbers.loss_total == pytest.approx(whole.loss, rel=1e-12), scenario.id
            parts = gradient_of(composition, leaves, base=1.0, weigh=float)
            for expected, part in zip(whole.gradients, parts, strict=True):
                assert part == pytest.approx(0.0 if expected is None else expected, rel=1e-12, abs=1e-15), scenario.id
            compared.add(scenario.id)
    assert len(compared) > 20
