"""A mistake of a real client is called what it is: one mutant, one scenario, one cause."""

from __future__ import annotations

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import msgspec
import pytest

from harness.checks.registry import judge
from harness.checks.verdict import Case
from harness.contracts.timeline import load_timeline
from harness.drivers.protocol import Run
from harness.drivers.reference.running import ScenarioRun
from harness.drivers.wire import DataEncoder
from harness.engine.observe import losses_of
from harness.engine.prepare import golden_stores, open_suite
from harness.locations import locate
from harness.reference.behaviour import behaviour_of
from harness.suite.data import expand
from harness.suite.losses.parts import compositions
from harness.trace.normalise import make_trace
from mock_server import MockServer

CAUSES = [
    ("sign", "custom/nonlinear", "weights.values", "opposite-sign"),
    ("scaled-by-n", "custom/nonlinear", "weights.values", "scaled-by-n"),
    ("scaled-by-n", "custom/sum-literal", "weights.values", "scaled-by-n"),
    ("scaled-by-n", "metrics/collision", "weights.values", "scaled-by-n"),
    ("scaled-by-n", "custom/unused-datum", "metrics.values", "follows"),
    ("sign", "training/five-steps-sgd", "metrics.values", "follows"),
    ("sign", "training/five-steps-sgd", "training.parameters", "follows"),
    ("wrong-datum", "chunks/limits-from-config", "weights.values", "wrong-datum"),
    ("missing-gradient-as-zeros", "errors/missing-gradient", "result.status", "zeros-for-missing-gradient"),
    ("vector-summed", "errors/loss-not-scalar", "result.status", "error-swallowed"),
    ("loss-gets-copies", "custom/loss-mutates-inputs", "loss.unchanged", "data-copied"),
    ("input-leaked", "custom/extra-inputs", "weights.keys", "input-leaked"),
    ("flattened", "custom/targets-2d", "weights.shape", "flattened"),
    ("weights-int64", "custom/nonlinear", "weights.dtype", "dtype-changed"),
    ("always-dense", "custom/targets-2d-sparse", "weights.layout", "layout-changed"),
    ("zero-weights-forgotten", "custom/sum-literal", "forward.keys", "key-dropped"),
    ("ones-for-missing-weights", "custom/sum-literal", "forward.values", "default-filled"),
    ("limit-one-more", "chunks/count-1025", "chunks.boundaries", "cut-off-by-one"),
    ("limit-one-less", "chunks/count-1024", "chunks.boundaries", "cut-off-by-one"),
    ("empty-first-chunk", "chunks/oversized-first", "chunks.nonempty", "chunk-empty"),
    ("config-ignored", "chunks/limits-from-config", "chunks.boundaries", "not-cut"),
    ("ten-bytes-per-element", "chunks/limits-from-config", "chunks.boundaries", "bytes-per-element"),
    ("bytes-exclusive", "chunks/bytes-at-limit", "chunks.boundaries", "limit-exclusive"),
    ("first-chunk-first", "chunks/limits-from-config", "order.arrival", "chunks-in-turn"),
    ("seq-id-skipped", "order/ids-are-shared", "order.gapless", "id-skipped"),
    ("ids-from-two", "order/ids-are-shared", "order.seq", "ids-start-elsewhere"),
    ("id-reused", "order/ids-are-shared", "order.unique", "id-reused"),
    ("ids-per-pass", "order/custom-then-optim-concurrent", "order.phases", "overtaken"),
    ("custom-call-blocks", "errors/loss-raises", "error.raised_at", "raised-elsewhere"),
    ("metrics-unmerged", "custom/nonlinear", "metrics.names", "key-dropped"),
    ("surrogate-for-loss", "custom/nonlinear", "metrics.values", "own-loss-vs-surrogate"),
    ("mean-unweighted", "metrics/reduction", "metrics.values", "reduction-unweighted"),
    ("unique-from-two", "metrics/reduction", "metrics.names", "suffix-off-by-one"),
    ("not-poisoned", "errors/loss-raises", "error.after", "not-poisoned"),
    ("beta2-of-textbooks", "training/five-steps-sgd", "wire.bodies", "value-changed"),
    ("session-never-ends", "session/lifecycle", "session.end", "not-sent"),
    ("null-for-absent", "session/lifecycle", "wire.bodies", "null-for-absent"),
    ("leaves-float64", "custom/nonlinear", "loss.saw_dtype", "dtype-widened"),
    ("loss-called-twice", "custom/nonlinear", "loss.calls", "called-too-often"),
    ("caller-data-changed", "custom/nonlinear", "loss.unchanged", "data-mutated"),
    ("regularizers-reported-not-trained", "regularizers/several", "weights.values", "regularizer-ignored"),
    ("regularizers-ignored", "regularizers/weight-hundred", "weights.values", "regularizer-ignored"),
    ("base-not-trained", "regularizers/several", "weights.values", "base-ignored"),
    ("weight-not-applied", "regularizers/several", "weights.values", "weight-not-applied"),
    ("weight-applied-twice", "regularizers/several", "weights.values", "weight-applied-twice"),
    ("contributions-weighted-twice", "regularizers/several", "regularizers.contributions", "weight-applied-twice"),
    ("regularizers-by-completion", "regularizers/side-by-side", "regularizers.order", "completion-order"),
    ("nulls-left-out", "regularizers/tracking", "regularizers.document", "absent-for-null"),
    ("norms-exchanged", "regularizers/several", "regularizers.norms", "norm-of-other-weighting"),
    ("norms-of-zero", "regularizers/several", "regularizers.norms", "zeros-for-values"),
    ("norms-added-up", "regularizers/cancels-base", "regularizers.norms", "norms-added"),
    (
        "comparisons-without-gradient",
        "regularizers/adapters-references-offline",
        "regularizers.norms",
        "part-without-gradient",
    ),
    (
        "comparisons-without-gradient",
        "regularizers/adapters-references-training",
        "weights.values",
        "part-without-gradient",
    ),
    ("comparisons-without-gradient", "regularizers/adapters-weight-hundred", "weights.values", "part-without-gradient"),
    ("entropies-without-gradient", "regularizers/adapters-training", "weights.values", "part-without-gradient"),
    ("name-lost", "regularizers/times-out", "regularizers.error", "name-lost"),
]


