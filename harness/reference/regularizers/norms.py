"""Gradient norms: L2 over the logprobs of all datums, taken as one long vector."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.reference.values import Array


def l2_norm(gradients: Sequence[Array | None]) -> float:
    """Return sqrt(sum of squares) over all elements of all datums, in float64; None stands for zeros.

    The norm of the concatenation, not the sum or the mean of the datums' norms.
    """
    return float(
        np.sqrt(sum(float(np.sum(np.square(each, dtype=np.float64))) for each in gradients if each is not None))
    )
