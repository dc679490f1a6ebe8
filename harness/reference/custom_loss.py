"""The custom loss between the two passes: what goes forward, what the callback gets, what comes back.

torch is imported where it is used: a client that never runs a custom loss does not need it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.reference.errors import (
    BadOutputError,
    InvalidInputError,
    LossFailedError,
    NoGradientError,
    NotScalarError,
)
from harness.reference.regularizers.stepping import stepping
from harness.reference.regularizers.telemetry import LossReport
from harness.reference.values import DTYPES, TARGETS, WEIGHTS, Array, Datum, TensorValue

if TYPE_CHECKING:
    import torch

LOGPROBS = "logprobs"
LOSS_FN = "cross_entropy"
"""The server-side loss of both passes: sum(-logprob * weight). Observed in 0.7.0 to 0.38.0."""

Output = Mapping[str, TensorValue]
LossFn = Callable[[Sequence[Datum], "list[torch.Tensor]"], "tuple[torch.Tensor, Mapping[str, float]]"]
"""The caller's loss: the caller's datums and one float32 leaf per output, to a scalar and metrics."""

# --- what goes forward ------------------------------------------------------------------------------------------------


def as_given(data: Sequence[Datum]) -> list[Datum]:
    """Send the datums as they are. Observed in 0.7.0 to 0.15.0."""
    return list(data)


def targets_and_weights(data: Sequence[Datum]) -> list[Datum]:
    """Send target_tokens and weights only, zero float32 weights of the targets' shape where there are none.

    Raises InvalidInputError for a datum without target_tokens. Observed in 0.32.0 to 0.38.0.
    """
    forward = []
    for index, datum in enumerate(data):
        targets = datum.inputs.get(TARGETS)
        if targets is None:
            raise InvalidInputError(f"datum {index} has no {TARGETS}")
        weights = datum.inputs.get(WEIGHTS)
        if weights is None:
            weights = TensorValue(
                dtype="float32",
                shape=targets.shape,
                values=np.zeros(targets.dense().size, dtype=DTYPES["float32"]),
            )
        forward.append(Datum(tokens=datum.tokens, inputs={TARGETS: targets, WEIGHTS: weights}))
    return forward


FORWARD_INPUTS: Mapping[str, Callable[[Sequence[Datum]], list[Datum]]] = MappingProxyType(
    {"as_given": as_given, "targets_and_weights": targets_and_weights}
)

# --- leaves -----------------------------------------------------------------------------------------------------------


def flat_shape(tensor: TensorValue) -> tuple[int, ...]:
    """Make leaves one-dimensional, whatever the server declared. Observed in 0.7.0 to 0.15.0."""
    return (tensor.values.size,)


def declared_shape(tensor: TensorValue) -> tuple[int, ...]:
    """Give leaves the shape the server declared, if it did. Observed in 0.16.0 to 0.38.0."""
    return flat_shape(tensor) if tensor.shape is None else tensor.shape


LEAF_SHAPES: Mapping[str, Callable[[TensorValue], tuple[int, ...]]] = MappingProxyType(
    {"flat": flat_shape, "declared": declared_shape}
)


def as_sent(tensor: TensorValue) -> Array:
    """Refuse whole numbers: they make an integer tensor, which has no gradient. Observed in 0.7.0 to 0.18.2.

    Raises BadOutputError.
    """
    if tensor.values.size and tensor.values.dtype.kind != "f":
        raise BadOutputError("the logprobs are integers; only floating-point numbers have a gradient")
    return tensor.values.astype(DTYPES["float32"])


def declared_dtype(tensor: TensorValue) -> Array:
    """Read the numbers in the declared dtype. Observed in 0.19.0 to 0.38.0. Raises BadOutputError for integers."""
    if tensor.dtype != "float32":
        raise BadOutputError(f"the logprobs are {tensor.dtype}; only floating-point numbers have a gradient")
    return tensor.dense()


LEAF_DTYPES: Mapping[str, Callable[[TensorValue], Array]] = MappingProxyType(
    {"as_sent": as_sent, "declared": declared_dtype}
)


def make_leaves(
    outputs: Sequence[Output],
    *,
    shape: Callable[[TensorValue], tuple[int, ...]],
    numbers: Callable[[TensorValue], Array],
) -> list[torch.Tensor]:
    """Make one float32 leaf that requires a gradient per output.

    Raises BadOutputError for an output without logprobs, or whose numbers do not fill the shape.
    """
    import torch

    leaves = []
    for index, output in enumerate(outputs):
        logprobs = output.get(LOGPROBS)
        if logprobs is None:
            raise BadOutputError(f"output {index} has no {LOGPROBS}")
        values = numbers(logprobs)
        try:
            values = values.reshape(shape(logprobs))
        except ValueError as error:
            raise BadOutputError(f"output {index}: {error}") from error
        leaves.append(torch.from_numpy(values.copy()).requires_grad_(True))
    return leaves


# --- gradients --------------------------------------------------------------------------------------------------------


def gradients_of(loss: torch.Tensor, leaves: Sequence[torch.Tensor]) -> list[Array]:
    """Differentiate the loss; one float32 array per leaf, in its shape.

    Raises NotScalarError when the loss has more or fewer than one element, NoGradientError when it, or a leaf, has no
    gradient (a missing gradient is never zero), LossFailedError when an operation of the loss fails backward.
    """
    if not loss.requires_grad:
        raise NoGradientError("the loss does not depend on any logprob")
    if loss.numel() != 1:
        raise NotScalarError(f"the loss has shape {tuple(loss.shape)}, not one element")
    try:
        loss.backward()  # type: ignore[no-untyped-call]  # torch ships it without annotations
    except RuntimeError as error:
        raise LossFailedError(f"the loss cannot be differentiated: {error}") from error
    gradients = []
    for index, leaf in enumerate(leaves):
        if leaf.grad is None:
            raise NoGradientError(f"the loss does not depend on the logprobs of datum {index}")
        gradients.append(leaf.grad.numpy())
    return gradients


Pairing = Callable[[Sequence[Datum], Sequence[Array]], list[tuple[Datum, Array]]]


def truncating(data: Sequence[Datum], gradients: Sequence[Array]) -> list[tuple[Datum, Array]]:
    """Pair as far as both go: datums without an output, or that the loss appended, are left out. Observed in 0.7.0."""
    return list(zip(data, gradients, strict=False))


def strict(data: Sequence[Datum], gradients: Sequence[Array]) -> list[tuple[Datum, Array]]:
    """Pair one to one. Raises BadOutputError when the numbers differ: fewer outputs, or a list that the loss changed.

    Observed in 0.8.0 to 0.38.0.
    """
    if len(data) != len(gradients):
        raise BadOutputError(f"{len(gradients)} outputs for {len(data)} datums")
    return list(zip(data, gradients, strict=True))


PAIRINGS: Mapping[str, Pairing] = MappingProxyType({"truncating": truncating, "strict": strict})


def linearize(
    pairs: Sequence[tuple[Datum, Array]], *, sparse: Callable[[Array], TensorValue], weigh: Callable[[Array], Array]
) -> list[Datum]:
    """Make the datums of the backward pass: the same tokens and targets, and the gradient turned into weights.

    `pairs` has the datums as they are after the loss: what it wrote into them counts. Observed in 0.7.0 to 0.38.0.

    Raises InvalidInputError for a datum without target_tokens.
    """
    backward = []
    for index, (datum, gradient) in enumerate(pairs):
        targets = datum.inputs.get(TARGETS)
        if targets is None:
            raise InvalidInputError(f"datum {index} has no {TARGETS}")
        backward.append(Datum(tokens=datum.tokens, inputs={TARGETS: targets, WEIGHTS: sparse(weigh(gradient))}))
    return backward


def negated(gradient: Array) -> Array:
    """Return weights = -gradient: cross entropy is sum(-logprob * weight), so its gradient is the custom loss's own."""
    negative: Array = -gradient
    return negative


