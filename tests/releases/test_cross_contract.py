"""A real release judged by another release's contract: every known difference is found, under the right check."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from harness.engine.events import CheckJudged
from harness.engine.prepare import prepare
from harness.engine.run import run
from harness.locations import locate

DIFFERENCES = {
    ("session/lifecycle", "session.start"): "asks for its configuration before the session",
    ("custom/sum-literal", "session.model"): "asks for the model's info when it is created",
    ("session/lifecycle", "session.end"): "ends the session with a reason",
    ("session/lifecycle", "wire.bodies"): "names types, omits nulls, fills defaults",
    ("session/lifecycle", "wire.retrieval"): "allows metadata only",
    ("custom/sum-literal", "wire.encoding"): "sends passes in protobuf, a forward pass with forward_only",
    ("custom/sum-literal", "forward.keys"): "adds zero weights to the forward pass",
    ("custom/sum-literal", "metrics.names"): "adds surrogate_loss:sum",
    ("custom/extra-inputs", "forward.keys"): "keeps the caller's other inputs to itself",
    ("custom/targets-2d", "loss.saw_shape"): "keeps the shape of 2-D logprobs",
    ("custom/targets-2d", "weights.shape"): "keeps the shape of 2-D weights",
    ("custom/targets-2d-sparse", "weights.layout"): "compresses sparse rows",
    ("chunks/bytes-at-limit", "chunks.boundaries"): "estimates bytes as protobuf carries them",
    ("chunks/limits-from-config", "chunks.boundaries"): "reads its limits from client/config",
    ("chunks/count-2049", "order.arrival"): "sends the first chunk last",
    ("metrics/reduction", "metrics.names"): "knows hash2, not hash_unordered",
    ("metrics/collision", "metrics.values"): "puts the custom loss into loss:sum",
    ("order/custom-then-optim-concurrent", "order.phases"): "reserves both passes' ids at the call",
    ("errors/missing-gradient", "error.raised_at"): "raises when the result is awaited",
    ("errors/missing-gradient", "error.after"): "refuses everything after a failed custom call",
}


@pytest.fixture(scope="module")
def outcomes():
    """Outcomes of the real 0.38.0 under the contract of 0.7.0, by scenario and check."""
    plan = prepare(locate(), sdk="tinker==0.38.0", contract="tinker-0.7.0")
    wanted = {scenario for scenario, _ in DIFFERENCES}
    scenarios = tuple(planned for planned in plan.scenarios if planned.scenario.id in wanted)
    assert {planned.scenario.id for planned in scenarios} == wanted

    async def judged():
        found = {}
        async for event in run(replace(plan, scenarios=scenarios, rerun=False)):
            if isinstance(event, CheckJudged):
                found[event.scenario, event.check] = event.outcome
        return found

    return asyncio.run(judged())


@pytest.mark.parametrize(("scenario", "check"), DIFFERENCES, ids=[":".join(key) for key in DIFFERENCES])
def test_a_difference_between_releases_is_found_by_its_check(outcomes, scenario, check):
    """0.38.0 differs from 0.7.0 in this, and this check says so."""
    assert outcomes[scenario, check] == "fail", DIFFERENCES[scenario, check]


def test_what_no_release_changed_holds_under_either_contract(outcomes):
    """Nothing else turns red: weights, gradients and the caller's data are what they were."""
    for check in ("weights.values", "weights.dtype", "loss.calls", "loss.unchanged", "chunks.complete"):
        assert {outcome for (_, name), outcome in outcomes.items() if name == check} == {"pass"}
    assert "error" not in outcomes.values()
