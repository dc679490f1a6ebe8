"""The optimizers behind optim_step: pure functions of parameters, gradient and state, all float64."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class StepParams:
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
    """One AdamW step with bias correction and decoupled weight decay; returns new parameters and new state."""
    gradient = clip(gradient, params.grad_clip_norm)
    step = state.step + 1
    mean = params.beta1 * state.mean + (1 - params.beta1) * gradient
    square = params.beta2 * state.square + (1 - params.beta2) * gradient * gradient
    corrected = mean / (1 - params.beta1**step)
    root = np.sqrt(square / (1 - params.beta2**step))
    decayed = parameters * (1 - params.learning_rate * params.weight_decay)
    root += params.eps
    if params.eps > 0:
        move = corrected / root
    else:
        # 0/0 where the gradient was never anything but 0: nothing to move there.
        with np.errstate(divide="ignore", invalid="ignore"):
            move = np.where((corrected == 0) & (root == 0), 0.0, corrected / root)
    return decayed - params.learning_rate * move, AdamState(mean, square, step)


def sgd(parameters: Matrix, gradient: Matrix, params: StepParams) -> Matrix:
    """One step of plain gradient descent: only the learning rate counts."""
    return parameters - params.learning_rate * gradient
