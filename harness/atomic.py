"""Files that are there whole or not at all, whenever their writer is killed.

What is written stands beside its place under the writer's process id, and is renamed into it. What a killed writer left
beside a place is cleared away by the next writer of the same place.
"""

from __future__ import annotations

import glob
import os
import shutil
from pathlib import Path

_SUFFIX = ".part"


def beside(path: Path) -> Path:
    """Return where this process writes what becomes `path`: a hidden name in the same folder, which is not there yet.

    Clears away what dead processes have left for the same path. OSError where that cannot be done.
    """
    mine = path.with_name(f".{path.name}.{os.getpid()}{_SUFFIX}")
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.*{_SUFFIX}"):
        writer = leftover.name.removesuffix(_SUFFIX).rpartition(".")[2]
        if leftover == mine or (writer.isdecimal() and not _runs(int(writer))):
            if leftover.is_dir() and not leftover.is_symlink():
                shutil.rmtree(leftover)
            else:
                leftover.unlink(missing_ok=True)
    return mine


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees the old content or all of the new. OSError where it cannot be written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = beside(path)
    try:
        scratch.write_bytes(content)
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
