"""A driver that parity does not know: the command line that starts it, and what its environment is.

Unlike a known driver it runs in the folder where its command line was written, and finds programs as its user does:
`mix run`, `go run .` and version managers need both. Everything else is as for any driver (`spec.base_environment`).
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

from packaging.version import InvalidVersion, Version

from harness.drivers.answers import shortened
from harness.drivers.protocol import HelloAnswer
from harness.drivers.spec import DriverSpec, base_environment
from harness.errors import ParityError

ANY = ""
"""The name and version of a `DriverSpec` whose driver is believed what it says it drives."""

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")


@dataclass(frozen=True, slots=True)
class DriverCommand:
    """How somebody's own driver is started.

    `text` is the command line as it was written, without a shell's expansions; `folder` is where it was written, and
    where the driver runs; `environment` is what it is told besides the environment of every driver. `typed`: it was
    given on the command line, and not by parity.toml.
    """

    text: str
    folder: Path
    environment: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    typed: bool = True


def spec_of(command: DriverCommand) -> DriverSpec:
    """Return how `command` is started; what it drives is open until it has said so (`named`).

    Raises ParityError `driver-malformed` (no command line), `driver-missing` (no such program).
    """
    try:
        words = shlex.split(command.text)
    except ValueError as error:
        raise _malformed(command.text, str(error)) from error
    if not words:
        raise _malformed(command.text, "it is empty")
    path = os.environ.get("PATH", os.defpath)
    near = command.folder / words[0]
    program = str(near) if os.sep in words[0] else words[0]
    found = shutil.which(program, path=path)
    if found is None:
        raise ParityError(
            "driver-missing",
            f"there is no program {words[0]!r} that could be started",
            hint="The first word is a program on your PATH, or a path from "
            f"{command.folder}; it must be executable. Interpreters come first: 'node driver.mjs'.",
        )
    return DriverSpec(
        argv=(str(Path(found).absolute()), *words[1:]),
        name=ANY,
        version=ANY,
        env=base_environment() | {"PATH": path} | dict(command.environment),
        cwd=command.folder,
    )


def named(spec: DriverSpec, hello: HelloAnswer, *, asked: str | None) -> DriverSpec:
    """Return `spec` with the name, version and contract that its driver has said.

    `asked` is what the user says is driven: a name, or a name and a version (`my-sdk==1.2.0`).

    Raises ParityError `driver-unnamed` when the driver names nothing that reports and ledgers could go by,
    `sdk-mismatch` when it is something else than was asked for.
    """
    name, version = hello.sdk.name, hello.sdk.version
    if not NAME.fullmatch(name):
        raise _unnamed(f"the driver calls its SDK {shortened(name)!r}")
    try:
        Version(version)
    except InvalidVersion as error:
        raise _unnamed(f"the driver says its SDK has the version {shortened(version)!r}") from error
    if asked is not None:
        wanted, _, release = (part.strip() for part in asked.partition("=="))
        if wanted != name or (release and Version(release) != Version(version)):
            raise ParityError(
                "sdk-mismatch",
                f"the driver says it drives {name} {version}, not {asked}",
                hint="Leave --sdk away to drive what is there, or start the driver of what you want.",
            )
    return replace(spec, name=name, version=version, contract=hello.contract)


def check_asked(asked: str) -> None:
    """Check what --sdk says beside --driver. Raises ParityError `sdk-malformed`, `sdk-version-malformed`."""
    name, equals, version = (part.strip() for part in asked.partition("=="))
    if not NAME.fullmatch(name):
        raise ParityError(
            "sdk-malformed",
            f"{asked!r} names no SDK",
            hint="Beside --driver, --sdk is NAME or NAME==VERSION, as the driver says them in its answer to hello.",
        )
    try:
        Version(version if equals else "0")
    except InvalidVersion as error:
        raise ParityError(
            "sdk-version-malformed", f"{version!r} is no version", hint="Versions look like 0.38.0."
        ) from error


def _malformed(text: str, why: str) -> ParityError:
    return ParityError(
        "driver-malformed",
        f"{text!r} is no command line: {why}",
        hint="Write it as in a shell, in one argument: --driver 'node driver.mjs'. No shell reads it: variables, "
        "pipes and redirections are not known.",
    )


def _unnamed(what: str) -> ParityError:
    return ParityError(
        "driver-unnamed",
        what,
        hint="In the answer to hello, sdk.name is lower-case letters, digits, - and _, and sdk.version a version such "
        "as 1.2.0: reports and ledgers go by them.",
    )
