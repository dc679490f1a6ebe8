"""Files that a command was asked to write: refused before the work where they cannot be, and an error after it."""

from __future__ import annotations

from pathlib import Path

from harness.errors import ParityError


def refuse_unwritable(option: str, path: Path) -> None:
    """Make the folder of a file, and a file in it for a moment. Raises ParityError `report-unwritable`."""
    from harness.atomic import beside

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = beside(path)
        scratch.touch()
        scratch.unlink()
    except OSError as error:
        raise _unwritable(f"{option} {path}", error) from error


def write_output(path: Path, content: bytes) -> None:
    """Write a file, whole or not at all. Raises ParityError `report-unwritable`."""
    from harness.atomic import write_whole

    try:
        write_whole(path, content)
    except OSError as error:
        raise _unwritable(str(path), error) from error


def _unwritable(what: str, error: OSError) -> ParityError:
    return ParityError(
        "report-unwritable",
        f"{what} cannot be written: {error.strerror or error}",
        hint="name a file in a folder that exists or can be made, and that may be written to",
    )