@dataclass(frozen=True, slots=True)
class CustomResult:
    """What the custom loss gave: the backward datums, its metrics, its value summed to one float.

    `report` is there when the loss was structured.
    """

    data: list[Datum]
    metrics: Mapping[str, Any]
    value: float
    report: LossReport | None = None


def call_loss(loss_fn: LossFn, data: Sequence[Datum], leaves: list[torch.Tensor]) -> Any:
    """Call the caller's loss; give what it returns, which may be something to await.

    Raises LossFailedError for whatever the callback raises.
    """
    try:
        return loss_fn(data, leaves)
    except Exception as error:
        raise LossFailedError(f"{type(error).__name__}: {error}") from error


async def await_loss(awaitable: Awaitable[Any]) -> Any:
    """Wait for what a loss returned to be awaited. Raises LossFailedError as `call_loss` does."""
    try:
        return await stepping(awaitable)
    except Exception as error:
        raise LossFailedError(f"{type(error).__name__}: {error}") from error


def read_loss(result: Any) -> tuple[torch.Tensor, Mapping[str, Any], float]:
    """Return the loss, its metrics and the loss as a float. Raises LossFailedError for what is no such pair."""
    try:
        loss, metrics = result
        return loss, metrics, float(loss.detach().sum().item())
    except Exception as error:
        raise LossFailedError(f"{type(error).__name__}: {error}") from error
