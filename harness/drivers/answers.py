"""One line from a driver: an answer, or what is wrong with it."""

from __future__ import annotations

import msgspec

from harness.drivers.protocol import Answer
from mock_server.wire.nesting import MAX_DEPTH, too_deep

MESSAGE_KEPT = 2000
"""How much of a driver's error message is kept, in characters: every check of its scenario repeats it."""

DETAIL_KEPT = 16 << 10
"""How much of the details is kept, in characters: their end, where a traceback says what happened."""


class GarbageError(Exception):
    """The line is no answer; the message says why."""


def read_answer(line: bytes) -> Answer:
    """Return the answer on a line. Raises GarbageError."""
    try:
        answer = msgspec.json.decode(line, type=Answer)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise GarbageError(f"a line on stdout that is no answer ({error})") from error
    if (answer.ok is None) == (answer.driver_error is None):
        raise GarbageError("an answer needs exactly one of ok and driver_error")
    if too_deep(answer.ok or {}):
        raise GarbageError(f"an answer that nests more than {MAX_DEPTH} deep")
    return answer


def shortened(message: str) -> str:
    """Return a message in bounded length."""
    return message if len(message) <= MESSAGE_KEPT else f"{message[:MESSAGE_KEPT]}... ({len(message)} characters)"


def excerpt(line: bytes) -> str:
    """Return the beginning of a line, quoted."""
    text = line[:120].decode("utf-8", errors="replace").rstrip("\n")
    return repr(text) + (" ..." if len(line) > 120 else "")