LOCATIONS = locate()
TIMELINE = load_timeline(LOCATIONS.timeline)
CONTRACT = TIMELINE.point("tinker-0.38.0")


@cache
def _suite():
    return open_suite(LOCATIONS)


@pytest.fixture(scope="module")
def server():
    """Run one mock server for all mutants."""
    with MockServer() as running:
        yield running


@pytest.fixture(scope="module")
def workers():
    """Return the thread that evaluates losses."""
    with ThreadPoolExecutor(1) as pool:
        yield pool


@pytest.fixture(scope="module")
def mutants():
    """Return the catalogue of wrong clients."""
    folder = str(Path(__file__).parents[1] / "mutants")
    sys.path.insert(0, folder)
    try:
        from catalogue import MUTANTS

        return MUTANTS
    finally:
        sys.path.remove(folder)


async def _observed(scenario, mutant, server, workers, file):
    """Run a scenario on a wrong client, in this process, and return its trace."""
    tenant = server.open_tenant(scenario.stimulus.server)
    encoder = DataEncoder(file)
    command = Run(
        id=1,
        base_url=server.base_url,
        api_key=tenant.api_key,
        steps=[msgspec.to_builtins(step) for step in scenario.stimulus.steps],
        data=encoder.data({name: expand(spec) for name, spec in scenario.stimulus.data.items()}),
        losses=losses_of(scenario, _suite().losses),
        timeout=scenario.timeout,
    )
    encoder.save()
    client = mutant.client(server.base_url, tenant.api_key, mutant.change(behaviour_of(CONTRACT)), workers=workers)
    steps = await ScenarioRun(client, command).execute()
    record = tenant.record()
    tenant.close()
    return make_trace(scenario.id, _suite().digest(scenario), CONTRACT.id, record, steps)


@pytest.mark.parametrize(
    ("mutant", "scenario", "check", "cause"),
    CAUSES,
    ids=["-".join(row[:3:2]) + "-" + row[1].partition("/")[2] for row in CAUSES],
)
def test_a_mutant_is_told_by_its_cause(mutant, scenario, check, cause, server, workers, mutants, tmp_path):
    """The check that catches the mutant says what is wrong with it."""
    asked = _suite().scenarios[scenario]
    golden = golden_stores(LOCATIONS, _suite())(scenario).load(scenario, CONTRACT.release, TIMELINE.described)
    observed = asyncio.run(_observed(asked, mutants[mutant], server, workers, tmp_path / "data"))
    verdict = judge(
        check,
        Case(
            golden=golden,
            observed=observed,
            contract=CONTRACT,
            tolerance=asked.judge.tolerance,
            script=asked.stimulus.server,
            compositions=compositions(asked, _suite().losses),
        ),
    )
    assert (verdict.outcome, verdict.cause) == ("fail", cause), verdict
