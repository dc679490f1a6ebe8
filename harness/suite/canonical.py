"""The canonical form of a value of the suite, and its digest.

Equal content gives equal bytes, however a file spells it: keys are sorted, fields that hold their default are left
out (so that a new optional field of the schema does not move the digest of a frozen scenario), and NaN and infinities
are spelled.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from functools import cache
from typing import Any

import msgspec


def plain(value: Any) -> Any:
    """Return `value`, made of structs, mappings, sequences and scalars, as plain JSON data in canonical form."""
    if isinstance(value, msgspec.Struct):
        config = value.__struct_config__
        tag = {config.tag_field: config.tag} if config.tag_field else {}
        return tag | {
            each.encode_name: plain(content)
            for each in _fields(type(value))
            if (content := getattr(value, each.name)) != _default(each)
        }
    if isinstance(value, Mapping):
        return {str(key): plain(content) for key, content in value.items()}
    if isinstance(value, list | tuple):
        return [plain(content) for content in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def digest(value: Any) -> str:
    """Return the SHA-256, in hexadecimal, over the canonical form as UTF-8 JSON without white space."""
    text = json.dumps(plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


@cache
def _fields(kind: type[msgspec.Struct]) -> tuple[msgspec.structs.FieldInfo, ...]:
    # msgspec evaluates every annotation of the class anew each time.
    return msgspec.structs.fields(kind)


def _default(each: msgspec.structs.FieldInfo) -> Any:
    if each.default_factory is not msgspec.NODEFAULT:
        return each.default_factory()
    # A required field equals no sentinel: it is always part of the form.
    return each.default
