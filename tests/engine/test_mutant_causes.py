"""A mistake of a real client is called what it is: one mutant, one scenario, one cause."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from harness.drivers.registry import PYTHON_VARIABLES
from harness.drivers.spec import DriverSpec, base_environment
from harness.engine.events import CheckJudged
from harness.engine.prepare import prepare
from harness.engine.run import run
from harness.locations import locate

DRIVER = Path(__file__).parents[1] / "mutants" / "driver.py"
CAUSES = [
    ("sign", "custom/nonlinear", "weights.values", "opposite-sign"),
    ("scaled-by-n", "custom/nonlinear", "weights.values", "scaled-by-n"),
    ("wrong-datum", "chunks/limits-from-config", "weights.values", "wrong-datum"),
    ("missing-gradient-as-zeros", "errors/missing-gradient", "result.status", "zeros-for-missing-gradient"),
    ("vector-summed", "errors/loss-not-scalar", "result.status", "error-swallowed"),
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
]


async def _judged(plan):
    return [event async for event in run(plan) if isinstance(event, CheckJudged)]


@pytest.mark.parametrize(("mutant", "scenario", "check", "cause"), CAUSES, ids=[row[0] for row in CAUSES])
def test_a_mutant_is_told_by_its_cause(mutant, scenario, check, cause):
    """The check that catches the mutant says what is wrong with it."""
    plan = prepare(locate(), sdk="reference", contract="tinker-0.38.0", expression=f"{scenario}:{check}", jobs=1)
    spec = DriverSpec(
        argv=(sys.executable, "-s", str(DRIVER), mutant),
        name="mutant",
        version="0.38.0",
        env=base_environment(PYTHON_VARIABLES),
    )
    found = asyncio.run(_judged(replace(plan, spec=spec, rerun=False, vectors=())))
    assert [(each.check, each.outcome, each.cause) for each in found] == [(check, "fail", cause)], found
