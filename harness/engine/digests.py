"""Digests of what a run is about, the same whoever computes them: a plan, or reports of its parts put together."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence


def suite_digest(stimuli: Mapping[str, str]) -> str:
    """Return one SHA-256 over the ids and stimuli of scenarios, whatever their order."""
    return _digest(f"{scenario} {stimulus}\n" for scenario, stimulus in stimuli.items())


def whole_digest(stimuli: Mapping[str, str], checks: Mapping[str, Sequence[str]]) -> str:
    """Return one SHA-256 over scenarios, their stimuli and the checks that are planned, whatever their order."""
    return _digest(
        f"{scenario} {stimulus} {' '.join(sorted(checks.get(scenario, ())))}\n"
        for scenario, stimulus in stimuli.items()
    )


def _digest(lines: Iterable[str]) -> str:
    return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()
