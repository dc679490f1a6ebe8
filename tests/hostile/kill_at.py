"""Kill a writer at every moment, or at some: before each of its accesses to the file system.

Run as `python kill_at.py WRITER FOLDER MOMENTS SEED`. Each attempt is a process of its own, forked from this one, which
is killed with SIGKILL before its n-th access (Python's audit events: opening, making, renaming, removing) and is
followed by what the next process finds. Writes one line of JSON: the number of accesses, the moments, what was found
after each, and what is left in the end.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from harness.atomic import write_whole
from harness.drivers.cache import cached
from harness.errors import ParityError
from harness.golden.store import GoldenStore
from harness.recording.journal import JOURNAL, Journal
from harness.recording.raw import RawExchange
from harness.recording.store import finish_recording, read_recording, write_recording
from harness.trace.model import Trace
from mock_server.record import Exchange, Record, Violation

ACCESSES = frozenset({"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir"})
DESCRIBED = ("0.7.0", "0.8.0")


@dataclass(frozen=True)
class Writer:
    """What writes, and what reads afterwards: `old` prepares a folder, `read` tells `old`, `new`, or what is wrong."""

    old: Callable[[Path], object]
    new: Callable[[Path], object]
    read: Callable[[Path], str]


# --- golden traces ------------------------------------------------------------------------------------------------


def _trace(scenario: str, release: str, text: str) -> Trace:
    empty = Trace(scenario, f"digest of {text}", f"tinker-{release}", (), (), (), ())
    return replace(empty, violations=(Violation("unknown-path", text, 0),))


def _traces(text: str, *scenarios: str) -> dict[tuple[str, str], Trace]:
    return {(s, r): _trace(s, r, f"{text} {r}") for s in scenarios for r in DESCRIBED}


OLD = _traces("old", "a/one", "a/two", "b/three")
NEW = _traces("new", "a/one", "c/four", "c/five")


def _golden(root: Path, traces: dict[tuple[str, str], Trace]) -> None:
    GoldenStore(root / "golden").emit(traces, DESCRIBED, complete=True)


def _read_golden(root: Path) -> str:
    store = GoldenStore(root / "golden")
    wrong = store.check_files()
    if wrong:
        return "; ".join(wrong)
    for name, traces in (("old", OLD), ("new", NEW)):
        if set(store.scenarios()) == {scenario for scenario, _ in traces}:
            stale = store.verify(traces, DESCRIBED)
            return f"{name}, but {stale}" if stale else name
    return f"neither: {store.scenarios()}"


# --- a cached directory -------------------------------------------------------------------------------------------


def _cached(root: Path, text: str) -> None:
    def build(site: Path) -> None:
        (site / "lib").mkdir()
        for n in range(5):
            (site / "lib" / str(n)).write_text(text)
        (site / "stamp").write_text(text)

    cached(root / "cache" / "environment", valid=lambda place: _stamp(place) == text, build=build)


def _stamp(place: Path) -> str:
    stamp = place / "stamp"
    return stamp.read_text() if stamp.exists() else ""


def _read_cached(root: Path) -> str:
    place = root / "cache" / "environment"
    if not place.exists():
        return "old"  # an environment that is no longer valid may be gone: the next run builds it
    texts = {file.read_text() for file in place.rglob("*") if file.is_file()}
    return texts.pop() if len(texts) == 1 and len(list(place.rglob("*"))) == 7 else f"mixed: {sorted(texts)}"


# --- a recording, and a single file (ledger, certificate, report) ---------------------------------------------------


def _record() -> Record:
    path = "/api/v1/create_session"
    exchange = Exchange(
        0, 1.0, 2.0, "c1", "POST", path, "create_session", {}, "json", False, 2, {}, None, (), 200, {}
    )  # fmt: skip
    return Record((exchange,))


def _read_recorded(root: Path) -> str:
    try:
        taken = read_recording(root / "recording")
    except ParityError as error:
        return "old" if error.code == "recording-missing" else str(error)
    return "new" if len(taken.record.exchanges) == 1 else "cut"


def _begun(root: Path) -> None:
    _remove(root / "recording")
    journal = Journal(root / "recording")
    journal.append(
        RawExchange(1.0, 2.0, "c1", "POST", "/api/v1/create_session", {}, b"{}", 200, "application/json", b"{}")
    )
    journal.close()


def _read_finished(root: Path) -> str:
    taken = read_recording(root / "recording")
    if len(taken.record.exchanges) != 1:
        return "cut"
    return "old" if "not finished" in taken.note else "new"


def _finish_recorded(root: Path) -> None:
    if (root / "recording" / JOURNAL).exists():
        finish_recording(root / "recording")


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


WRITERS = {
    "golden": Writer(lambda root: _golden(root, OLD), lambda root: _golden(root, NEW), _read_golden),
    "cache": Writer(lambda root: _cached(root, "old"), lambda root: _cached(root, "new"), _read_cached),
    "recording": Writer(
        lambda root: _remove(root / "recording"),
        lambda root: None if (root / "recording").exists() else write_recording(root / "recording", _record()),
        _read_recorded,
    ),
    "journal": Writer(_begun, _finish_recorded, _read_finished),
    "file": Writer(
        lambda root: write_whole(root / "ledger.toml", b"old"),
        lambda root: write_whole(root / "ledger.toml", b"new"),
        lambda root: (root / "ledger.toml").read_text(),
    ),
}


def count_accesses(write: Callable[[], object], *, kill_at: int = -1) -> int:
    """Run `write` in a child and return how often it accessed the file system, or -1 when it was killed."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        seen = 0

        def note(event: str, _arguments: tuple[object, ...]) -> None:
            nonlocal seen
            if event in ACCESSES:
                if seen == kill_at:
                    os.kill(os.getpid(), signal.SIGKILL)
                seen += 1

        sys.addaudithook(note)
        write()
        os.write(writing, str(seen).encode())
        os._exit(0)
    os.close(writing)
    told = b"".join(iter(lambda: os.read(reading, 100), b""))
    os.close(reading)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return -1
    return int(told or -2)


def main() -> None:
    """Kill, look, write again, look again, at each moment."""
    writer, root = WRITERS[sys.argv[1]], Path(sys.argv[2])
    writer.old(root)
    total = count_accesses(lambda: writer.new(root))
    clean = _names(root)
    moments = sorted(random.Random(int(sys.argv[4])).sample(range(total), min(int(sys.argv[3]), total)))
    found: list[list[str]] = []
    for moment in moments:
        if writer.read(root) != "old":
            writer.old(root)
        killed = count_accesses(lambda: writer.new(root), kill_at=moment)
        seen = [writer.read(root)]
        writer.new(root)
        seen.append(writer.read(root))
        left = sorted(_names(root) - clean)
        found.append(["killed" if killed == -1 else "ended", *seen, *left])
    json.dump({"total": total, "moments": moments, "found": found}, sys.stdout)


def _names(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*")}


if __name__ == "__main__":
    main()
