"""The loss callback handed to the SDK: evaluates the scenario's graph and notes what it was given."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor

from ..python import graph, spelling  # noqa: TID252 - there is no harness where this runs


class LossCallback:
    """Called by the SDK with its datums and logprobs. `raised` is what the loss itself raised, if it did."""

    def __init__(self, loss: Mapping[str, Any]) -> None:
        self._loss = loss
        self._calls = 0
        self._last: dict[str, Any] = {
            "datums": 0,
            "count": 0,
            "dtypes": [],
            "shapes": [],
            "digest": hashlib.sha256().hexdigest(),
            "keys": [],
            "leaves": None,
        }
        self.raised: Exception | None = None

    def __call__(self, data: Sequence[Any], logprobs: Sequence[Tensor]) -> tuple[Tensor, dict[str, float]]:
        """Return the loss and its metrics."""
        self._calls += 1
        self._last = _describe(data, logprobs)
        try:
            # As far as both go: what an SDK does with fewer logprobs than datums is for the SDK to say.
            paired = data[: len(logprobs)]
            return graph.evaluate(self._loss, logprobs, [_Fields(datum.loss_fn_inputs) for datum in paired])
        except Exception as error:
            self.raised = error
            raise

    def saw(self, *, unchanged: bool) -> dict[str, Any]:
        """Return what the callback saw, in the protocol's words."""
        return {"calls": self._calls, **self._last, "unchanged": unchanged}


class _Fields(Mapping[str, Tensor]):
    """The inputs of a datum as torch tensors, converted when a loss asks for them."""

    def __init__(self, inputs: Mapping[str, Any]) -> None:
        self._inputs = inputs

    def __getitem__(self, name: str) -> Tensor:
        tensor = self._inputs[name].to_torch()
        assert isinstance(tensor, Tensor)
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._inputs)

    def __len__(self) -> int:
        return len(self._inputs)


def _describe(data: Sequence[Any], logprobs: Sequence[Tensor]) -> dict[str, Any]:
    values = hashlib.sha256()
    for leaf in logprobs:
        values.update(spelling.raw_bytes(leaf.detach().numpy(), "float32"))
    return {
        "datums": len(data),
        "count": len(logprobs),
        "dtypes": [str(leaf.dtype).removeprefix("torch.") for leaf in logprobs],
        "shapes": [list(leaf.shape) for leaf in logprobs],
        "digest": values.hexdigest(),
        "keys": [sorted(datum.loss_fn_inputs) for datum in data],
        "leaves": all(leaf.requires_grad and leaf.is_leaf for leaf in logprobs),
    }
