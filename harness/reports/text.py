"""Text of a subject, made safe to show.

Messages come from the SDK under test and from what it sent. On a terminal a control character can move the cursor,
change the title or hide a line; in XML it makes the document invalid.
"""

from __future__ import annotations

import re

from harness.checks.causes import CAUSES
from harness.engine.events import CheckJudged

# C0 but tab and newline, DEL, C1, and the marks that reorder or hide text.
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2028\u2029\u2066-\u2069\ufeff]")
# What no XML 1.0 document can hold, not even escaped, and no UTF-8 file either (surrogates).
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_SURROGATE = re.compile("[\ud800-\udfff]")


def _spelled(match: re.Match[str]) -> str:
    code = ord(match.group())
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def count(number: int, noun: str) -> str:
    """Return `1 check` or `2 checks`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def cause_of(result: CheckJudged) -> str:
    """Return the cause of a result in words: title, code, certainty and particulars; "" where none is known."""
    if not result.cause:
        return ""
    known = CAUSES.get(result.cause)
    sure = f", {result.certainty}" if result.certainty else ""
    head = f"{known.title} ({known.code}{sure})" if known else f"{result.cause}{sure}"
    return f"{head}: {result.detail}" if result.detail else head


def encodable(text: str) -> str:
    """Return `text` with lone surrogates spelled, so that it can be written as UTF-8."""
    return _SURROGATE.sub(_spelled, text)


def for_terminal(text: str) -> str:
    r"""Return `text` with control and reordering characters spelled (`\x1b`); tabs and newlines stay."""
    return encodable(_UNSAFE.sub(_spelled, text))


def for_json(written: str) -> str:
    """Return JSON text, written without `ensure_ascii`, with what a terminal cannot take escaped: it reads the same."""
    return _UNSAFE.sub(lambda match: f"\\u{ord(match.group()):04x}", written)


def for_xml(text: str) -> str:
    r"""Return `text` with every character that XML 1.0 or a terminal cannot take spelled (`\x00`)."""
    return _NOT_XML.sub(_spelled, _UNSAFE.sub(_spelled, text))
