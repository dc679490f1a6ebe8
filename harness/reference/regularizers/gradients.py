"""Ways to a gradient: what autograd finds, central differences, or one that the caller works out.

A regularizer whose loss autograd can follow needs nothing of this. `by_central_differences` and `with_gradient` make a
regularizer of a function that autograd cannot follow: the loss they return has the other gradient, so that it is
weighted, added and sent like any other. `check_gradient` compares the gradient of a part with central differences.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.reference.errors import InvalidInputError, NoGradientError, Part
from harness.reference.regularizers.calling import call_part
from harness.reference.regularizers.composing import gradient_of, leaves_of
from harness.reference.regularizers.results import Called, read_result
from harness.reference.regularizers.spec import PartFn, is_async
from harness.reference.values import Array

if TYPE_CHECKING:
    import torch


Given = Callable[[Sequence[Any], "list[torch.Tensor]"], tuple[Any, Sequence[Any], Mapping[str, float]]]
"""`fn(data, logprobs_list) -> (loss, gradients, metrics)`: one array per datum, in the shape of its logprobs."""


@dataclass(frozen=True, slots=True)
class Differences:
    """A gradient by central differences: one float64 array per datum.

    `errors` is, element by element, how far it may be from the true one: the truncation error, from the difference
    between step h and step 2h, plus what rounding the loss to its dtype can do.
    """

    gradients: list[Array]
    errors: list[Array]


@dataclass(frozen=True, slots=True)
class GradientCheck:
    """A gradient against central differences. `worst` is (datum, element) where it is farthest off for its error."""

    agrees: bool
    worst: tuple[int, int] | None
    found: float
    expected: float
    error: float


def autograd(fn: PartFn, data: Sequence[Any], logprobs: Sequence[Any]) -> list[Array]:
    """Differentiate a synchronous part at `logprobs`, one float tensor or array per datum, in their dtype.

    Zeros where the loss does not depend on a datum. Raises NoGradientError when it depends on none, and what a part
    raises that returns something unusable.
    """
    part, leaves = part_called(fn), leaves_of(logprobs)
    called = read_result(call_part(fn, data, leaves), part)
    found = gradient_of(called, [leaves], part)
    if found is None:
        raise NoGradientError("the loss does not depend on any logprob")
    return [
        np.zeros(tuple(leaf.shape), leaf.detach().numpy().dtype) if gradient is None else gradient
        for leaf, gradient in zip(leaves, found, strict=True)
    ]


def central_differences(
    fn: PartFn, data: Sequence[Any], logprobs: Sequence[Any], *, step: float | None = None
) -> Differences:
    """Differentiate a synchronous part by (f(x + h) - f(x - h)) / 2h in float64, one element after the other.

    Four calls per element. `fn` gets float64 tensors; where it computes in another dtype, the error counts that.
    h is `step`, or the cube root of the rounding error, times the larger of 1 and |x|: there truncation and rounding
    are about equal. A loss that is not smooth within 2h of x has a larger error, which the difference between the two
    steps shows where it is not symmetric.
    """
    import torch

    part = part_called(fn)
    points = [np.array(leaf.detach().numpy(), dtype=np.float64, order="C") for leaf in leaves_of(logprobs)]

    def value(datum: int, element: int, moved: float) -> tuple[float, float]:
        shifted = [point.copy() for point in points]
        shifted[datum].reshape(-1)[element] += moved
        moved_leaves = [torch.from_numpy(each).requires_grad_(True) for each in shifted]
        called = read_result(call_part(fn, data, moved_leaves), part)
        return called.value, _rounding(called)

    gradients = [np.zeros(point.shape) for point in points]
    errors = [np.zeros(point.shape) for point in points]
    first = next((datum for datum, point in enumerate(points) if point.size), None)
    rounding = float(np.finfo(np.float64).eps) if first is None else value(first, 0, 0.0)[1]
    for datum, point in enumerate(points):
        for element, at in enumerate(point.reshape(-1).tolist()):
            h = (rounding ** (1 / 3) if step is None else step) * max(1.0, abs(at))
            (above, _), (below, _) = value(datum, element, h), value(datum, element, -h)
            (far_above, _), (far_below, _) = value(datum, element, 2 * h), value(datum, element, -2 * h)
            near, far = (above - below) / (2 * h), (far_above - far_below) / (4 * h)
            size = max(map(abs, (above, below, far_above, far_below)))
            gradients[datum].reshape(-1)[element] = near
            errors[datum].reshape(-1)[element] = abs(far - near) + ROUNDINGS * rounding * size / h
    return Differences(gradients, errors)


ROUNDINGS = 8
"""How many roundings of the loss the error allows for: a sum of many terms is rounded more than once."""


def with_gradient(fn: Given) -> PartFn:
    """Make a regularizer of a function that gives its gradient itself: `(loss, gradients, metrics)`.

    The loss is a number or a tensor, of which only the number counts; gradients have the shapes of the logprobs. The
    regularizer raises ValueError when they have not. They are copied: `fn` may fill the same arrays again.

    Raises InvalidInputError for an asynchronous function.
    """
    _refuse_async(fn)

    @functools.wraps(fn)
    def regularizer(data: Sequence[Any], logprobs: list[torch.Tensor]) -> tuple[torch.Tensor, Mapping[str, float]]:
        loss, gradients, metrics = fn(data, list(logprobs))
        return _attached(read_result((loss, {}), part_called(fn)).value, gradients, logprobs), metrics

    return regularizer


def by_central_differences(fn: PartFn, *, step: float | None = None) -> PartFn:
    """Make a regularizer of a synchronous function that autograd cannot follow, numpy inside it for example.

    `fn` gets float64 tensors, and is called four times for each logprob and once for its value and metrics. A function
    that depends on no logprob has a gradient of zeros: differences cannot tell it from one that happens to be flat.

    Raises InvalidInputError for an asynchronous function.
    """
    _refuse_async(fn)

    @functools.wraps(fn)
    def regularizer(data: Sequence[Any], logprobs: list[torch.Tensor]) -> tuple[torch.Tensor, Mapping[str, float]]:
        plain = [leaf.detach() for leaf in logprobs]
        wide = [leaf.double().requires_grad_(True) for leaf in plain]
        called = read_result(call_part(fn, data, wide), part_called(fn))
        found = central_differences(fn, data, plain, step=step)
        return _attached(called.value, found.gradients, logprobs), called.metrics

    return regularizer


def check_gradient(fn: PartFn, data: Sequence[Any], logprobs: Sequence[Any], *, factor: float = 4.0) -> GradientCheck:
    """Compare the gradient of a synchronous part, autograd's or its own, with central differences.

    Evaluated in float64. They agree when no element is farther off than `factor` times the error that the differences
    are expected to have.
    """
    wide = [leaf.detach().double() for leaf in leaves_of(logprobs)]
    found = autograd(fn, data, wide)
    expected = central_differences(fn, data, wide)
    worst, ratio = None, -1.0
    for datum, (one, other, error) in enumerate(zip(found, expected.gradients, expected.errors, strict=True)):
        if one.size:
            ratios = np.abs(one - other).reshape(-1) / np.maximum(error.reshape(-1), np.finfo(np.float64).tiny)
            ratios[np.isnan(ratios)] = np.inf
            element = int(np.argmax(ratios))
            if ratios[element] > ratio:
                worst, ratio = (datum, element), float(ratios[element])
    if worst is None:
        return GradientCheck(agrees=True, worst=None, found=0.0, expected=0.0, error=0.0)
    datum, element = worst
    return GradientCheck(
        agrees=ratio <= factor,
        worst=worst,
        found=float(found[datum].reshape(-1)[element]),
        expected=float(expected.gradients[datum].reshape(-1)[element]),
        error=float(expected.errors[datum].reshape(-1)[element]),
    )


def _attached(value: float, gradients: Sequence[Any], logprobs: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return a scalar of this value whose gradient with respect to the logprobs is the given one."""
    import torch

    if len(gradients) != len(logprobs):
        raise ValueError(f"{len(gradients)} gradients for the logprobs of {len(logprobs)} datums")
    given = [_copied(each).to(leaf.dtype) for each, leaf in zip(gradients, logprobs, strict=True)]
    for datum, (gradient, leaf) in enumerate(zip(given, logprobs, strict=True)):
        if gradient.shape != leaf.shape:
            raise ValueError(
                f"the gradient of datum {datum} has shape {tuple(gradient.shape)}, its logprobs {tuple(leaf.shape)}"
            )

    class Attached(torch.autograd.Function):
        @staticmethod
        def forward(_ctx: Any, *_logprobs: torch.Tensor) -> torch.Tensor:
            return torch.tensor(value, dtype=torch.float64)

        @staticmethod
        def backward(_ctx: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return tuple((upstream[0] * gradient).to(gradient.dtype) for gradient in given)

    loss: torch.Tensor = Attached.apply(*logprobs)  # type: ignore[no-untyped-call]  # torch ships it without annotations
    return loss


def _refuse_async(fn: Any) -> None:
    if is_async(fn):
        raise InvalidInputError(f"{part_called(fn)} is asynchronous; a gradient is found of a synchronous function")


def _copied(given: Any) -> torch.Tensor:
    import torch

    made = given.detach().clone() if isinstance(given, torch.Tensor) else torch.from_numpy(np.array(given, order="C"))
    if made.is_complex():
        raise ValueError("a gradient is complex, the logprobs are real")
    return made


def part_called(fn: PartFn) -> Part:
    """Name a function in what it is blamed for, by its own name."""
    return Part("regularizer", getattr(fn, "__name__", None) or type(fn).__name__)


def _rounding(called: Called) -> float:
    import torch

    dtype = called.loss.dtype
    return torch.finfo(dtype if dtype.is_floating_point else torch.float64).eps
