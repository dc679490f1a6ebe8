"""Taking secrets out: keys, tokens, cookies, user metadata. Pure; a value without secrets comes back as it was."""

from __future__ import annotations

import json
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
# Tokens of other services, by the beginning that is theirs; a word such as hf_transformers or disk-sk-cache is none.
_FOREIGN = (
    r"(?<![A-Za-z0-9])(?:hf_(?=[a-z]*[A-Z0-9]|[a-z]{20})[A-Za-z0-9]{10,}"
    r"|sk-(?=[a-z_\-]*[A-Z0-9]|[a-z_\-]{20})[A-Za-z0-9_\-]{10,}"
    r"|gh[oprsu]_[A-Za-z0-9]{10,}|github_pat_[A-Za-z0-9_]{10,}"
    r"|A(?:KIA|SIA)[A-Z0-9]{12,}|xox[a-z]-[A-Za-z0-9\-]{10,})"
)
_SECRET_TEXT = re.compile(
    r"tml-[A-Za-z0-9_\-]+"  # API keys
    r"|eyJ[A-Za-z0-9_\-]+(?:\.[A-Za-z0-9_\-]*){0,2}"  # JWTs, whole or cut off
    r"|(?i:bearer)\s+[A-Za-z0-9._~+/\-]+=*"
    r"|(?<=//)[^/\s@:]+:[^/\s@]+(?=@)"  # user and password inside a URL
    "|" + _FOREIGN
)
# In bytes that are no text, numbers must not be taken for secrets: what looks like one is long.
_SECRET_BYTES = re.compile(
    rb"tml-[A-Za-z0-9_\-]{12,}|eyJ[A-Za-z0-9_\-]{12,}(?:\.[A-Za-z0-9_\-]*){0,2}"
    rb"|(?i:bearer)\s+[A-Za-z0-9._~+/\-]{12,}=*"
    b"|" + _FOREIGN.encode()
)
_SOURCE_FILE = re.compile(
    r"(?<![\w/:.-])/(?:[\w.@+~-]+/)+(?=[\w.@+~-]+/[\w.@+~-]+\.(?:beam|cjs|erl|exs?|go|jar|java|js|mjs|pyc?|rs|so|ts)\b)"
)
_USER_TEXT = frozenset({"user_metadata"})
_PLAIN = frozenset({bool, float, int})


def scrub_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return headers without those whose name says that they hold a secret, and without secrets in their values."""
    return {
        name: scrub_text(value)
        for name, value in headers.items()
        if name.startswith(_HARMLESS_HEADERS) or not _SECRET_NAME.search(name)
    }


def scrub_text(text: str) -> str:
    """Return a text with every API key, JWT, bearer token and well-known token of another service in it replaced."""
    return _SECRET_TEXT.sub(SCRUBBED, text)


def scrub_folders(text: str) -> str:
    """Return a text in which absolute paths of source files begin at the file's own folder: stacks name them."""
    return _SOURCE_FILE.sub(".../", text)


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
        return value if _PLAIN.issuperset(map(type, value)) else [scrub(entry, key=key) for entry in value]
    return value


def scrub_body(content: bytes) -> bytes:
    """Return a body without secrets. One that has none comes back as the same bytes.

    JSON is scrubbed as a value. In anything else keys and tokens are overwritten with as many asterisks, so that
    lengths written in it stay true.
    """
    try:
        value = json.loads(content)
        clean = scrub(value)
    except (ValueError, RecursionError):
        return _SECRET_BYTES.sub(lambda found: b"*" * len(found.group()), content)
    return content if clean == value else json.dumps(clean).encode()
