"""The golden store: traces of the reference, stored once per point of the timeline where they differ.

`<release>/<scenario id>.json` holds a trace as it is from that release on; a load walks the described releases from
the wanted one back to the first that is stored. Large arrays are shared, `arrays/<sha256>.bin`. `index.json` has the
SHA-256 of every file.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from harness.errors import ParityError
from harness.golden.blend import blend, differences
from harness.golden.canonical import canonical
from harness.golden.document import from_document, to_document
from harness.golden.index import (
    ARRAYS,
    INDEX,
    array_path,
    corrupt,
    files_digest,
    index_text,
    read_checked,
    read_index,
)
from harness.golden.placing import replace_all
from harness.golden.text import digest_of, parse, render
from harness.trace.model import Trace

_HINT = "parity golden emit computes and stores the golden traces"
_CERTIFIED = "certified"
Key = tuple[str, str]
"""A scenario id and a release."""


@dataclass(frozen=True, slots=True)
class Emitted:
    """What an emit did: paths below the golden folder, in order."""

    written: tuple[str, ...]
    removed: tuple[str, ...]
    unchanged: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Stale:
    """A golden trace that is not what the reference computes now."""

    scenario: str
    release: str
    differences: tuple[str, ...]


class _Head(msgspec.Struct):
    """What is looked at before a trace is read as a whole."""

    stimulus: str


_FILE = re.compile(rb'"file": "([0-9a-f]{64})"')


class StoredTrace:
    """A golden trace whose files were found whole; read at the first call, which any thread may make.

    A call raises ParityError `golden-corrupt` where the content is not that of a trace, or has changed since.
    """

    def __init__(self, read: Callable[[], Trace]) -> None:
        self._read: Callable[[], Trace] | None = read
        self._trace: Trace | None = None
        self._lock = threading.Lock()

    def __call__(self) -> Trace:
        """Return the trace."""
        with self._lock:
            if self._trace is None:
                assert self._read is not None
                self._trace, self._read = self._read(), None
            return self._trace


class GoldenStore:
    """The golden traces below a folder. Reads the index once; a store is meant for one command."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._index: dict[str, str] | None = None
        self._whole: set[str] = set()

    @property
    def files(self) -> Mapping[str, str]:
        """The SHA-256 of every golden file, by its path."""
        if self._index is None:
            self._index = read_index(self.root)
        return self._index

    def scenarios(self) -> tuple[str, ...]:
        """Return the ids of all stored scenarios."""
        return tuple(sorted({scenario for _, scenario in map(_split, self.files) if scenario}))

    def resolve(self, scenario_id: str, release: str, described: Sequence[str]) -> str | None:
        """Return the path of the trace that holds at `release`, or None.

        `described` are the described releases, oldest first; `release` is one of them.
        """
        for point in reversed(described[: described.index(release) + 1]):
            name = _name(scenario_id, point)
            if name in self.files:
                return name
        return None

    def load(self, scenario_id: str, release: str, described: Sequence[str], *, stimulus: str | None = None) -> Trace:
        """Return the golden trace of a scenario at a release. Raises ParityError as `find` does."""
        return self.find(scenario_id, release, described, stimulus=stimulus)()

    def find(
        self, scenario_id: str, release: str, described: Sequence[str], *, stimulus: str | None = None
    ) -> StoredTrace:
        """Return the golden trace of a scenario at a release, all its files checked, to be read when it is needed.

        `stimulus` is the digest the scenario has now. Raises ParityError: `golden-missing` where none is stored,
        `golden-corrupt` where a file is missing, truncated or edited, `golden-stale` where the stimulus is another.
        """
        name = self.resolve(scenario_id, release, described)
        if name is None:
            raise ParityError(
                "golden-missing", f"there is no golden trace of {scenario_id} at {release} or before", hint=_HINT
            )
        content = read_checked(self.root, name, self.files[name])
        try:
            head = msgspec.json.decode(content, type=_Head)
        except msgspec.MsgspecError as error:
            corrupt(name, f"is not a golden trace: {error!r}")
        if stimulus is not None and head.stimulus != stimulus:
            raise ParityError(
                "golden-stale",
                f"the golden trace of {scenario_id} ({name}) is of another stimulus: the scenario has changed",
                hint=_HINT,
            )
        for digest in map(bytes.decode, _FILE.findall(content)):
            if digest not in self._whole:
                read_checked(self.root, array_path(digest), digest)
                self._whole.add(digest)
        return StoredTrace(lambda: self._trace(name, content, contract=f"tinker-{release}"))

    def emit(self, traces: Mapping[Key, Trace], described: Sequence[str], *, complete: bool = False) -> Emitted:
        """Store traces, each by (scenario id, release), for all described releases of each scenario named.

        A trace that agrees with that of the release before is not stored again; numbers of the stored trace that are
        within tolerance stay. `complete`: scenarios that are not named are removed. All files are replaced or none,
        also when the process is killed. Raises ValueError where a scenario does not
        come with every described release: a later release would inherit the wrong trace; ParityError `golden-corrupt`
        where what stays is damaged. A complete emit repairs any damage.
        """
        if complete and self._index is None:
            self._index = _readable_index(self.root)
        scenarios = sorted({scenario for scenario, _ in traces})
        arrays: dict[str, bytes] = {}
        texts: dict[str, str] = {}
        for scenario in scenarios:
            texts.update(self._points(scenario, traces, described, _collector(arrays)))
        kept = {
            name: digest
            for name, digest in self.files.items()
            if (point := _split(name))[1] and not complete and point[1] not in scenarios
        }
        new = {name: text.encode() for name, text in texts.items()}
        for name in kept:
            for digest in _references(read_checked(self.root, name, self.files[name]).decode()):
                arrays.setdefault(digest, b"")
        # An array of a trace that stays is on disk already; its content is not needed.
        contents = {array_path(digest): content for digest, content in arrays.items() if content}
        files = kept | {name: digest_of(content) for name, content in new.items()}
        files |= {array_path(digest): digest for digest in arrays}
        return self._replace(contents | new, files)

    def verify(self, traces: Mapping[Key, Trace], described: Sequence[str]) -> list[Stale]:
        """Return where stored traces are not what was computed now, beyond tolerance. Files are checked as in load."""
        stale = []
        in_order = sorted(traces.items(), key=lambda item: (item[0][0], described.index(item[0][1])))
        for (scenario, release), trace in in_order:
            name = self.resolve(scenario, release, described)
            if name is None:
                stale.append(Stale(scenario, release, ("no golden trace is stored",)))
                continue
            stored = self._document(name)
            found = differences(stored, blend(stored, _normal(trace)))
            if found:
                stale.append(Stale(scenario, release, tuple(found)))
        return stale

    def check_files(self) -> list[str]:
        """Return what is wrong with the files, one sentence each: missing, edited, or not in the index."""
        wrong = []
        for name, digest in sorted(self.files.items()):
            try:
                read_checked(self.root, name, digest)
            except ParityError as error:
                wrong.append(error.message)
        wrong.extend(f"golden file {name} is not in the index" for name in self._on_disk() - self.files.keys())
        return sorted(wrong)

    def digest(self, release: str, described: Sequence[str]) -> str:
        """Return one SHA-256 over the traces that hold at a release, whatever was stored for later ones."""
        names = {scenario: self.resolve(scenario, release, described) for scenario in self.scenarios()}
        return files_digest({scenario: self.files[name] for scenario, name in names.items() if name is not None})

    def _points(
        self, scenario: str, traces: Mapping[Key, Trace], described: Sequence[str], keep: Callable[[bytes], str]
    ) -> dict[str, str]:
        """Return the files of a scenario by name: one per release that differs from the one before."""
        missing = [release for release in described if (scenario, release) not in traces]
        if missing:
            raise ValueError(f"{scenario} comes without a trace at {', '.join(missing)}")
        texts: dict[str, str] = {}
        before: Any = None
        for release in described:
            document = _normal(traces[scenario, release])
            if before is not None and not differences(before, blend(before, document)):
                continue
            name = _name(scenario, release)
            stored = self._readable(name)
            before = document if stored is None else blend(stored, document)
            texts[name] = render(before, keep)
        return texts

    def _readable(self, name: str) -> Any:
        """Return the stored document, or None where there is none that can be trusted: then all is written anew."""
        try:
            return self._document(name) if name in self.files else None
        except ParityError:
            return None

    def _trace(self, name: str, content: bytes, *, contract: str) -> Trace:
        document = self._parsed(name, content)
        try:
            return from_document(document, contract=contract)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            corrupt(name, f"is not a golden trace: {error!r}")

    def _document(self, name: str) -> Any:
        return self._parsed(name, read_checked(self.root, name, self.files[name]))

    def _parsed(self, name: str, content: bytes) -> Any:
        def fetch(digest: str) -> bytes:
            return read_checked(self.root, array_path(digest), digest)

        try:
            return parse(content.decode(), fetch)
        except (KeyError, TypeError, ValueError) as error:
            corrupt(name, f"cannot be read: {error!r}")

    def _replace(self, contents: Mapping[str, bytes], files: Mapping[str, str]) -> Emitted:
        """Put files in place, all or none."""
        changed = {name: content for name, content in contents.items() if not self._has(name, content)}
        index = index_text(files).encode()
        if not self._has(INDEX, index):
            changed[INDEX] = index
        # Arrays, then traces that refer to them, then the index that vouches for both.
        ordered = sorted(changed, key=lambda name: (name == INDEX, not name.startswith(ARRAYS), name))
        removed = sorted(self._on_disk() - files.keys())
        if ordered or removed:
            replace_all(self.root, {name: changed[name] for name in ordered}, removed)
        self._index = None
        unchanged = sorted(name for name in contents if name not in changed)
        return Emitted(tuple(ordered), tuple(removed), tuple(unchanged))

    def _has(self, name: str, content: bytes) -> bool:
        path = self.root / name
        return path.is_file() and path.read_bytes() == content

    def _on_disk(self) -> set[str]:
        """Return the golden files that are there: traces below releases, and arrays. Certificates are not ours."""
        found = set()
        for path in self.root.glob("*/**/*"):
            name = path.relative_to(self.root).as_posix()
            if path.is_file() and not name.startswith((f"{_CERTIFIED}/", ".")) and path.suffix in (".json", ".bin"):
                found.add(name)
        return found


