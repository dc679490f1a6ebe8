"""The loss callback handed to the SDK: evaluates the scenario's graph and notes what it was given."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor

from ..python import graph, spelling  # noqa: TID252 - there is no harness where this runs


class LossCallback:
    """Called by the SDK with its datums and logprobs. `raised` is what the loss itself raised, if it did.

    `tensor` is the SDK's own tensor container, for a loss that writes into its data.
    """

    def __init__(self, loss: Mapping[str, Any], tensor: Any) -> None:
        self._loss = loss
        self._tensor = tensor
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

    def __call__(self, data: list[Any], logprobs: Sequence[Tensor]) -> tuple[Tensor, dict[str, float]]:
        """Take the time it takes, change the data as the loss says, and return the loss and its metrics."""
        self._calls += 1
        self._last = _describe(data, logprobs)
        try:
            # As far as both go: what an SDK does with fewer logprobs than datums is for the SDK to say.
            paired = data[: len(logprobs)]
            time.sleep(self._loss.get("delay_seconds", 0.0))
            result = graph.evaluate(self._loss, logprobs, [_Fields(datum.loss_fn_inputs) for datum in paired])
            for effect in self._loss.get("mutates", ()):
                _change(data, effect, self._tensor)
            return result
        except Exception as error:
            self.raised = error
            raise

    def saw(self, *, unchanged: bool) -> dict[str, Any]:
        """Return what the callback saw, in the protocol's words."""
        return {"calls": self._calls, **self._last, "unchanged": unchanged}


def _change(data: list[Any], effect: Mapping[str, Any], tensor: Any) -> None:
    """Do one thing to the caller's data, as a user's loss would write it."""
    datum = data[effect["datum"]]
    match effect["do"]:
        case "set":
            old = datum.loss_fn_inputs[effect["key"]]
            cast = float if old.dtype == "float32" else int
            new = [cast(value) for value in effect["values"]]
            datum.loss_fn_inputs[effect["key"]] = tensor(data=new, dtype=old.dtype, shape=old.shape)
        case "unset":
            del datum.loss_fn_inputs[effect["key"]]
        case "append":
            data.append(datum)
        case "remove":
            del data[effect["datum"]]
        case unknown:
            raise ValueError(f"a loss cannot do {unknown!r}")


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
