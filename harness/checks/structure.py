"""Differences between JSON-like values: exact keys, null against left out, values. Small and bounded.

deepdiff names the place; the values here are bodies of a few keys, never bulk numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from harness.checks.causes import Found, certain, likely

_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Difference:
    """One place where two values differ: `path` (`adam_params.beta2`), what golden has and what was observed."""

    path: str
    expected: str
    observed: str
    kind: str

    def __str__(self) -> str:
        return f"{self.path}: {self.expected} -> {self.observed}"


MISSING = "(left out)"


def same(golden: Any, observed: Any) -> bool:
    """Return whether two JSON values are equal. 1 equals 1.0, true does not equal 1, null does not equal left out."""
    if isinstance(golden, bool) or isinstance(observed, bool):
        return golden is observed
    if isinstance(golden, dict) and isinstance(observed, dict):
        return golden.keys() == observed.keys() and all(same(value, observed[key]) for key, value in golden.items())
    if isinstance(golden, list) and isinstance(observed, list):
        return len(golden) == len(observed) and all(map(same, golden, observed))
    return bool(golden == observed or (golden != golden and observed != observed))


def differences(golden: Any, observed: Any) -> list[Difference]:
    """Return where two JSON values differ, in a stable order; empty exactly when `same`."""
    if same(golden, observed):
        return []
    from deepdiff import DeepDiff

    found: list[Difference] = []
    tree = DeepDiff(golden, observed, ignore_nan_inequality=True, threshold_to_diff_deeper=0, view="tree")
    for kind, items in tree.items():
        for item in items:
            if _only_number_type(item.t1, item.t2):
                continue
            expected = MISSING if "added" in kind else _json(item.t1)
            seen = MISSING if "removed" in kind else _json(item.t2)
            what = "added" if "added" in kind else "dropped" if "removed" in kind else "changed"
            found.append(Difference(_path(item.path(output_format="list")), expected, seen, what))
    # deepdiff takes true for 1 inside lists.
    return sorted(found, key=lambda d: d.path) or [_first(golden, observed, [])]


def told(found: list[Difference]) -> tuple[str, str, str, Found | None]:
    """Return (expected, observed, first path, cause) of a non-empty list of differences, bounded."""
    shown = found[:_SHOWN]
    more = f"; … {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    expected = "; ".join(f"{d.path}: {d.expected}" for d in shown) + more
    observed = "; ".join(f"{d.path}: {d.observed}" for d in shown) + more
    return expected, observed, shown[0].path, _cause(found)


def _cause(found: list[Difference]) -> Found | None:
    kinds = {d.kind for d in found}
    names = ", ".join(d.path for d in found[:_SHOWN])
    if kinds == {"dropped"}:
        return certain("key-dropped" if any(d.expected != "null" for d in found) else "absent-for-null", names)
    if kinds == {"added"}:
        return certain("key-added" if any(d.observed != "null" for d in found) else "null-for-absent", names)
    if len(found) == 2 and kinds == {"added", "dropped"}:
        old = next(d for d in found if d.kind == "dropped")
        new = next(d for d in found if d.kind == "added")
        if old.expected == new.observed:
            return likely("key-renamed", f"{old.path} is called {new.path}")
    if kinds == {"changed"} and all(d.expected == "null" for d in found):
        return certain("default-filled", names)
    if kinds == {"changed"}:
        return certain("value-changed", names)
    # Of several kinds, the first place tells; the particulars have them all.
    first = _cause(found[:1])
    return None if first is None else Found(first.code, first.certainty, names)


def _first(golden: Any, observed: Any, path: list[Any]) -> Difference:
    """Return the first place where two values that are not the same differ."""
    if isinstance(golden, dict) and isinstance(observed, dict) and golden.keys() == observed.keys():
        key = next(key for key in sorted(golden) if not same(golden[key], observed[key]))
        return _first(golden[key], observed[key], [*path, key])
    if isinstance(golden, list) and isinstance(observed, list) and len(golden) == len(observed):
        place = next(i for i, (a, b) in enumerate(zip(golden, observed, strict=True)) if not same(a, b))
        return _first(golden[place], observed[place], [*path, place])
    return Difference(_path(path), _json(golden), _json(observed), "changed")


def _only_number_type(left: Any, right: Any) -> bool:
    numbers = isinstance(left, (int, float)) and isinstance(right, (int, float))
    return numbers and same(left, right)


def _path(parts: list[Any]) -> str:
    text = ""
    for part in parts:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text or "(the whole body)"


def _json(value: Any) -> str:
    from json import dumps

    text = dumps(value, sort_keys=True, default=str)
    return text if len(text) <= 80 else text[:79] + "…"
