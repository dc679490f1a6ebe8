"""Short ways to say what a check says. Sides are always called golden and observed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec import structs

from harness.checks.causes import Found
from harness.checks.verdict import Verdict

_SHOWN = 8
_WIDTH = 300


def passed(message: str) -> Verdict:
    """Return a pass; `message` says what was looked at."""
    return Verdict("pass", message)


def failed(
    message: str, *, expected: object = "", observed: object = "", where: str = "", cause: Found | None = None
) -> Verdict:
    """Return a failure. `expected` is golden's side. Long values are shortened."""
    told = (cause.code, cause.certainty, short(cause.detail)) if cause else ("", "", "")
    return Verdict("fail", message, short(expected), short(observed), where, *told)


def because(verdict: Verdict, cause: Found) -> Verdict:
    """Return a failure with another cause than it has."""
    return structs.replace(verdict, cause=cause.code, certainty=cause.certainty, detail=short(cause.detail))


def nothing(reason: str) -> Verdict:
    """Return not_run: there was nothing to look at, for this reason."""
    return Verdict("not_run", reason)


def short(value: object) -> str:
    """Return a value as text of bounded length."""
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= _WIDTH else text[: _WIDTH - 1] + "…"


def listed(values: Iterable[object], *, limit: int = _SHOWN) -> str:
    """Return the first few values, separated by commas, and how many more there are."""
    entries = list(values)
    more = f", … {len(entries) - limit} more" if len(entries) > limit else ""
    return ", ".join(str(entry) for entry in entries[:limit]) + more


def runs(values: Sequence[object], *, limit: int = _SHOWN) -> str:
    """Return a sequence with repeats folded: `1024, 1024, 1` is `2 x 1024, 1`."""
    folded: list[tuple[int, object]] = []
    for value in values:
        if folded and folded[-1][1] == value:
            folded[-1] = (folded[-1][0] + 1, value)
        else:
            folded.append((1, value))
    return listed((f"{count} x {value}" if count > 1 else value for count, value in folded), limit=limit) or "none"


def count(number: int, noun: str) -> str:
    """Return `1 request`, `2 requests`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
