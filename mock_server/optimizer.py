"""The optimizers behind optim_step: pure functions of parameters, gradient and state, all float64."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
from msgspec import Struct

Matrix = npt.NDArray[np.float64]


class StepParams(Struct, frozen=True):
    """What optim_step may say; the defaults are the service's (read from the types of releases 0.7.0 to 0.38.0).

    `grad_clip_norm` is a bound on the global gradient norm, 0 for none. `weight_decay` is decoupled.
    """

    learning_rate: float = 1e-4
    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-12
    weight_decay: float = 0.0
    grad_clip_norm: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class AdamState:
    """Running averages of the gradient (`mean`) and its square (`square`), after `step` steps."""

    mean: Matrix
    square: Matrix
    step: int = 0


def clip(gradient: Matrix, bound: float) -> Matrix:
    """Scale the gradient down to norm `bound` when it is longer; a bound of 0 or less leaves it alone."""
    if bound <= 0:
        return gradient
    norm = float(np.linalg.norm(gradient))
    return gradient * (bound / norm) if norm > bound else gradient


def adamw(parameters: Matrix, gradient: Matrix, state: AdamState, params: StepParams) -> tuple[Matrix, AdamState]:
    """One AdamW step with bias correction and decoupled weight decay; returns new parameters and new state.

    What does not change is returned as it was given, not as a copy.
    """
    step = state.step + 1
    decay = 1 - params.learning_rate * params.weight_decay
    decayed = parameters if decay == 1 else parameters * decay
    if gradient is state.mean is state.square is zeros(gradient.shape) and _defined(params):
        # No gradient was ever accumulated: both averages stay 0, and so does every move.
        return decayed, AdamState(state.mean, state.square, step)
    gradient = clip(gradient, params.grad_clip_norm)
    mean = params.beta1 * state.mean
    fresh = (1 - params.beta1) * gradient
    mean += fresh
    square = params.beta2 * state.square
    np.multiply(1 - params.beta2, gradient, out=fresh)
    fresh *= gradient
    square += fresh
    move = np.divide(mean, 1 - params.beta1**step, out=fresh)
    root = square / (1 - params.beta2**step)
    np.sqrt(root, out=root)
    root += params.eps
    if params.eps > 0:
        move /= root
    else:
        # 0/0 where the gradient was never anything but 0: nothing to move there.
        with np.errstate(divide="ignore", invalid="ignore"):
            move = np.where((move == 0) & (root == 0), 0.0, move / root)
    move *= params.learning_rate
    return decayed - move, AdamState(mean, square, step)


@cache
def zeros(shape: tuple[int, ...]) -> Matrix:
    """Return the one array of zeros of a shape: where it stands, nothing but zeros has ever been. Read-only."""
    nothing = np.zeros(shape)
    nothing.flags.writeable = False
    return nothing


def _defined(params: StepParams) -> bool:
    """Return whether a step over zeros divides by nothing that is 0 and multiplies by nothing infinite."""
    return 0 <= params.beta1 < 1 and 0 <= params.beta2 < 1 and params.eps > 0 and math.isfinite(params.learning_rate)


def sgd(parameters: Matrix, gradient: Matrix, params: StepParams) -> Matrix:
    """One step of plain gradient descent: only the learning rate counts."""
    return parameters - params.learning_rate * gradient
