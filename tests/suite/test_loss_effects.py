"""What a loss does besides computing must make sense on the data it is used with, and really happen."""

from __future__ import annotations

import time
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from harness.drivers.reference.watching import WatchedLoss
from harness.errors import ParityError
from harness.reference.values import Datum, datum_from, dense
from harness.suite.data import DatumValue, InputValue
from harness.suite.losses.effects import unfit_effects
from harness.suite.rules import check_scenario
from harness.suite.scenario import AppendDatum, Effect, Loss, RemoveDatum, Scenario, SetInput, UnsetInput


@pytest.mark.parametrize(
    ("effects", "what"),
    [
        ((SetInput(datum=2, key="weights", values=(1.0,)),), "needs datum 2; there are 2 then"),
        ((SetInput(datum=0, key="weights", values=(1.0,)),), "1 numbers for 2"),
        ((SetInput(datum=0, key="mask", values=(1.0, 1.0)),), "which is not there"),
        ((UnsetInput(datum=0, key="weights"), UnsetInput(datum=0, key="weights")), "mutates[1] needs the input"),
        ((SetInput(datum=0, key="target_tokens", values=(1.5, 2)),), "whole numbers"),
        ((RemoveDatum(datum=1), RemoveDatum(datum=1)), "there are 1 then"),
        ((AppendDatum(datum=0), RemoveDatum(datum=2), UnsetInput(datum=1, key="mask")), "which is not there"),
        ((SetInput(datum=1, key="weights", values=(1.0, 0)), AppendDatum(datum=1), RemoveDatum(datum=2)), ""),
    ],
)
def test_effects_must_fit_the_data(effects: tuple[Effect, ...], what: str) -> None:
    """Each effect needs the datum and the input it names, as they are when its turn comes, and as many numbers."""
    targets = InputValue(np.array([1, 2]), "tensor")
    weights = InputValue(np.array([1.0, 1.0], np.float32), "tensor")
    datum = DatumValue(np.array([1, 2]), {"target_tokens": targets, "weights": weights})
    said = unfit_effects(effects, [datum, datum])
    assert what in said
    assert bool(said) is bool(what)


def _watched(**more: Any) -> tuple[WatchedLoss, list[DatumValue], list[Datum]]:
    weights = InputValue(np.array([1.0, 1.0], np.float32), "list")
    caller = [DatumValue(np.array([1, 2]), {"weights": weights}), DatumValue(np.array([3, 4]), {"weights": weights})]
    loss = {"nodes": [["lps"], ["fields", "weights"], ["dot", 0, 1]], "loss": 2, **more}
    handed = [datum_from(value, sparse=dense, nested=lambda _, array: array) for value in caller]
    return WatchedLoss(loss, caller), caller, handed


def _leaves() -> list[torch.Tensor]:
    return [torch.tensor([-1.0, -2.0], requires_grad=True) for _ in range(2)]


def test_effects_happen_to_both_lists_after_the_loss_is_computed() -> None:
    """The loss is that of the old numbers; caller and client then have the new ones, and what follows is reported."""
    effects = [
        {"do": "set", "datum": 0, "key": "weights", "values": [7, 8]},
        {"do": "unset", "datum": 1, "key": "weights"},
        {"do": "append", "datum": 0},
        {"do": "remove", "datum": 0},
    ]
    watched, caller, handed = _watched(mutates=effects)
    loss, _ = watched(handed, _leaves())
    assert loss.item() == -6.0
    assert [datum.inputs["weights"].dense().tolist() if datum.inputs else [] for datum in handed] == [[], [7.0, 8.0]]
    assert [datum.inputs["weights"].array.tolist() if datum.inputs else [] for datum in caller] == [[], [7.0, 8.0]]
    assert [datum.tokens.tolist() for datum in caller] == [[3, 4], [1, 2]]
    assert caller[1].inputs["weights"].array.dtype == np.float32
    assert watched.saw().unchanged is False


def test_a_loss_takes_the_time_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """The callback waits for `delay_seconds`, and for nothing when there is none."""
    waited: list[float] = []
    monkeypatch.setattr(time, "sleep", waited.append)
    for more in ({"delay_seconds": 0.25}, {}):
        watched, _, handed = _watched(**more)
        watched(handed, _leaves())
    assert waited == [0.25, 0.0]


def test_a_scenario_whose_data_the_effects_do_not_fit_is_refused() -> None:
    """The error names the loss and what it misses."""
    scenario = msgspec.convert(
        {
            "id": "own/case",
            "title": "t",
            "why": "w",
            "stimulus": {
                "steps": [
                    {"do": "create_model"},
                    {"do": "forward_backward_custom", "id": "fb", "data": "batch", "loss": "drops"},
                ],
                "data": {"batch": {"generate": [{"count": 1}]}},
            },
            "judge": {"checks": ["wire.bodies"]},
        },
        Scenario,
    )
    drops = Loss(nodes=(("lps",), ("sum", 0)), loss=1, mutates=(UnsetInput(datum=0, key="weights"),))
    with pytest.raises(ParityError) as caught:
        check_scenario(scenario, {"drops": drops})
    assert caught.value.code == "loss-unfit"
    assert "'drops'" in caught.value.message
    assert "'weights' of datum 0" in caught.value.message
