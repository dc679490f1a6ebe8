"""Leave numbers alone that are within tolerance, so that emitting on another machine changes nothing."""

from __future__ import annotations

from typing import Any

import numpy as np

from harness.checks.numbers import differing
from mock_server.record import AnyArray

RTOL = 1e-5
ATOL = 1e-6
_RELATIVE = frozenset({"gradient"})
"""Arrays that agree relative to their largest entry: sums whose terms cancel."""


def blend(old: Any, new: Any, *, key: str = "") -> Any:
    """Return `new` with every number of `old` that it agrees with. Both are documents as read from a file."""
    if isinstance(old, dict) and isinstance(new, dict):
        return {name: blend(old[name], value, key=name) if name in old else value for name, value in new.items()}
    if isinstance(old, list) and isinstance(new, list):
        kept = [blend(left, right, key=key) for left, right in zip(old, new, strict=False)]
        return kept + new[len(old) :]
    if isinstance(old, np.ndarray) and isinstance(new, np.ndarray):
        return _array(old, new, relative=key in _RELATIVE)
    if isinstance(old, float) and isinstance(new, float):
        pair = np.array([old]), np.array([new])
        return new if differing(*pair, rtol=RTOL, atol=ATOL)[0] else old
    return new


def differences(old: Any, new: Any, *, path: str = "") -> list[str]:
    """Return the places where two documents differ, as sentences, at most one per array."""
    if isinstance(old, dict) and isinstance(new, dict):
        found: list[str] = []
        for name in sorted(old.keys() | new.keys()):
            place = f"{path}.{name}" if path else name
            if name not in new or name not in old:
                found.append(f"{place}: {'only stored' if name in old else 'only computed'}")
            else:
                found.extend(differences(old[name], new[name], path=place))
        return found
    if isinstance(old, list) and isinstance(new, list):
        sizes = [] if len(old) == len(new) else [f"{path}: {len(old)} stored, {len(new)} computed"]
        inner = (differences(a, b, path=f"{path}[{i}]") for i, (a, b) in enumerate(zip(old, new, strict=False)))
        return sizes + [text for texts in inner for text in texts]
    if isinstance(old, np.ndarray) and isinstance(new, np.ndarray):
        return _array_differences(old, new, path)
    same = type(old) is type(new) and (old == new or (old != old and new != new))
    return [] if same else [f"{path}: stored {old!r}, computed {new!r}"]


def _array(old: AnyArray, new: AnyArray, *, relative: bool) -> AnyArray:
    if old.dtype != new.dtype or old.shape != new.shape or old.dtype.kind != "f":
        return new
    atol = RTOL * float(np.abs(old).max(initial=0.0)) if relative else ATOL
    rtol = 0.0 if relative else RTOL
    changed = differing(old.reshape(-1), new.reshape(-1), rtol=rtol, atol=atol)
    return np.where(changed, new.reshape(-1), old.reshape(-1)).reshape(old.shape).astype(old.dtype)


def _array_differences(old: AnyArray, new: AnyArray, path: str) -> list[str]:
    if old.dtype != new.dtype or old.shape != new.shape:
        return [f"{path}: stored {old.dtype} {list(old.shape)}, computed {new.dtype} {list(new.shape)}"]
    left, right = old.reshape(-1), new.reshape(-1)
    changed = np.flatnonzero((left != right) & ~((left != left) & (right != right)))
    if not changed.size:
        return []
    at = int(changed[0])
    sides = f"stored {left[at].item()!r}, computed {right[at].item()!r}"
    return [f"{path}: {changed.size} of {left.size} numbers, first at {at}: {sides}"]
