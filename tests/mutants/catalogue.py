"""Every deliberately wrong client."""

from __future__ import annotations

import breadth
import caller
import passes
import weights
import wire
from mutant import Mutant

MUTANTS: dict[str, Mutant] = {
    mutant.name: mutant
    for mutant in (*weights.MUTANTS, *passes.MUTANTS, *wire.MUTANTS, *caller.MUTANTS, *breadth.MUTANTS)
}
