"""When the reference sends a request again: pure functions of the contract's numbers and an answer."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from harness.contracts.model import Retry, means


def is_retried(retry: Retry, status: int, headers: Mapping[str, str]) -> bool:
    """Return whether an answer asks for another attempt. Read in 0.7.0 to 0.38.0."""
    asked = headers.get(retry.should_retry, "")
    if asked in ("true", "false"):
        return asked == "true"
    return means(retry.statuses, status)


def delay(retry: Retry, taken: int, headers: Mapping[str, str]) -> float:
    """Return the seconds before the next attempt, after `taken` retries: what the answer asks for, or the backoff.

    The official SDK draws its jitter; here it is the middle of what it draws from.
    """
    asked = asked_for(retry, headers)
    if asked is not None and 0 < asked <= retry.longest_retry_after:
        return asked
    return doubled(retry.first_delay, taken, retry.longest_delay) * (1 - retry.jitter / 2)


def asked_for(retry: Retry, headers: Mapping[str, str]) -> float | None:
    """Return how many seconds the first readable header asks to wait, or None where none can be read."""
    for name in retry.retry_after:
        text = headers.get(name, "")
        try:
            return float(text) / 1000 if name.endswith("-ms") else float(text)
        except ValueError:
            until = None if name.endswith("-ms") else _until(text)
            if until is not None:
                return until
    return None


def doubled(first: float, times: int, longest: float) -> float:
    """Return a delay that doubles each time, up to the longest."""
    return min(first * 2.0 ** min(times, 60), longest)


def _until(date: str) -> float | None:
    try:
        then = parsedate_to_datetime(date)
    except ValueError:
        return None
    return (then - datetime.now(UTC if then.tzinfo else None)).total_seconds()
