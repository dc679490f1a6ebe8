"""HAR 1.2 files, as browsers and proxies export them, read as raw exchanges."""

from __future__ import annotations

import base64
import binascii
import json
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from harness.errors import ParityError
from harness.recording.raw import RawExchange
from mock_server.routes import PREFIX

_HINT = "export the traffic as HAR 1.2 with the bodies of requests and responses"


def read_har(file: Path) -> tuple[RawExchange, ...]:
    """Return the exchanges with the service's API in a HAR file.

    Bodies are the file's text, as UTF-8 bytes unless `encoding` says base64. In a request, which HAR gives no way to
    encode, `_encoding` or `encoding` of postData is honoured, and text of a binary media type is taken as one byte per
    character, as exporters write it.

    Raises ParityError: `har-malformed` (not there, truncated, not HAR, broken base64 or times), `har-unsupported`
    (another version than 1.x), `har-empty` (no exchange with the API).
    """
    try:
        document = json.loads(file.read_bytes())
    except OSError as error:
        raise _malformed(file, f"it cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise _malformed(file, f"it is not JSON: {error}") from error
    log = document.get("log") if isinstance(document, dict) else None
    if not isinstance(log, dict) or not isinstance(log.get("entries"), list):
        raise _malformed(file, "it has no log.entries")
    version = str(log.get("version") or "1.2")
    if not version.startswith("1."):
        raise ParityError("har-unsupported", f"{file} is HAR {version}, this version of parity reads 1.2", hint=_HINT)
    found: list[tuple[datetime, RawExchange]] = []
    for number, entry in enumerate(log["entries"]):
        try:
            read = _entry(entry)
        except KeyError as error:
            raise _malformed(file, f"entry {number} has no {error.args[0]}") from error
        except (TypeError, ValueError, AttributeError, OverflowError) as error:
            raise _malformed(file, f"entry {number}: {type(error).__name__}: {error}") from error
        if read is not None:
            found.append(read)
    if not found:
        raise ParityError("har-empty", f"{file} has no request to a path with {PREFIX}", hint=_HINT)
    try:
        start = min(at for at, _ in found)
        return tuple(_placed(exchange, (at - start).total_seconds() * 1000.0) for at, exchange in found)
    except TypeError as error:
        raise _malformed(file, "some times name a time zone and some do not") from error


def _entry(entry: dict[str, Any]) -> tuple[datetime, RawExchange] | None:
    request, response = _part(entry, "request"), _part(entry, "response")
    path = urlsplit(request["url"]).path
    if PREFIX not in path:
        return None
    headers = _headers(request["headers"])
    status = int(response["status"])
    content = response.get("content") or {}
    post = request.get("postData") or {}
    if not _is_base64(post):
        headers.pop("content-encoding", None)  # text in the file is what was compressed, not the compressed bytes
    took = float(entry.get("time") or 0.0)
    return datetime.fromisoformat(entry["startedDateTime"]), RawExchange(
        at_ms=0.0,
        # A status of 0 is how exporters say that no response came.
        answered_ms=max(took, 0.0) if status else None,
        connection=str(entry.get("connection") or "c1"),
        method=str(request["method"]).upper(),
        path=path,
        headers=headers,
        body=_text(post, binary="protobuf" in headers.get("content-type", "")),
        status=status or None,
        media_type=str(content.get("mimeType") or ""),
        response=_text(content, binary="protobuf" in str(content.get("mimeType"))),
    )


def _part(entry: dict[str, Any], name: str) -> dict[str, Any]:
    part = entry[name]
    if not isinstance(part, dict):
        raise TypeError(f"{name} is no object")
    return part


def _placed(exchange: RawExchange, at_ms: float) -> RawExchange:
    return RawExchange(
        at_ms=at_ms,
        answered_ms=None if exchange.answered_ms is None else at_ms + exchange.answered_ms,
        connection=exchange.connection,
        method=exchange.method,
        path=exchange.path,
        headers=exchange.headers,
        body=exchange.body,
        status=exchange.status,
        media_type=exchange.media_type,
        response=exchange.response,
    )


def _headers(entries: list[dict[str, Any]]) -> dict[str, str]:
    return {str(entry["name"]).lower(): str(entry["value"]) for entry in entries}


def _is_base64(content: dict[str, Any]) -> bool:
    return "base64" in (content.get("encoding"), content.get("_encoding"))


def _text(content: dict[str, Any], *, binary: bool) -> bytes:
    text = content.get("text") or ""
    if not isinstance(text, str):
        raise TypeError("a body is not text")
    if _is_base64(content):
        try:
            return base64.b64decode(text, validate=True)
        except binascii.Error as error:
            raise ValueError(f"a body is not base64: {error}") from error
    if binary and all(ord(character) < 256 for character in text):
        return text.encode("latin-1")
    return text.encode()


def _malformed(file: Path, why: str) -> ParityError:
    return ParityError("har-malformed", f"{file}: {why}", hint=_HINT)
