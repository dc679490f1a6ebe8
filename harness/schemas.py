"""What all published JSON Schemas have in common."""

from __future__ import annotations

import inspect
from typing import Any


def cleaned(schema: Any) -> Any:
    """Return a schema made by msgspec, the same on every Python and with every msgspec from 0.21 on.

    Descriptions are docstrings: from 3.13 on the compiler takes their indentation away, before it leaves it there.
    Where null stands in an `anyOf` differs between releases of msgspec: here it stands last.
    """
    if isinstance(schema, dict):
        return {key: _value(key, value) for key, value in schema.items()}
    return [cleaned(value) for value in schema] if isinstance(schema, list | tuple) else schema


def _value(key: str, value: Any) -> Any:
    if key == "description" and isinstance(value, str):
        return inspect.cleandoc(value)
    if key == "anyOf" and isinstance(value, list):
        return sorted((cleaned(each) for each in value), key=lambda each: each == {"type": "null"})
    return cleaned(value)
