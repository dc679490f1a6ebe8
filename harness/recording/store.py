"""Recordings on disk: a folder with `recording.json` and the raw bytes of large arrays, all there or not at all."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import msgspec

from harness.errors import ParityError
from harness.golden.text import digest_of
from harness.recording.document import KIND, SCHEMA, from_text, to_text
from mock_server.record import Record

FILE = "recording.json"
_HINT = "`parity record` and `parity import-har` write recordings"


def check_free(folder: Path) -> None:
    """Raise ParityError `recording-exists` unless `folder` can become a recording: it is not there, or it is empty."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ParityError(
            "recording-exists", f"{folder} exists and is not empty", hint="name a folder that does not exist yet"
        )


def write_recording(folder: Path, record: Record, *, scrubbed: bool = True) -> None:
    """Write a recording. It is put in place whole, by one renaming.

    Raises ParityError `recording-exists` or `recording-unwritable`.
    """
    check_free(folder)
    arrays: dict[str, bytes] = {}

    def keep(content: bytes) -> str:
        digest = digest_of(content)
        arrays[digest] = content
        return digest

    text = to_text(record, scrubbed=scrubbed, keep=keep)
    folder = folder.resolve()
    beside = folder.with_name(f".{folder.name}.{os.getpid()}.new")
    try:
        beside.mkdir(parents=True)
        for digest, content in arrays.items():
            (beside / f"{digest}.bin").write_bytes(content)
        (beside / FILE).write_text(text, encoding="utf-8")
        beside.replace(folder)
    except OSError as error:
        shutil.rmtree(beside, ignore_errors=True)
        raise ParityError(
            "recording-unwritable", f"{folder} cannot be written: {error}", hint="name a folder that can be written to"
        ) from error


def read_recording(folder: Path) -> Record:
    """Return a recording; `folder` may also be its `recording.json`.

    Raises ParityError: `recording-missing`, `recording-foreign` (something else), `recording-newer` (of a later
    version of parity), `recording-malformed` (truncated, edited, or an array is missing).
    """
    file = folder / FILE if folder.is_dir() else folder
    try:
        text = file.read_bytes().decode()
    except OSError as error:
        raise ParityError("recording-missing", f"{file} cannot be read: {error.strerror}", hint=_HINT) from error
    except UnicodeDecodeError as error:
        raise ParityError("recording-foreign", f"{file} is no recording: it is not text", hint=_HINT) from error
    _check_kind(file, text)
    try:
        return from_text(text, lambda digest: _array(file.parent, digest))
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, msgspec.ValidationError) as error:
        raise _malformed(file, str(error)) from error


def _check_kind(file: Path, text: str) -> None:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _malformed(file, f"it is not JSON: {error}") from error
    if not isinstance(document, dict) or document.get("kind") != KIND:
        raise ParityError(
            "recording-foreign",
            f"{file} is no recording: its kind is not {KIND!r}",
            hint=f"{_HINT}; HAR files are imported",
        )
    schema = document.get("schema")
    if isinstance(schema, int) and schema > SCHEMA:
        raise ParityError(
            "recording-newer",
            f"{file} has schema {schema}, this version of parity reads {SCHEMA}",
            hint="read it with the version of parity that wrote it, or a later one",
        )


def _array(folder: Path, digest: str) -> bytes:
    if not digest.isalnum():
        raise ValueError(f"{digest!r} is no SHA-256")
    try:
        content = (folder / f"{digest}.bin").read_bytes()
    except OSError as error:
        raise ValueError(f"the array {digest} cannot be read: {error.strerror}") from error
    if digest_of(content) != digest:
        raise ValueError(f"the array {digest} was truncated or edited")
    return content


def _malformed(file: Path, why: str) -> ParityError:
    return ParityError("recording-malformed", f"{file}: {why}", hint="record the traffic, or import the file, again")
