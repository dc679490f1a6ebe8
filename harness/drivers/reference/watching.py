"""The loss callback handed to the reference client: evaluates the scenario's graph and notes what it was given."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from harness.drivers.protocol import Saw
from harness.drivers.python import spelling
from harness.reference.values import Datum
from harness.suite.data import DatumValue

if TYPE_CHECKING:
    import torch


class WatchedLoss:
    """A loss graph as a callback. `data` is what the caller hands to the client: it must not change."""

    def __init__(self, loss: Mapping[str, Any], data: Sequence[DatumValue]) -> None:
        self._loss = loss
        self._data = data
        self._before = digest_of(data)
        self._saw = Saw(
            calls=0,
            datums=0,
            count=0,
            dtypes=[],
            shapes=[],
            digest=hashlib.sha256().hexdigest(),
            keys=[],
            leaves=None,
            unchanged=True,
        )

    def __call__(self, data: Sequence[Datum], logprobs: list[torch.Tensor]) -> tuple[torch.Tensor, Mapping[str, float]]:
        """Return the loss and its metrics."""
        from harness.drivers.python import graph

        values = hashlib.sha256()
        for leaf in logprobs:
            values.update(spelling.raw_bytes(leaf.detach().numpy(), "float32"))
        self._saw = Saw(
            calls=self._saw.calls + 1,
            datums=len(data),
            count=len(logprobs),
            dtypes=[str(leaf.dtype).removeprefix("torch.") for leaf in logprobs],
            shapes=[list(leaf.shape) for leaf in logprobs],
            digest=values.hexdigest(),
            keys=[sorted(datum.inputs) for datum in data],
            leaves=all(leaf.is_leaf and leaf.requires_grad for leaf in logprobs),
            unchanged=True,
        )
        # As far as both go: what a release does with fewer logprobs than datums is for the release to say.
        return graph.evaluate(self._loss, logprobs, [_Fields(datum) for datum in data[: len(logprobs)]])

    def saw(self) -> Saw:
        """Return what the callback saw so far, and whether the caller's data is what it was."""
        self._saw.unchanged = digest_of(self._data) == self._before
        return self._saw


class _Fields(Mapping[str, "torch.Tensor"]):
    """The inputs of a datum as torch tensors, converted when a loss asks for them."""

    def __init__(self, datum: Datum) -> None:
        self._datum = datum

    def __getitem__(self, name: str) -> torch.Tensor:
        import torch

        return torch.from_numpy(self._datum.inputs[name].dense().copy())

    def __iter__(self) -> Iterator[str]:
        return iter(self._datum.inputs)

    def __len__(self) -> int:
        return len(self._datum.inputs)


def digest_of(data: Sequence[DatumValue]) -> str:
    """Digest everything a caller could see change: tokens, keys, dtypes, shapes and values, in order."""
    total = hashlib.sha256()
    for datum in data:
        total.update(datum.tokens.tobytes())
        for name, value in datum.inputs.items():
            total.update(repr((name, value.array.dtype.name, value.array.shape, value.container)).encode())
            total.update(value.array.tobytes())
    return total.hexdigest()
