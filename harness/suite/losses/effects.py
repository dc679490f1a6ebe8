"""What a loss does beside computing: how long it takes, and how it changes the caller's data."""

from __future__ import annotations

import math
from collections.abc import Sequence

from harness.suite.data import DatumValue
from harness.suite.scenario import AppendDatum, Effect, Loss, RemoveDatum, SetInput

MAX_DELAY_SECONDS = 20.0
"""Long enough to outlast what is due meanwhile; a scenario with such a loss is a slow one."""

DELAY = "loss_delay"
MUTATES = "loss_mutates"


def effect_capabilities(loss: Loss) -> frozenset[str]:
    """Return what a driver must be able to do beyond computing: `loss_delay`, `loss_mutates`."""
    return frozenset(({DELAY} if loss.delay_seconds else set()) | ({MUTATES} if loss.mutates else set()))


def malformed_effects(loss: Loss) -> str:
    """Say what is wrong with delay and effects on any data, "" when nothing is."""
    if not 0 <= loss.delay_seconds <= MAX_DELAY_SECONDS:
        return f"delay_seconds: {loss.delay_seconds} is not in [0, {MAX_DELAY_SECONDS:g}]"
    if loss.fail is not None and loss.mutates:
        return "mutates: a loss that fails changes nothing"
    moved = False
    for index, effect in enumerate(loss.mutates):
        here = f"mutates[{index}]"
        if effect.datum < 0:
            return f"{here}.datum: {effect.datum} is negative"
        if isinstance(effect, AppendDatum | RemoveDatum):
            moved = True
            continue
        if moved:
            # A datum that stands in the list twice is one object in one language and two values in another.
            return f"{here}: inputs are changed before datums are appended or removed"
        if not effect.key:
            return f"{here}.key: an input has a name"
        if isinstance(effect, SetInput) and not all(map(math.isfinite, effect.values)):
            return f"{here}.values: a value is not finite"
    return ""


def unfit_effects(effects: Sequence[Effect], data: Sequence[DatumValue]) -> str:
    """Say why effects cannot happen to `data`, "" when they can."""
    count = len(data)
    removed: set[tuple[int, str]] = set()
    for index, effect in enumerate(effects):
        here = f"mutates[{index}]"
        if effect.datum >= count:
            return f"{here} needs datum {effect.datum}; there are {count} then"
        if isinstance(effect, AppendDatum):
            count += 1
        elif isinstance(effect, RemoveDatum):
            count -= 1
        else:
            place = (effect.datum, effect.key)
            given = data[effect.datum].inputs.get(effect.key)
            if given is None or place in removed:
                return f"{here} needs the input {effect.key!r} of datum {effect.datum}, which is not there"
            if not isinstance(effect, SetInput):
                removed.add(place)
            elif len(effect.values) != given.array.size:
                return f"{here}.values: {len(effect.values)} numbers for {given.array.size} of {effect.key!r}"
            elif given.array.dtype.kind != "f" and not all(float(value).is_integer() for value in effect.values):
                return f"{here}.values: {effect.key!r} holds whole numbers"
    return ""
