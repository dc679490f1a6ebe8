"""The scratch folder of a driver process: its HOME, its TMPDIR and the data of its runs.

The folder stays locked while its harness lives, and the lock ends with the harness, however that ends. What a killed
harness left, folder and processes, is cleared away by the next one on the same machine.
"""

from __future__ import annotations

import fcntl
import os
import select
import shutil
import signal
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path

PREFIX = "parity-run-"
_ROUNDS = 5
"""A process that starts others while it is looked for is looked for so many times."""

_LAST_SECONDS = 3.0


class Scratch:
    """A locked folder below TMPDIR. Use `Scratch.make`, and `remove` when its processes may be ended."""

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self._lock = lock

    @classmethod
    def make(cls) -> Scratch:
        """Make a folder and lock it; first clear away what killed harnesses have left. OSError when it cannot be."""
        parent = Path(tempfile.gettempdir())
        _clear_once(parent)
        while True:
            path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
            with suppress(FileNotFoundError):
                lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
                fcntl.flock(lock, fcntl.LOCK_EX)
                # Between making and locking, another harness may have taken it for a leftover.
                if path.exists():
                    return cls(path, lock)
                os.close(lock)

    def end_strays(self) -> None:
        """Kill what the driver started and lost sight of, and wait until it is gone."""
        end_strays(self.path)

    def remove(self) -> None:
        """Remove the folder and its lock. Safe to call again."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


@cache
def _clear_once(parent: Path) -> None:
    clear_leftovers(parent)


def clear_leftovers(parent: Path) -> None:
    """Remove the scratch folders below `parent` whose harness is dead, and end the processes that still use them."""
    for path in parent.glob(f"{PREFIX}*"):
        try:
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:  # another user's, or gone meanwhile
            continue
        try:
            if os.fstat(lock).st_uid == os.getuid():
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                end_strays(path)
                shutil.rmtree(path, ignore_errors=True)
        except BlockingIOError:  # its harness lives
            continue
        finally:
            os.close(lock)


def end_strays(folder: Path) -> None:
    """Kill every process whose environment or working directory names something in `folder`; wait until it is gone.

    Finds a process that has left the driver's group and session. Does nothing where there is no /proc.
    """
    for _ in range(_ROUNDS):
        found = strays(folder)
        if not found:
            return
        for pid in found:
            _end(pid, folder)


def strays(folder: Path) -> list[int]:
    """Return the processes whose environment or working directory names something in `folder`; none without /proc."""
    return [pid for entry in Path("/proc").glob("[0-9]*") if _uses(pid := int(entry.name), folder)]


def _uses(pid: int, folder: Path) -> bool:
    name = os.fsencode(folder) + b"/"
    try:
        if pid == os.getpid():
            return False
        return name in Path(f"/proc/{pid}/environ").read_bytes() or os.fsencode(
            Path(f"/proc/{pid}/cwd").readlink()
        ).startswith(name)
    except OSError:  # it ended meanwhile, or is somebody else's
        return False


def _end(pid: int, folder: Path) -> None:
    with suppress(OSError):
        process = os.pidfd_open(pid)
        try:
            if _uses(pid, folder):  # the number may be another process's by now; from here on it cannot be
                signal.pidfd_send_signal(process, signal.SIGKILL)
                ended = select.poll()
                ended.register(process, select.POLLIN)
                ended.poll(_LAST_SECONDS * 1000)
        finally:
            os.close(process)
