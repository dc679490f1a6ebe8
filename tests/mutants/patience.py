"""Clients that wait too short or too long: one below and one above each envelope of the contract."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
from mutant import Mutant, checks

from harness.reference.behaviour import Behaviour

ROUNDS = ("faults/not-retried-by-header", "faults/refused-empty-400", "faults/saves-retried")
BROKEN_POLLS = ("faults/polled-429", "faults/polled-reset")


def numbers(section: str, **changes: Any) -> Callable[[Behaviour], Behaviour]:
    """Return a change of the contract's numbers."""

    def change(behaviour: Behaviour) -> Behaviour:
        changed = msgspec.structs.replace(getattr(behaviour.contract, section), **changes)
        return replace(behaviour, contract=msgspec.structs.replace(behaviour.contract, **{section: changed}))

    return change


def _rounds(**changes: Any) -> Callable[[Behaviour], Behaviour]:
    def change(behaviour: Behaviour) -> Behaviour:
        return numbers("retry", again=msgspec.structs.replace(behaviour.contract.retry.again, **changes))(behaviour)

    return change


MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "backoff-hurried",
        "Every delay is a tenth of the contract's.",
        checks("retry.gaps"),
        "Below the envelope.",
        scenarios=("faults/retried-backoff", "faults/retried-statuses"),
        change=numbers("retry", first_delay=0.05, longest_delay=1.0),
    ),
    Mutant(
        "backoff-dawdles",
        "The first delay is four seconds.",
        checks("retry.gaps"),
        "Above the envelope.",
        scenarios=("faults/reset", "faults/answer-lost"),
        change=numbers("retry", first_delay=4.0),
    ),
    Mutant(
        "retry-after-ignored",
        "Retry-After is not read.",
        checks("retry.gaps"),
        "Below the envelope: the answer asks for more than the first delay.",
        scenarios=("faults/retried-after-seconds", "faults/retried-after-milliseconds", "faults/retried-after-date"),
        change=numbers("retry", retry_after=()),
    ),
    Mutant(
        "retry-after-before-milliseconds",
        "Retry-After is read before retry-after-ms.",
        checks("retry.gaps"),
        "Above the envelope: three seconds where 50 ms are asked for.",
        scenarios=("faults/retried-after-milliseconds",),
        change=numbers("retry", retry_after=("retry-after", "retry-after-ms")),
    ),
    Mutant(
        "rounds-hurried",
        "A round begins again after 50 ms.",
        checks("retry.gaps"),
        "Below the envelope: a second.",
        scenarios=ROUNDS,
        change=_rounds(first_delay=0.05),
    ),
    Mutant(
        "rounds-dawdle",
        "A round begins again after five seconds.",
        checks("retry.gaps"),
        "Above the envelope: a second.",
        scenarios=ROUNDS,
        change=_rounds(first_delay=5.0),
    ),
    Mutant(
        "poll-backoff-hurried",
        "A poll that was refused or broken is asked again after 50 ms.",
        checks("poll.rate"),
        "Below the envelope: a second.",
        scenarios=BROKEN_POLLS,
        change=numbers("polling", first_delay=0.05),
    ),
    Mutant(
        "poll-backoff-dawdles",
        "A poll that was refused or broken is asked again after five seconds.",
        checks("poll.rate"),
        "Above the envelope: a second.",
        scenarios=BROKEN_POLLS,
        change=numbers("polling", first_delay=5.0),
    ),
)
