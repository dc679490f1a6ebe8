"""Many files put in place at once: all of them or none, whenever the process is killed.

Everything is written to a folder of its own first. A list of what is to be done, renamed into that folder, is the point
of no return: from then on whoever comes next, reader or writer, finishes what was begun.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

STAGE = ".next"
_LIST = "list.json"


def replace_all(root: Path, written: Mapping[str, bytes], removed: Sequence[str]) -> None:
    """Write the files of `written` and remove those of `removed`, by their paths below `root`: all, or nothing.

    Another process that does the same is waited for. OSError where something cannot be written; then nothing was done.
    """
    root.mkdir(parents=True, exist_ok=True)
    with _locked(root):
        _finish(root)
        stage = root / STAGE
        shutil.rmtree(stage, ignore_errors=True)
        try:
            for name, content in written.items():
                path = stage / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            stage.mkdir(exist_ok=True)
            scratch = stage / f"{_LIST}.part"
            scratch.write_text(json.dumps({"written": list(written), "removed": list(removed)}), encoding="utf-8")
            scratch.replace(stage / _LIST)
        except BaseException:
            shutil.rmtree(stage, ignore_errors=True)
            raise
        _finish(root)


def finish(root: Path) -> None:
    """Finish what a killed process has begun, and clear away what it left, if there is anything.

    OSError where what has to be done cannot be.
    """
    stage = root / STAGE
    if not stage.exists():
        return
    if (stage / _LIST).exists():
        with _locked(root):
            _finish(root)
    with suppress(BlockingIOError), _locked(root, wait=False):  # else somebody is writing there
        shutil.rmtree(stage, ignore_errors=True)


def _finish(root: Path) -> None:
    stage = root / STAGE
    try:
        todo = json.loads((stage / _LIST).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return
    for name in todo["written"]:
        path, staged = root / name, stage / name
        if staged.exists():  # else it is in its place already
            path.parent.mkdir(parents=True, exist_ok=True)
            staged.replace(path)
    for name in todo["removed"]:
        path = root / name
        path.unlink(missing_ok=True)
        _prune(root, path.parent)
    # Without the list what is left of the folder means nothing.
    (stage / _LIST).unlink()
    shutil.rmtree(stage, ignore_errors=True)


def _prune(root: Path, folder: Path) -> None:
    """Remove folders that hold nothing any more."""
    while folder != root and folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent


@contextmanager
def _locked(root: Path, *, wait: bool = True) -> Iterator[None]:
    # The lock belongs to the open folder: it ends with the process, however that ends.
    lock = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(lock)
