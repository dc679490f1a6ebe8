"""One exchange as it was on the wire: what a proxy or a HAR file has to give."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, eq=False)
class RawExchange:
    """A request and, where one came, its response.

    `at_ms` and `answered_ms` are milliseconds since the first request of the recording. `path` has no query. Headers
    have lower-case names. `body` is as sent, content-encoding included; `response` is decompressed. `status` is None
    where no response came.
    """

    at_ms: float
    answered_ms: float | None
    connection: str
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    status: int | None
    media_type: str = ""
    response: bytes = b""
