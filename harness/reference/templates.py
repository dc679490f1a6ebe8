"""Fills the body templates of a contract."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_GONE = object()


def fill(template: Any, values: Mapping[str, Any]) -> Any:
    """Replace the placeholders of a template by values.

    `"$name"` becomes the value, null where there is none; the key of `"$name?"` is omitted where there is none;
    `"$null"` becomes null; anything else stands for itself.
    """
    if isinstance(template, Mapping):
        filled = {key: fill(part, values) for key, part in template.items()}
        return {key: value for key, value in filled.items() if value is not _GONE}
    if isinstance(template, list | tuple):
        return [fill(part, values) for part in template]
    if isinstance(template, str) and template.startswith("$"):
        if template.endswith("?"):
            value = values.get(template[1:-1])
            return _GONE if value is None else value
        return None if template == "$null" else values.get(template[1:])
    return template


def placeholders(template: Any) -> set[str]:
    """Return the names of the placeholders in a template, `null` aside."""
    if isinstance(template, Mapping):
        return {name for part in template.values() for name in placeholders(part)}
    if isinstance(template, list | tuple):
        return {name for part in template for name in placeholders(part)}
    if isinstance(template, str) and template.startswith("$") and template != "$null":
        return {template[1:].removesuffix("?")}
    return set()
