"""A check that looks at a capability which the driver lacks is unsupported; the others of its scenario are judged."""

from __future__ import annotations

import pytest

from harness.drivers.reference.serving import hello_of
from harness.engine.attempt import beyond, lacking
from harness.engine.prepare import prepare
from harness.locations import locate

LOCATIONS = locate()
BASIC = ("create_model", "forward_backward_custom", "concurrent")
STRUCTURED = (*BASIC, "regularizers.train", "regularizers.compute", "regularizers.ordered", "regularizers.flat")


def _planned(scenario: str):
    plan = prepare(LOCATIONS, sdk="reference", expression=scenario)
    return plan, next(each for each in plan.scenarios if each.scenario.id == scenario)


@pytest.mark.parametrize(
    ("declared", "unsupported"),
    [
        (BASIC, {"document", "names", "order", "values", "contributions", "total", "norms", "custom", "flat", "calls"}),
        (STRUCTURED, set()),
        ((*BASIC, "regularizers.train"), {"order", "flat"}),
    ],
)
def test_only_what_looks_at_a_missing_capability_is_unsupported(declared, unsupported):
    """Without regularizers.train every check of reports is; without an order, or a flat form, only that one."""
    plan, planned = _planned("regularizers/one")
    kept, left_out = beyond(plan, planned, declared)
    assert {judged.check for judged in left_out} == {f"regularizers.{name}" for name in unsupported}
    assert {judged.outcome for judged in left_out} <= {"unsupported"}
    assert "weights.values" in kept.checks
    assert set(kept.checks) | {judged.check for judged in left_out} == set(planned.checks)
    assert not any(judged.required for judged in left_out)


@pytest.mark.parametrize(
    ("scenario", "declared", "missing"),
    [
        ("regularizers/one", BASIC, ""),
        ("regularizers/returns-triple", (*BASIC, "optim_step"), "regularizers.train"),
        ("regularizers/compute-several", BASIC, "regularizers.compute"),
        ("regularizers/compute-times-out", STRUCTURED, "regularizers.timeout"),
    ],
)
def test_a_scenario_of_parts_alone_needs_a_driver_that_takes_parts(scenario, declared, missing):
    """Where one callback stands for the parts every driver runs it; otherwise the whole scenario is unsupported."""
    plan, planned = _planned(scenario)
    judged = lacking(plan, planned, declared)
    assert bool(judged) is bool(missing)
    assert all(missing in each.message for each in judged)


def test_the_reference_declares_everything_that_scenarios_look_at():
    """Nothing of regularizers is unsupported for the reference."""
    plan = prepare(LOCATIONS, sdk="reference", expression="regularizers/")
    declared = hello_of(plan.contract).capabilities
    for planned in plan.scenarios:
        assert not lacking(plan, planned, declared)
        assert not beyond(plan, planned, declared)[1]