def golden_digest(root: Path) -> str:
    """Return one SHA-256 over the whole golden set. Raises ParityError `golden-corrupt` where a file is not intact."""
    files = read_index(root)
    for name, digest in files.items():
        read_checked(root, name, digest)
    return files_digest(files)


def _readable_index(root: Path) -> dict[str, str]:
    """Return the index, or nothing where it is damaged."""
    try:
        return read_index(root)
    except ParityError:
        return {}


def _normal(trace: Trace) -> Any:
    """Return the document of a trace as it would be read from a file."""
    arrays: dict[str, bytes] = {}
    return parse(render(to_document(canonical(trace)), _collector(arrays)), arrays.__getitem__)


def _collector(arrays: dict[str, bytes]) -> Callable[[bytes], str]:
    def keep(content: bytes) -> str:
        digest = digest_of(content)
        arrays[digest] = content
        return digest

    return keep


def _references(text: str) -> set[str]:
    """Return the arrays a golden file refers to."""
    found: set[str] = set()

    def walk(value: Any) -> None:
        if isinstance(value, dict):
            if isinstance(value.get("file"), str) and "dtype" in value:
                found.add(value["file"])
            for entry in value.values():
                walk(entry)
        elif isinstance(value, list):
            for entry in value:
                walk(entry)

    walk(json.loads(text))
    return found


def _name(scenario_id: str, release: str) -> str:
    return f"{release}/{scenario_id}.json"


def _split(name: str) -> tuple[str, str]:
    """Return (release, scenario id) of a trace's path; the scenario is "" for an array."""
    release, _, rest = name.partition("/")
    return (release, rest.removesuffix(".json")) if release != ARRAYS else (release, "")
