"""How deep JSON may nest: whoever walks over decoded values does it by recursion."""

from __future__ import annotations

from typing import Any

MAX_DEPTH = 64
"""Containers within containers. No message of any release nests deeper than ten."""


def too_deep(value: Any, *, limit: int = MAX_DEPTH) -> bool:
    """Tell whether containers within `value` nest deeper than `limit`. Does not recurse."""
    level: list[Any] = [value]
    for _ in range(limit):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if type(outer) is dict else outer)
            if type(inner) is dict or type(inner) is list
        ]
        if not level:
            return False
    return True
