"""Recordings on disk: a folder with `recording.json` and the raw bytes of large arrays, all there or not at all.

One that is still being taken, or whose taking was killed, has a journal instead, which is read in its place.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from harness.atomic import beside, write_whole
from harness.errors import ParityError
from harness.golden.text import digest_of
from harness.recording.assemble import assemble
from harness.recording.document import KIND, SCHEMA, from_text, to_text
from harness.recording.journal import JOURNAL, read_journal
from harness.recording.journal import KIND as JOURNAL_KIND
from harness.recording.journal import SCHEMA as JOURNAL_SCHEMA
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
    folder = folder.resolve()
    site = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        site = beside(folder)
        site.mkdir()
        _write(site, record, scrubbed=scrubbed)
        site.replace(folder)
    except OSError as error:
        if site is not None:
            shutil.rmtree(site, ignore_errors=True)
        raise unwritable(folder, error) from error


def finish_recording(folder: Path) -> Taken:
    """Make a recording of the journal in `folder`, and return it. Until it is whole, the journal stays.

    Raises ParityError as `read_recording` does, and `recording-unwritable`.
    """
    taken = read_recording(folder / JOURNAL)
    try:
        _write(folder, taken.record, scrubbed=taken.scrubbed)
        (folder / JOURNAL).unlink()
    except OSError as error:
        raise unwritable(folder, error) from error
    return taken


def _write(folder: Path, record: Record, *, scrubbed: bool) -> None:
    arrays: dict[str, bytes] = {}

    def keep(content: bytes) -> str:
        digest = digest_of(content)
        arrays[digest] = content
        return digest

    text = to_text(record, scrubbed=scrubbed, keep=keep)
    for digest, content in arrays.items():
        (folder / f"{digest}.bin").write_bytes(content)
    write_whole(folder / FILE, text.encode())


def unwritable(folder: Path, error: OSError) -> ParityError:
    """Return the error for a folder that cannot be written to."""
    return ParityError(
        "recording-unwritable", f"{folder} cannot be written: {error}", hint="name a folder that can be written to"
    )


@dataclass(frozen=True, slots=True)
class Taken:
    """A recording as it was read. `note` says what is missing from it, or ""."""

    record: Record
    scrubbed: bool = True
    note: str = ""


def read_recording(folder: Path) -> Taken:
    """Return a recording; `folder` may also be its `recording.json`, or the journal of an unfinished one.

    Raises ParityError: `recording-missing`, `recording-foreign` (something else), `recording-newer` (of a later
    version of parity), `recording-malformed` (truncated, edited, or an array is missing).
    """
    file = folder
    if folder.is_dir():
        unfinished = not (folder / FILE).exists() and (folder / JOURNAL).exists()
        file = folder / (JOURNAL if unfinished else FILE)
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ParityError("recording-missing", f"{file} cannot be read: {error.strerror}", hint=_HINT) from error
    if file.name == JOURNAL:
        return _from_journal(file, content)
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise ParityError("recording-foreign", f"{file} is no recording: it is not text", hint=_HINT) from error
    scrubbed = _check_kind(file, text, KIND, SCHEMA).get("scrubbed") is True
    try:
        return Taken(from_text(text, lambda digest: _array(file.parent, digest)), scrubbed)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, msgspec.ValidationError) as error:
        raise _malformed(file, str(error)) from error


def _from_journal(file: Path, content: bytes) -> Taken:
    head, _, _ = content.partition(b"\n")
    _check_kind(file, head.decode("utf-8", "replace"), JOURNAL_KIND, JOURNAL_SCHEMA)
    try:
        kept = read_journal(content)
        record = assemble(kept.exchanges, scrubbing=kept.scrubbed)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise _malformed(file, str(error)) from error
    note = f"{len(record.exchanges)} requests of a recording that was not finished"
    return Taken(record, kept.scrubbed, note + "; one more was cut off and is left out" if kept.cut_off else note)


def _check_kind(file: Path, text: str, kind: str, known: int) -> dict[str, Any]:
    """Return the document, or the first line, of a recording of that kind that this version reads."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _malformed(file, f"it is not JSON: {error}") from error
    if not isinstance(document, dict) or document.get("kind") != kind:
        raise ParityError(
            "recording-foreign",
            f"{file} is no recording: its kind is not {kind!r}",
            hint=f"{_HINT}; HAR files are imported",
        )
    schema = document.get("schema")
    if isinstance(schema, int) and schema > known:
        raise ParityError(
            "recording-newer",
            f"{file} has schema {schema}, this version of parity reads {known}",
            hint="read it with the version of parity that wrote it, or a later one",
        )
    return document


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
