"""Taking secrets out: keys, tokens, cookies, user metadata. Pure; a value without secrets comes back as it was."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

SCRUBBED = "<scrubbed>"

_SECRET_NAME = re.compile(
    r"(?:^|[-_])(?:api[-_]?key|auth|authorization|cookie|credentials?|jwt|passwd|password|secret|session[-_]?token|"
    r"signature|token)s?(?:$|[-_])",
    re.IGNORECASE,
)
_HARMLESS_HEADERS = ("x-tinker-", "x-stainless-", "x-idempotency-key", "x-sdk-")
_SECRET_TEXT = re.compile(
    r"tml-[A-Za-z0-9_\-]+"  # API keys
    r"|eyJ[A-Za-z0-9_\-]+(?:\.[A-Za-z0-9_\-]*){0,2}"  # JWTs, whole or cut off
    r"|(?i:bearer)\s+[A-Za-z0-9._~+/\-]+=*"
    r"|(?<=//)[^/\s@:]+:[^/\s@]+(?=@)"  # user and password inside a URL
)
_USER_TEXT = frozenset({"user_metadata"})


def scrub_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return headers without those whose name says that they hold a secret, and without secrets in their values."""
    return {
        name: scrub_text(value)
        for name, value in headers.items()
        if name.startswith(_HARMLESS_HEADERS) or not _SECRET_NAME.search(name)
    }


def scrub_text(text: str) -> str:
    """Return a text with every API key, JWT and bearer token in it replaced."""
    return _SECRET_TEXT.sub(SCRUBBED, text)


def scrub(value: Any, *, key: str = "") -> Any:
    """Return a JSON-like value without secrets: in texts, under names that say so, and in user metadata.

    Numbers, null and empty metadata stay; they say how a client writes its bodies.
    """
    if key in _USER_TEXT:
        return {SCRUBBED: SCRUBBED} if value else value
    if isinstance(value, str):
        return SCRUBBED if value and _SECRET_NAME.search(key) else scrub_text(value)
    if isinstance(value, Mapping):
        return {scrub_text(name): scrub(entry, key=name) for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [scrub(entry, key=key) for entry in value]
    return value
