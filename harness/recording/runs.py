"""Recorded runs on disk: one file of compressed JSON lines, put in place whole.

The first line says what was driven and what was planned, one line per scenario what was observed, the last how many
there are and their digest, so that a file that was cut anywhere is known to be cut. Arrays that golden has are named by
the SHA-256 of the bytes that were observed, and not stored again.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec
import zstandard
from msgspec import Struct

from harness.atomic import beside
from harness.errors import ParityError
from harness.golden.index import array_path, read_index
from harness.golden.text import digest_of
from harness.recording.document import from_document, plain, to_document
from harness.recording.scrub import scrub_folders
from mock_server.record import Record

FILE = "observed.jsonl.zst"
KIND = "parity-run"
SCHEMA = 1
_PARAMETERS = zstandard.ZstdCompressionParameters.from_level(12, window_log=25, enable_ldm=True)
"""Scenarios repeat each other's digests, megabytes apart."""

_HINT = "`parity run --record DIR` writes recordings of runs"


class Driven(Struct, frozen=True, forbid_unknown_fields=True):
    """What was driven, as its driver said. Where its files were is left out: it is about one machine."""

    name: str
    version: str
    digest: str
    language: str
    runtime: str
    contract: str
    capabilities: tuple[str, ...]
    libraries: dict[str, str]


class RunHeader(Struct, frozen=True, forbid_unknown_fields=True):
    """The first line: when what was driven, judged by which contract, and the stimulus of every planned scenario."""

    kind: Literal["parity-run"]
    schema: Literal[1]
    parity: str
    taken: str
    contract: str
    driven: Driven
    stimuli: dict[str, str]


class FailureEntry(Struct, frozen=True, forbid_unknown_fields=True):
    """What a driver did instead of answering."""

    kind: str
    message: str
    stacks: str
    stderr_tail: str


class RoundEntry(Struct, frozen=True, forbid_unknown_fields=True):
    """What was observed in one run of a scenario.

    `line` is the driver's answer as it came, but for the folders of source files; "" where none did. `steps` are the
    results of the steps where the end of the process changed them, else null. `record` is what the server saw, as
    `harness.recording.document` writes it.
    """

    line: str
    steps: list[dict[str, Any]] | None
    failure: FailureEntry | None
    record: dict[str, Any]


class ScenarioLine(Struct, frozen=True, forbid_unknown_fields=True):
    """What was observed of one scenario, run by run. `arrays` are the large arrays that golden has not, in base64."""

    scenario: str
    stimulus: str
    seconds: float
    rounds: tuple[RoundEntry, ...]
    arrays: dict[str, str]


@dataclass(frozen=True, slots=True)
class Seen:
    """One run of a scenario, to be recorded; see `RoundEntry`."""

    line: bytes
    steps: list[dict[str, Any]] | None
    failure: FailureEntry | None
    record: Record


class EndLine(Struct, frozen=True, forbid_unknown_fields=True):
    """The last line: the digest of all lines before it, and by scenario how often it was run again and the finding."""

    end: str
    reruns: dict[str, tuple[int, str]]


@dataclass(frozen=True, slots=True)
class RecordedRun:
    """A recorded run as it was read. `scenarios` are by id; a planned one may be missing: it was never run."""

    header: RunHeader
    scenarios: Mapping[str, ScenarioLine]
    reruns: Mapping[str, tuple[int, str]]
    _golden: Path

    def records(self, scenario: str) -> tuple[Record, ...]:
        """Return what the server saw, run by run.

        Raises ParityError `recording-malformed`, also where golden lost an array.
        """
        entry = self.scenarios[scenario]
        try:
            return tuple(from_document(each.record, lambda digest: self._array(entry, digest)) for each in entry.rounds)
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, msgspec.ValidationError) as error:
            raise _malformed(scenario, str(error)) from error

    def _array(self, entry: ScenarioLine, digest: str) -> bytes:
        kept = entry.arrays.get(digest)
        if kept is not None:
            content = base64.b64decode(kept, validate=True)
        elif digest.isalnum() and (path := self._golden / array_path(digest)).is_file():
            content = path.read_bytes()
        else:
            raise ValueError(f"the array {digest} was golden's, which has it no more: record again")
        if digest_of(content) != digest:
            raise ValueError(f"the array {digest} is damaged")
        return content


