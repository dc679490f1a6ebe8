"""Every deliberately wrong client."""

from __future__ import annotations

import breadth
import called
import caller
import composed
import effects
import faults
import halfway
import passes
import patience
import points
import ready_made
import sessions
import weights
import wire
from mutant import Mutant

MUTANTS: dict[str, Mutant] = {
    mutant.name: mutant
    for mutant in (
        *weights.MUTANTS,
        *passes.MUTANTS,
        *wire.MUTANTS,
        *caller.MUTANTS,
        *breadth.MUTANTS,
        *composed.MUTANTS,
        *called.MUTANTS,
        *ready_made.MUTANTS,
        *effects.MUTANTS,
        *faults.MUTANTS,
        *halfway.MUTANTS,
        *patience.MUTANTS,
        *sessions.MUTANTS,
        *points.MUTANTS,
    )
}
