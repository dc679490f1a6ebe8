"""The loss callback handed to the reference client: evaluates the scenario's graph and notes what it was given."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import numpy as np

from harness.drivers.protocol import Saw
from harness.drivers.python import spelling
from harness.reference.values import Datum, TensorValue, TorchInputs
from harness.suite.data import DatumValue, InputValue
from harness.suite.scenario import AppendDatum, Effect, RemoveDatum, SetInput, UnsetInput

if TYPE_CHECKING:
    import torch

_D = TypeVar("_D", Datum, DatumValue)


class WatchedLoss:
    """A loss graph as a callback. `data` is the list that the caller hands to the client: only the loss may change it.

    The client makes datums of its own of it; for the caller both are one, so the loss's effects happen to both.
    """

    def __init__(self, loss: Mapping[str, Any], data: list[DatumValue]) -> None:
        self._loss = loss
        self._mutates = msgspec.convert(loss.get("mutates", ()), tuple[Effect, ...])
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

    @property
    def graph(self) -> Mapping[str, Any]:
        """The loss as the scenario has it."""
        return self._loss

    def note(self, data: Sequence[Datum], logprobs: Sequence[torch.Tensor]) -> None:
        """Note a call and what it was given."""
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

    def __call__(self, data: Sequence[Datum], logprobs: list[torch.Tensor]) -> tuple[torch.Tensor, Mapping[str, float]]:
        """Take the time it takes, change the data as the loss says, and return the loss and its metrics."""
        from harness.drivers.python import graph

        self.note(data, logprobs)
        time.sleep(self._loss.get("delay_seconds", 0.0))
        # As far as both go: what a release does with fewer logprobs than datums is for the release to say.
        result = graph.evaluate(self._loss, logprobs, [TorchInputs(datum) for datum in data[: len(logprobs)]])
        if self._mutates:
            assert isinstance(data, list), "a loss that changes its data needs the list"
            for effect in self._mutates:
                _change(effect, data, _changed_datum)
                _change(effect, self._data, _changed_value)
        return result

    def saw(self) -> Saw:
        """Return what the callback saw so far, and whether the caller's data is what it was."""
        self._saw.unchanged = digest_of(self._data) == self._before
        return self._saw


def _change(effect: Effect, data: list[_D], changed: Callable[[_D, SetInput | UnsetInput], _D]) -> None:
    match effect:
        case AppendDatum():
            data.append(data[effect.datum])
        case RemoveDatum():
            del data[effect.datum]
        case _:
            data[effect.datum] = changed(data[effect.datum], effect)


def _changed_datum(datum: Datum, effect: SetInput | UnsetInput) -> Datum:
    kept = {name: tensor for name, tensor in datum.inputs.items() if name != effect.key or isinstance(effect, SetInput)}
    if isinstance(effect, SetInput):
        old = kept[effect.key]
        values = np.array(effect.values, dtype=old.dense().dtype)
        kept[effect.key] = TensorValue(dtype=old.dtype, shape=old.shape, values=values)
    return replace(datum, inputs=MappingProxyType(kept))


def _changed_value(datum: DatumValue, effect: SetInput | UnsetInput) -> DatumValue:
    kept = {name: value for name, value in datum.inputs.items() if name != effect.key or isinstance(effect, SetInput)}
    if isinstance(effect, SetInput):
        old = kept[effect.key]
        array = np.array(effect.values, dtype=old.array.dtype).reshape(old.array.shape)
        # From now on a tensor of the SDK's, whatever the caller wrote before.
        kept[effect.key] = InputValue(array=array, container="tensor")
    return DatumValue(tokens=datum.tokens, inputs=kept)


def digest_of(data: Sequence[DatumValue]) -> str:
    """Digest everything a caller could see change: tokens, keys, dtypes, shapes and values, in order."""
    total = hashlib.sha256()
    for datum in data:
        total.update(datum.tokens.tobytes())
        for name, value in datum.inputs.items():
            total.update(repr((name, value.array.dtype.name, value.array.shape, value.container)).encode())
            total.update(value.array.tobytes())
    return total.hexdigest()
