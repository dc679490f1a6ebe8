"""The journal of a recording that is being taken: one line per exchange, written as it comes.

A process that is killed leaves its journal, which reads like any recording. What is written is free of secrets already.
"""

from __future__ import annotations

import base64
import json
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import zstandard

from harness.recording.raw import RawExchange
from harness.recording.scrub import scrub_body, scrub_headers, scrub_text
from mock_server.routes import PREFIX
from mock_server.wire.body import MAX_BODY_BYTES

JOURNAL = "exchanges.jsonl"
KIND = "parity-journal"
SCHEMA = 1
IDENTITIES = frozenset({"auth/token"})
"""How clients of the hosted service identify themselves. No scenario is about it: nothing of it is kept."""

PRIVATE = frozenset({"telemetry"})
"""Routes whose bodies may hold anything of the user's: only that they were called is kept."""

_READABLE, _UNREADABLE = b"{}", b"?"
"""What stands for a private body: whether it could be read is all that is told."""


def api_path(path: str) -> str | None:
    """Return a path from the API's prefix on, whatever stands before it, or None where it is no path of the API."""
    _, found, rest = path.partition(PREFIX)
    return found + rest if found else None


class Journal:
    """The journal in a folder, open for writing; safe from any thread.

    With `scrubbing` bodies are freed of secrets before they are written; secret headers are never written, nor is what
    `assemble` would not keep. `trouble` is the first error of the file system, after which nothing more is written.
    """

    def __init__(self, folder: Path, *, scrubbing: bool = True) -> None:
        """Begin the journal of `folder`, which is made. OSError where it cannot be."""
        folder.mkdir(parents=True, exist_ok=True)
        self.trouble: OSError | None = None
        self._folder = folder
        self._scrubbing = scrubbing
        self._lock = threading.Lock()
        self._file: BinaryIO | None = (folder / JOURNAL).open("xb")
        self._write({"kind": KIND, "schema": SCHEMA, "scrubbed": scrubbing})

    def append(self, exchange: RawExchange) -> None:
        """Write one exchange. When this returns, it survives the end of this process."""
        path = api_path(exchange.path)
        route = path.removeprefix(PREFIX) if path is not None else None
        if path is None or route in IDENTITIES:
            return
        body, response = exchange.body, exchange.response
        if route in PRIVATE:
            body, response = _READABLE if _is_object(body) else _UNREADABLE, b""
        elif self._scrubbing:
            body, response = _scrubbed(body, exchange.headers), scrub_body(response)
        self._write(
            {
                "at_ms": exchange.at_ms,
                "answered_ms": exchange.answered_ms,
                "connection": exchange.connection,
                "method": exchange.method,
                "path": scrub_text(path) if self._scrubbing else path,
                "headers": scrub_headers(exchange.headers),
                "body": base64.b64encode(body).decode(),
                "status": exchange.status,
                "media_type": exchange.media_type,
                "response": base64.b64encode(response).decode(),
            }
        )

    def close(self) -> None:
        """Write no more."""
        with self._lock:
            if self._file is not None:
                self._file.close()
                self._file = None

    def discard(self) -> None:
        """Remove the journal, and its folder where nothing else is in it: nothing was recorded."""
        self.close()
        (self._folder / JOURNAL).unlink()
        with suppress(OSError):
            self._folder.rmdir()

    def _write(self, entry: dict[str, Any]) -> None:
        line = json.dumps(entry).encode() + b"\n"
        with self._lock:
            if self._file is None or self.trouble is not None:
                return
            try:
                self._file.write(line)
                self._file.flush()
            except OSError as error:
                self.trouble = error


@dataclass(frozen=True, slots=True)
class Kept:
    """What a journal holds. `cut_off` says that its last entry was only partly written, and is not among them."""

    exchanges: tuple[RawExchange, ...]
    scrubbed: bool
    cut_off: bool


def read_journal(content: bytes) -> Kept:
    """Return what a journal holds; an entry that the end of a process cut off is left out.

    Raises ValueError, KeyError or TypeError where it is none, or was edited.
    """
    *lines, rest = content.split(b"\n")
    head = json.loads(lines[0]) if lines else {}
    if head.get("kind") != KIND:
        raise ValueError("its first line does not say that it is one")
    return Kept(tuple(map(_read, lines[1:])), bool(head["scrubbed"]), cut_off=bool(rest))


def _read(line: bytes) -> RawExchange:
    entry = json.loads(line)
    content = {name: base64.b64decode(entry[name], validate=True) for name in ("body", "response")}
    return RawExchange(**{**entry, **content})


def _is_object(body: bytes) -> bool:
    try:
        return isinstance(json.loads(body or b"{}"), dict)
    except (ValueError, RecursionError):
        return False


def _scrubbed(body: bytes, headers: Any) -> bytes:
    """Return a request body without secrets; one that has none keeps its bytes, compressed as they are."""
    if headers.get("content-encoding", "").strip().lower() != "zstd":
        return scrub_body(body)
    try:
        plain = zstandard.ZstdDecompressor().decompress(body, max_output_size=MAX_BODY_BYTES)
    except zstandard.ZstdError:
        return scrub_body(body)
    clean = scrub_body(plain)
    return body if clean == plain else zstandard.ZstdCompressor().compress(clean)
