"""The form of a report: which keys it has, of which kind, and where null is allowed but nothing may be left out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from harness.checks.reports import number
from harness.checks.structure import MISSING


@dataclass(frozen=True, slots=True)
class Malformed:
    """A place of a report that has another form: what belongs there, what is there, and the cause that tells it."""

    place: str
    expected: str
    observed: str
    cause: str


_VERSION = 1

_DOCUMENT = {
    "version": str(_VERSION),
    "loss_total": "number",
    "base_loss": "null",  # or "a part": as the call was made
    "regularizers": "parts",
    "regularizer_total": "number",
    "total_grad_norm": "number or null",
}
_BASE = {"value": "number", "grad_norm": "number or null", "custom": "numbers"}
_TERM = {
    **_BASE,
    "weight": "number",
    "contribution": "number",
    "grad_norm_weighted": "number or null",
}


def malformed(report: Mapping[str, Any], *, based: bool) -> Iterator[Malformed]:
    """Return the places of a report that have another form, in its order. `based`: the loss has a base."""
    yield from _keys(report, {**_DOCUMENT, "base_loss": "a part" if based else "null"}, "")
    base = report.get("base_loss")
    if isinstance(base, Mapping):
        yield from _keys(base, _BASE, "base_loss.")
    regularizers = report.get("regularizers")
    if isinstance(regularizers, Mapping):
        for name, part in regularizers.items():
            if isinstance(part, Mapping):
                yield from _keys(part, _TERM, f"regularizers.{name}.")
            else:
                yield Malformed(f"regularizers.{name}", "a part", _kind(part), "value-changed")


def _keys(given: Mapping[str, Any], kinds: Mapping[str, str], place: str) -> Iterator[Malformed]:
    for key, kind in kinds.items():
        if key not in given:
            dropped = "absent-for-null" if kind.endswith("null") else "key-dropped"
            yield Malformed(f"{place}{key}", kind, MISSING, dropped)
        elif not _is(given[key], kind):
            yield Malformed(f"{place}{key}", kind, _kind(given[key]), "value-changed")
    for key in given:
        if key not in kinds:
            yield Malformed(f"{place}{key}", MISSING, _kind(given[key]), "key-added")


def _is(value: Any, kind: str) -> bool:
    match kind:
        case "number":
            return isinstance(number(value), float)
        case "number or null":
            return value is None or isinstance(number(value), float)
        case "null":
            return value is None
        case "a part" | "parts":
            return isinstance(value, Mapping)
        case "1":
            return number(value) == _VERSION
        case _:
            return isinstance(value, Mapping) and all(isinstance(number(each), float) for each in value.values())


def _kind(value: Any) -> str:
    return (
        "null" if value is None else repr(value) if isinstance(value, (str, bool, int, float)) else type(value).__name__
    )
