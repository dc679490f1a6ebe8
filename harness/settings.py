"""`parity.toml`: what a project always wants to say to `parity`, written down once."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from harness.errors import ParityError

NAME = "parity.toml"
_JOBS = range(1, 65)


@dataclass(frozen=True, slots=True)
class ProjectSettings:
    """What a parity.toml says.

    `fixtures` is the folder of the user's own scenarios; a relative one is meant from the file's folder. `run` are
    defaults for options of `parity run`: `sdk`, `jobs`.
    """

    fixtures: Path | None = None
    run: dict[str, Any] = field(default_factory=dict)


def find_settings(start: Path) -> Path | None:
    """Return the nearest parity.toml in `start` or a folder above it, or None."""
    here = start.resolve()
    return next((path for folder in (here, *here.parents) if (path := folder / NAME).is_file()), None)


def read_settings(start: Path) -> ProjectSettings:
    """Return what the nearest parity.toml says; nothing where there is none.

    Raises ParityError `settings-malformed` where it is not TOML, has a key that does not exist or a value that is none.
    """
    path = find_settings(start)
    if path is None:
        return ProjectSettings()
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        _malformed(path, f"cannot be read: {error}")
    if unknown := sorted(content.keys() - {"fixtures", "sdk", "jobs"}):
        _malformed(path, f"{unknown[0]!r} is no setting")
    run: dict[str, Any] = {}
    fixtures, sdk, jobs = (content.get(name) for name in ("fixtures", "sdk", "jobs"))
    if fixtures is not None and not (isinstance(fixtures, str) and fixtures):
        _malformed(path, "fixtures is not the name of a folder")
    if sdk is not None:
        if not (isinstance(sdk, str) and sdk):
            _malformed(path, "sdk is not a name such as 'tinker==0.38.0'")
        run["sdk"] = sdk
    if jobs is not None:
        if isinstance(jobs, bool) or not isinstance(jobs, int) or jobs not in _JOBS:
            _malformed(path, f"jobs is not a whole number from {_JOBS.start} to {_JOBS.stop - 1}")
        run["jobs"] = jobs
    return ProjectSettings(None if fixtures is None else path.parent / fixtures, run)


def _malformed(path: Path, why: str) -> NoReturn:
    raise ParityError(
        "settings-malformed",
        f"{path}: {why}",
        hint='it may hold fixtures = "FOLDER", sdk = "NAME==VERSION" and jobs = NUMBER; see docs/own-scenarios.md',
    )
