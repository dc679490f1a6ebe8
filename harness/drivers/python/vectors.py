"""Answers one case of the `evaluate` command with torch: the loss of a graph, its metrics and its gradients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from . import graph, spelling


def evaluate_case(case: Mapping[str, Any]) -> dict[str, Any]:
    """Evaluate in float32, as a loss callback would; what the evaluation raises is the case's `error`."""
    try:
        logprobs = [_tensor(wire) for wire in case["logprobs"]]
        fields = [{name: _tensor(wire) for name, wire in datum.items()} for datum in case["fields"]]
        loss, metrics, gradients = graph.value_and_gradients(case["loss"], logprobs, fields)
        return {
            "loss": spelling.spell_float(loss.item()),
            "metrics": {name: spelling.spell_float(value) for name, value in metrics.items()},
            "gradients": [None if gradient is None else spelling.spell(gradient.numpy()) for gradient in gradients],
        }
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
        return {"error": f"{type(error).__name__}: {error}"}


def _tensor(wire: Mapping[str, Any] | Sequence[spelling.Number]) -> Tensor:
    """Read a tensor of the line, or a plain list of numbers: one-dimensional float32."""
    if not isinstance(wire, Mapping):
        return torch.from_numpy(spelling.unspell(wire, "float32"))
    return torch.from_numpy(spelling.unspell(wire["data"], wire["dtype"])).reshape(wire["shape"])
