"""The cache of the harness: directories that are built once, aside, and appear whole.

A directory is built next to its place and renamed into it, under a lock of its name. Whoever is killed while building
leaves only the building site, or what was there before, which the next process that asks for that name clears away.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from harness.errors import ParityError


def cache_directory(environment: Mapping[str, str] = os.environ) -> Path:
    """Return where cached things live: `PARITY_CACHE_DIR`, else `parity` in the user's cache directory."""
    chosen = environment.get("PARITY_CACHE_DIR")
    if chosen:
        return Path(chosen).expanduser().absolute()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "parity"
    base = environment.get("XDG_CACHE_HOME", "")
    # The XDG specification says to ignore a relative path.
    return (Path(base) if base.startswith("/") else Path.home() / ".cache") / "parity"


def cached(place: Path, *, valid: Callable[[Path], bool], build: Callable[[Path], None]) -> Path:
    """Return `place`, built by `build` unless it is there and `valid`.

    `build` fills a directory that becomes `place` when it returns; when it raises, nothing is left. An invalid `place`
    is removed. Of several processes only one builds, the others wait for it. Raises ParityError `cache-unwritable`
    when the cache cannot be written, and whatever `build` raises.
    """
    if valid(place):
        if any(_leftovers(place)):
            with suppress(OSError), _locked(place):
                _clear(place)
        return place
    with _writable(place), _locked(place):
        if valid(place):
            return place
        _clear(place)
        site = place.with_name(f".{place.name}.{os.getpid()}")
        site.mkdir()
        try:
            build(site)
            if place.exists():
                place.rename(place.with_name(f".{place.name}.old"))
            site.rename(place)
        finally:
            _clear(place)
    return place


def _leftovers(place: Path) -> Iterator[Path]:
    return place.parent.glob(f".{place.name}.*")


def _clear(place: Path) -> None:
    for leftover in _leftovers(place):
        shutil.rmtree(leftover, ignore_errors=True)


@contextmanager
def _writable(place: Path) -> Iterator[None]:
    try:
        (place.parent / "locks").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ParityError(
            "cache-unwritable",
            f"the cache cannot be written: {error}",
            hint="Set PARITY_CACHE_DIR to a directory that can.",
        ) from error
    yield


@contextmanager
def _locked(place: Path) -> Iterator[None]:
    # The lock belongs to the open file: it ends with the process, however that ends.
    with (place.parent / "locks" / place.name).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
