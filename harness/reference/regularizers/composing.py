"""Adds the parts up and differentiates the sum: loss_total = base + sum(weight_i * loss_i).

Every part is computed from leaves of its own, copies of the same logprobs. One backward pass over the sum fills all of
them, and a datum's gradient is the sum over its copies in the order of declaration. So the result does not depend on
which part was computed first, in which thread, or between which steps of another.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.reference.errors import BASE, InvalidInputError, LossFailedError, NoGradientError, Part, PartFailedError
from harness.reference.regularizers.results import Called
from harness.reference.regularizers.spec import Regularizer
from harness.reference.values import Array

if TYPE_CHECKING:
    import torch

Leaves = Sequence[Sequence["torch.Tensor"]]
"""The leaves of every part: one list per part, one leaf per datum in it."""


def leaves_of(logprobs: Sequence[Any]) -> list[torch.Tensor]:
    """Return new leaves that require a gradient, of the values of tensors or arrays, row-major, in their dtype.

    Raises InvalidInputError for logprobs that are no floating-point numbers: nothing else has a gradient.
    """
    import torch

    leaves = []
    for datum, each in enumerate(logprobs):
        tensor = each if isinstance(each, torch.Tensor) else torch.from_numpy(np.array(each, order="C"))
        if not tensor.is_floating_point():
            kind = str(tensor.dtype).removeprefix("torch.")
            raise InvalidInputError(f"the logprobs of datum {datum} are {kind}; only floating-point numbers will do")
        leaves.append(tensor.detach().clone(memory_format=torch.contiguous_format).requires_grad_(True))
    return leaves


def compose(base: Called | None, terms: Sequence[tuple[Regularizer, Called]]) -> torch.Tensor:
    """Return the composed loss, a scalar: the base plus each term times its weight, added in the order of declaration.

    At least one of both is there.
    """
    total = None if base is None else base.loss
    for regularizer, called in terms:
        weighted = regularizer.weight * called.loss
        total = weighted if total is None else total + weighted
    assert total is not None, "there is neither a base loss nor a regularizer"
    return total


def differentiate(total: torch.Tensor, leaves: Leaves) -> list[Array]:
    """Differentiate the composed loss; one array per datum, in the shape and dtype of its logprobs.

    The graph stays, so that the parts can be differentiated afterwards.

    Raises NoGradientError when the sum does not depend on any logprob, or not on those of one datum; LossFailedError
    when an operation fails backward.
    """
    if not total.requires_grad:
        raise NoGradientError("the composed loss does not depend on any logprob")
    for leaf in itertools.chain.from_iterable(leaves):
        leaf.grad = None  # a part that ran backward itself has left something there
    try:
        total.backward(retain_graph=True)  # type: ignore[no-untyped-call]  # torch ships it without annotations
    except RuntimeError as error:
        raise LossFailedError(f"the composed loss cannot be differentiated: {error}") from error
    gradients = []
    for datum, copies in enumerate(zip(*leaves, strict=True)):
        found = [leaf.grad for leaf in copies if leaf.grad is not None]
        if not found:
            raise NoGradientError(f"the composed loss does not depend on the logprobs of datum {datum}")
        gradient = found[0].clone()
        for other in found[1:]:
            gradient += other
        gradients.append(gradient.numpy())
    return gradients


def gradient_of(called: Called, leaves: Leaves, part: Part) -> list[Array | None] | None:
    """Differentiate one part, before its weight; None when it depends on no logprob, and for datums it does not reach.

    Raises PartFailedError when an operation of it fails backward.
    """
    import torch

    if not called.loss.requires_grad:
        return None
    flat = [leaf for each in leaves for leaf in each]
    try:
        found = torch.autograd.grad(called.loss, flat, retain_graph=True, allow_unused=True)
    except RuntimeError as error:
        raise PartFailedError(part, f"its loss cannot be differentiated: {error}") from error
    count = len(leaves[0])
    gradients: list[Array | None] = [None] * count
    for place, gradient in enumerate(found):
        if gradient is not None:
            before, datum = gradients[place % count], place % count
            gradients[datum] = gradient.numpy() if before is None else before + gradient.numpy()
    return None if all(each is None for each in gradients) else gradients


def part_of(regularizer: Regularizer | None) -> Part:
    """Name a part for its errors; None is the base."""
    return BASE if regularizer is None else Part("regularizer", regularizer.name)