class RunWriter:
    """Writes a recorded run beside its place, and puts it there at the end.

    Use `begin`, `add`, then `finish` or `discard`. `pack` may be called from any thread.
    """

    def __init__(self, folder: Path, *, golden: Path) -> None:
        """Check that `folder` may hold the recording: it is empty, not there, or holds one that is to be replaced.

        Raises ParityError `recording-exists` or `recording-unwritable`.
        """
        self._folder = folder
        self._known = {name.removeprefix("arrays/").removesuffix(".bin") for name in read_index(golden)}
        self._digest = hashlib.sha256()
        self._file: zstandard.ZstdCompressionWriter | None = None
        self._scratch = folder / FILE
        self._reruns: dict[str, tuple[int, str]] = {}
        if folder.exists() and (not folder.is_dir() or not _ours(folder)):
            raise ParityError(
                "recording-exists",
                f"{folder} exists and holds something else than a recorded run",
                hint="name a folder that does not exist yet, or the one of an earlier recording",
            )

    def begin(self, header: RunHeader) -> None:
        """Write the first line."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._scratch = beside(self._folder / FILE)
            self._file = zstandard.ZstdCompressor(compression_params=_PARAMETERS).stream_writer(
                self._scratch.open("wb"), closefd=True
            )
            self._put(_packed(msgspec.to_builtins(header)))
        except OSError as error:
            self.discard()
            raise self._unwritable(error) from error

    def pack(self, *, scenario: str, stimulus: str, seconds: float, seen: Sequence[Seen]) -> bytes:
        """Return a scenario's line, ready to be added."""
        arrays: dict[str, str] = {}

        def keep(content: bytes) -> str:
            digest = digest_of(content)
            if digest not in self._known:
                arrays[digest] = base64.b64encode(content).decode()
            return digest

        rounds = [
            {
                "line": scrub_folders(each.line.decode("utf-8", "replace")),
                "steps": each.steps and json.loads(scrub_folders(json.dumps(each.steps))),
                "failure": json.loads(scrub_folders(json.dumps(msgspec.to_builtins(each.failure)))),
                "record": to_document(each.record, scrubbed=True, keep=keep),
            }
            for each in seen
        ]
        seconds = round(seconds, 3)
        return _packed(
            {"scenario": scenario, "stimulus": stimulus, "seconds": seconds, "rounds": rounds, "arrays": arrays}
        )

    def add(self, scenario: str, packed: bytes, *, reruns: int, note: str) -> None:
        """Add what `pack` made of the attempt that was reported."""
        if reruns or note:
            self._reruns[scenario] = (reruns, note)
        try:
            self._put(packed)
        except OSError as error:
            self.discard()
            raise self._unwritable(error) from error

    def finish(self) -> Path | None:
        """Put the recording in its place, in one renaming, and return it; None where nothing was begun."""
        if self._file is None:
            return None
        try:
            self._put(_packed({"end": self._digest.hexdigest(), "reruns": self._reruns}))
            self._file.close()  # type: ignore[no-untyped-call]
            self._file = None
            return self._scratch.replace(self._folder / FILE)
        except OSError as error:
            self.discard()
            raise self._unwritable(error) from error

    def discard(self) -> None:
        """Leave everything as it was before."""
        if self._file is not None:
            self._file.close()  # type: ignore[no-untyped-call]
            self._file = None
            self._scratch.unlink(missing_ok=True)

    def _put(self, packed: bytes) -> None:
        if self._file is not None:
            self._digest.update(packed)
            self._file.write(packed)

    def _unwritable(self, error: OSError) -> ParityError:
        return ParityError(
            "recording-unwritable",
            f"{self._folder} cannot be written: {error}",
            hint="name a folder that can be written to",
        )


def is_recorded_run(folder: Path) -> bool:
    """Return whether a folder, or a file, is that of a recorded run, whatever its state."""
    return (folder / FILE).is_file() or folder.name == FILE


def read_run(folder: Path, *, golden: Path) -> RecordedRun:
    """Return a recorded run; `golden` is the folder whose arrays it may name.

    Raises ParityError: `recording-missing`, `recording-foreign` (something else), `recording-newer` (of a later version
    of parity), `recording-malformed` (cut or edited).
    """
    file = folder / FILE if folder.is_dir() else folder
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ParityError("recording-missing", f"{file} cannot be read: {error.strerror}", hint=_HINT) from error
    lines = _unpacked(file, content)
    if not lines:
        raise _malformed(file, "it is empty")
    _check_kind(file, _json(file, lines[0]))
    end: EndLine | None = None
    scenarios: dict[str, ScenarioLine] = {}
    try:
        header = msgspec.json.decode(lines[0], type=RunHeader)
        for line in lines[1:]:
            if end is not None:
                raise ValueError("it goes on behind its last line")
            if line.startswith(b'{"end"'):
                end = msgspec.json.decode(line, type=EndLine)
            else:
                # Not by msgspec: numbers that JSON has no word for are spelled as Python does.
                entry = msgspec.convert(json.loads(line), ScenarioLine)
                scenarios[entry.scenario] = entry
        if end is not None and end.end != digest_of(b"".join(lines[:-1])):
            raise ValueError("its digest is another: it was edited")
    except (ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise _malformed(file, str(error)) from error
    if end is None:
        raise _malformed(file, "it was cut off: it has no last line")
    return RecordedRun(header, scenarios, end.reruns, golden)


def _packed(value: Any) -> bytes:
    return json.dumps(value, default=plain).encode() + b"\n"


def _unpacked(file: Path, content: bytes) -> list[bytes]:
    """Return the lines of a file."""
    if not content.startswith(zstandard.FRAME_HEADER):
        raise ParityError("recording-foreign", f"{file} is no recorded run", hint=_HINT)
    reader = zstandard.ZstdDecompressor().decompressobj(read_across_frames=False)
    try:
        text = reader.decompress(content)
    except zstandard.ZstdError as error:
        raise _malformed(file, str(error)) from error
    if not reader.eof or reader.unused_data:
        raise _malformed(file, "it was cut off" if not reader.eof else "it goes on behind its end")
    return text.splitlines(keepends=True)


def _json(file: Path, line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise _malformed(file, f"its first line is not JSON: {error}") from error


def _check_kind(file: Path, first: Any) -> None:
    if not isinstance(first, dict) or first.get("kind") != KIND:
        raise ParityError("recording-foreign", f"{file} is no recorded run: its kind is not {KIND!r}", hint=_HINT)
    schema = first.get("schema")
    if isinstance(schema, int) and schema > SCHEMA:
        raise ParityError(
            "recording-newer",
            f"{file} has schema {schema}, this version of parity reads {SCHEMA}",
            hint="read it with the version of parity that wrote it, or a later one",
        )


def _ours(folder: Path) -> bool:
    """Return whether nothing is in a folder but a recorded run, or what a killed process left of one."""
    return all(path.name == FILE or path.name.startswith(f".{FILE}.") for path in folder.iterdir())


def _malformed(what: Path | str, why: str) -> ParityError:
    return ParityError("recording-malformed", f"{what}: {why}", hint=_HINT)
