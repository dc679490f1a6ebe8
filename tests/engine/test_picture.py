"""What a run looked like, from golden and observed traces of the reference and of a client that is wrong."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness.checks.verdict import Case
from harness.engine.events import PicturedChunk, ScenarioFinished, ScenarioPictured
from harness.engine.picture import NUMBERS, REQUESTS, picture
from harness.engine.prepare import prepare
from harness.engine.run import run
from harness.locations import locate
from mock_server.record import Exchange, Record

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def events():
    """Return the events of three scenarios of the reference, pictures asked for."""

    async def collect():
        plan = prepare(
            locate(ROOT),
            sdk="reference==0.15.0",
            expression="chunks/count-1025 or training/five-steps-sgd-awaited or custom/sum-literal",
            pictures=True,
        )
        async with aclosing(run(plan)) as stream:
            return plan, [event async for event in stream]

    return asyncio.run(collect())


@pytest.fixture(scope="module")
def pictures(events):
    """Return the pictures by scenario."""
    return {event.scenario: event for event in events[1] if isinstance(event, ScenarioPictured)}


def test_each_scenario_has_one_before_it_is_finished(events):
    """Reports know the picture when they hear that a scenario is over."""
    kinds = [(type(e), e.scenario) for e in events[1] if isinstance(e, (ScenarioPictured, ScenarioFinished))]
    for scenario in {scenario for _, scenario in kinds}:
        mine = [kind for kind, name in kinds if name == scenario]
        assert mine == [ScenarioPictured, ScenarioFinished]


def test_nobody_who_does_not_ask_pays(events):
    """Without being asked, the engine makes none."""

    async def collect():
        async with aclosing(run(replace(events[0], pictures=False))) as stream:
            return [event async for event in stream]

    assert not any(isinstance(event, ScenarioPictured) for event in asyncio.run(collect()))


def test_chunks_stand_beside_golden_ones(pictures):
    """Each pass has its requests, with seq_id and number of datums, on both sides."""
    passes = {each.name: each for each in pictures["chunks/count-1025"].passes}
    forward = passes["fb forward"]
    assert forward.kind == "forward"
    assert forward.expected == forward.observed
    assert [chunk.datums for chunk in forward.expected] == [1024, 1]
    assert passes["fb backward"].kind == "backward"


def test_requests_say_when_where_and_what_for(pictures):
    """Times in order, every phase by its kind, polls with the seq_id of what they ask for."""
    requests = pictures["chunks/count-1025"].requests
    assert [request.at_ms for request in requests] == sorted(request.at_ms for request in requests)
    kinds = [request.kind for request in requests]
    assert {"session", "forward", "backward", "poll"} <= set(kinds)
    assert kinds.count("forward") == kinds.count("backward") == 2
    assert {r.seq_id for r in requests if r.kind == "poll"} >= {1, 2, 3, 4}
    assert all(request.answered_ms is not None and request.status == 200 for request in requests)
    assert {request.model for request in requests if request.kind == "forward"} == {"model-1"}


def test_weights_that_agree_are_sampled_from_the_start(pictures):
    """Both sides have the same numbers, and the sample is bounded."""
    weights = pictures["chunks/count-1025"].weights
    assert weights.first == weights.differing == 0
    assert len(weights.expected) == len(weights.observed) == min(NUMBERS, weights.total)
    assert np.allclose(weights.expected, weights.observed)
    assert weights.begins[0] > 0


def test_losses_and_updates_follow_the_steps(pictures):
    """One loss per call, one update per optimizer step, both sides alike for the reference."""
    seen = pictures["training/five-steps-sgd-awaited"]
    assert [loss.step for loss in seen.losses] == ["fb1", "fb2", "fb3", "fb4", "fb5"]
    assert all(loss.expected == pytest.approx(loss.observed, rel=1e-4) for loss in seen.losses)
    assert len(seen.updates) == 5
    assert all(update.gradient[0] == pytest.approx(update.gradient[1], rel=1e-4) for update in seen.updates)
    assert all(update.difference == pytest.approx(0, abs=1e-4) for update in seen.updates)


def _golden(events, scenario):
    plan, _ = events
    planned = next(each for each in plan.scenarios if each.scenario.id == scenario)
    return planned, planned.golden


def _case(events, planned, observed):
    return Case(planned.golden, observed, events[0].contract, planned.scenario.judge.tolerance)


def test_a_wrong_weight_is_in_the_sample(events):
    """The sample begins shortly before the first number that differs, wherever that is."""
    planned, golden = _golden(events, "chunks/count-1025")
    requests = list(golden.requests)
    last = max(i for i, r in enumerate(requests) if r.phase == "backward")
    batch = requests[last].batch
    datum = batch.datums[-1]
    weights = datum.inputs["weights"]
    wrong = replace(weights, values=weights.values + np.float32(1))
    changed = replace(datum, inputs={**datum.inputs, "weights": wrong})
    requests[last] = replace(requests[last], batch=replace(batch, datums=(*batch.datums[:-1], changed)))
    seen = picture("s", Record(), _case(events, planned, replace(golden, requests=tuple(requests))))
    assert seen.weights.differing == weights.size
    assert seen.weights.first + len(seen.weights.expected) == seen.weights.total
    assert seen.weights.observed[-1] == pytest.approx(seen.weights.expected[-1] + 1)


def test_what_was_never_sent_is_an_empty_side(events):
    """Of a pass that is missing, golden's chunks stand alone."""
    planned, golden = _golden(events, "custom/sum-literal")
    kept = tuple(request for request in golden.requests if request.phase != "backward")
    seen = picture("s", Record(), _case(events, planned, replace(golden, requests=kept)))
    (backward,) = [each for each in seen.passes if each.kind == "backward"]
    assert backward.observed == ()
    assert backward.expected == (PicturedChunk(2, 3),)
    assert seen.weights is None


def _exchange(ordinal):
    return Exchange(
        ordinal=ordinal, at_ms=float(ordinal), answered_ms=None, connection="c1", method="POST", path="/", route="?",
        headers={}, encoding="none", compressed=False, size=0, body=["no", "object"], batch=None, unknown_fields=(),
        status=None, response=None,
    )  # fmt: skip


def test_a_driver_that_failed_leaves_its_requests():
    """Without a trace there is the time line, bounded, whatever was sent."""
    seen = picture("s", Record(exchanges=tuple(map(_exchange, range(REQUESTS + 7)))), None)
    assert len(seen.requests) == REQUESTS
    assert seen.more_requests == 7
    assert seen.requests[0].kind == "other"
    assert seen.requests[0].answered_ms is None
    assert seen.passes == ()


def test_a_picture_that_cannot_be_drawn_says_why(events):
    """A verdict does not hang on it: nothing is raised."""
    planned, golden = _golden(events, "custom/sum-literal")
    seen = picture("s", Record(), _case(events, planned, replace(golden, requests=(None,))))
    assert seen.trouble.startswith("the picture could not be drawn: AttributeError")
