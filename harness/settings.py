"""`parity.toml`: what a project always wants to say to `parity`, written down once."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from harness.errors import ParityError

NAME = "parity.toml"
_JOBS = range(1, 65)


@dataclass(frozen=True, slots=True)
class DriverSettings:
    """A driver of the project's own: its command line, the folder it is meant from, what its environment adds."""

    command: str
    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ProjectSettings:
    """What a parity.toml says.

    `fixtures` is the folder of the user's own scenarios; a relative one is meant from the file's folder. `driver` is
    the project's own driver. `run` are defaults for options of `parity run` and `parity gate`: `sdk`, `jobs`, `ledger`,
    `revision` (`suite` in the file); `check` for those of `parity check`: `ledger`.
    """

    fixtures: Path | None = None
    driver: DriverSettings | None = None
    run: dict[str, Any] = field(default_factory=dict)
    check: dict[str, Any] = field(default_factory=dict)


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
    if unknown := sorted(content.keys() - {"fixtures", "ledger", "sdk", "jobs", "suite", "driver"}):
        _malformed(path, f"{unknown[0]!r} is no setting")
    run: dict[str, Any] = {}
    check: dict[str, Any] = {}
    fixtures, ledger, sdk, jobs = (content.get(name) for name in ("fixtures", "ledger", "sdk", "jobs"))
    if fixtures is not None and not (isinstance(fixtures, str) and fixtures):
        _malformed(path, "fixtures is not the name of a folder")
    if ledger is not None:
        if not (isinstance(ledger, str) and ledger):
            _malformed(path, "ledger is not the name of a file")
        run["ledger"] = check["ledger"] = str(path.parent / ledger)
    if sdk is not None:
        if not (isinstance(sdk, str) and sdk):
            _malformed(path, "sdk is not a name such as 'tinker==0.38.0'")
        run["sdk"] = sdk
    if jobs is not None:
        if isinstance(jobs, bool) or not isinstance(jobs, int) or jobs not in _JOBS:
            _malformed(path, f"jobs is not a whole number from {_JOBS.start} to {_JOBS.stop - 1}")
        run["jobs"] = jobs
    suite = content.get("suite")
    if suite is not None:
        if isinstance(suite, bool) or not isinstance(suite, int) or suite < 1:
            _malformed(path, "suite is not the number of a revision")
        run["revision"] = suite
    driver = _driver(path, content["driver"]) if "driver" in content else None
    return ProjectSettings(None if fixtures is None else path.parent / fixtures, driver, run, check)


def _driver(path: Path, table: object) -> DriverSettings:
    if not isinstance(table, dict) or not isinstance(table.get("command"), str) or not table["command"].strip():
        _malformed(path, "[driver] needs a command, such as command = 'node driver.mjs'")
    if unknown := sorted(table.keys() - {"command", "environment"}):
        _malformed(path, f"{unknown[0]!r} is no setting of [driver]")
    environment = table.get("environment", {})
    if not isinstance(environment, dict) or not all(isinstance(value, str) for value in environment.values()):
        _malformed(path, "driver.environment is not a table of texts")
    return DriverSettings(table["command"], path.parent, environment)


def _malformed(path: Path, why: str) -> NoReturn:
    raise ParityError(
        "settings-malformed",
        f"{path}: {why}",
        hint='it may hold fixtures = "FOLDER", ledger = "FILE", sdk = "NAME==VERSION", jobs = NUMBER, suite = NUMBER '
        'and a table [driver] with command = "COMMAND"; see docs/own-scenarios.md',
    )
