"""Which SDKs can be driven, and how each driver is started."""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from packaging.version import InvalidVersion, Version

from harness.drivers.environments import environment_for
from harness.drivers.spec import DriverSpec, base_environment
from harness.errors import ParityError

PYTHON_VARIABLES = MappingProxyType(
    {
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONHASHSEED": "0",
        "PYTHONNOUSERSITE": "1",
        "TINKER_TELEMETRY": "0",
    }
)
"""What a driver in Python is told besides `base_environment`."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What the user asked to drive: a name, the release after `==` if one was given, a directory, and a contract.

    `root` is the folder whose timeline the contract is a point of.
    """

    name: str
    version: str
    path: Path | None
    contract: str | None
    root: Path | None


def resolve(
    sdk: str, *, sdk_path: Path | None = None, contract: str | None = None, root: Path | None = None
) -> DriverSpec:
    """Return how the driver of `sdk` (`tinker==0.38.0`, `reference`) is started.

    `sdk_path` drives the code in a directory instead of the installed release; `contract` (`tinker-0.38.0`) is the
    point of the timeline that the reference is to be, `root` the folder whose timeline that is (None: the installed
    one). May build the release's environment first.

    Raises ParityError: `sdk-path-unsupported`, `sdk-path-empty`, and what `parse` and `environment_for` raise.
    """
    name, version = parse(sdk)
    return DRIVERS[name](Subject(name=name, version=version, path=sdk_path, contract=contract, root=root))


def parse(sdk: str) -> tuple[str, str]:
    """Return the name and the release of what `--sdk` says; the release is "" where it may be left out.

    Raises ParityError `sdk-unknown`, `sdk-malformed` (another operator than `==`), `sdk-version-missing` or
    `sdk-version-malformed`.
    """
    name, _, version = (part.strip() for part in sdk.partition("=="))
    bare = re.split(r"[<>=!~ ]", name, maxsplit=1)[0]
    if bare != name and bare in DRIVERS:
        raise ParityError(
            "sdk-malformed", f"{sdk!r} names no single release", hint=f"Say --sdk {bare}==0.38.0, or another release."
        )
    if name not in DRIVERS:
        near = difflib.get_close_matches(name, DRIVERS, n=1)
        known = ", ".join(DRIVERS)
        raise ParityError(
            "sdk-unknown",
            f"there is no driver for an SDK called {name!r}",
            hint=f"Did you mean {near[0]}?" if near else f"Known: {known}.",
        )
    if name == "tinker" and not version:
        # Which release is newest changes from one day to the next; a run must say what it judged.
        raise ParityError(
            "sdk-version-missing",
            f"{name} needs a release",
            hint=f"Say --sdk {name}==0.38.0, or another release that the contract timeline describes.",
        )
    if version:
        try:
            Version(version)
        except InvalidVersion as error:
            raise ParityError(
                "sdk-version-malformed", f"{version!r} is no version", hint="Versions look like 0.38.0."
            ) from error
    return name, version


def _tinker(subject: Subject) -> DriverSpec:
    version = str(Version(subject.version))
    source = None if subject.path is None else _source_root(subject.path, subject.name)
    environment = environment_for(subject.name, version)
    driver = Path(__file__).resolve().parent / "tinker" / "driver.py"
    return DriverSpec(
        argv=(
            str(environment.python),
            *("-s", "-B", "-P", str(driver)),
            *(("--source", str(source)) if source is not None else ()),
        ),
        name=subject.name,
        version=version,
        env=base_environment(PYTHON_VARIABLES),
        source_dir=source,
    )


def _reference(subject: Subject) -> DriverSpec:
    if subject.path is not None:
        raise ParityError("sdk-path-unsupported", "the reference is part of the harness", hint="Leave --sdk-path away.")
    contract = f"tinker-{subject.version}" if subject.version else subject.contract
    if contract is None:
        raise ParityError(
            "sdk-version-missing",
            "the reference can be every described release and must be told which",
            hint="Say --sdk reference==0.38.0 or --contract tinker-0.38.0.",
        )
    return DriverSpec(
        argv=(
            *(sys.executable, "-s", "-P", "-m", "harness.drivers.reference", "--contract", contract),
            *(("--root", str(subject.root)) if subject.root is not None else ()),
        ),
        name=subject.name,
        version=contract.removeprefix("tinker-"),
        env=base_environment(PYTHON_VARIABLES),
    )


def _source_root(directory: Path, package: str) -> Path:
    """Return the directory below `directory` that holds the package: `src`, or itself."""
    for root in (directory / "src", directory):
        if (root / package / "__init__.py").is_file():
            return root.resolve()
    raise ParityError(
        "sdk-path-empty",
        f"{directory} holds neither src/{package} nor {package}",
        hint="Give --sdk-path a checkout or an unpacked wheel.",
    )


DRIVERS: Mapping[str, Callable[[Subject], DriverSpec]] = MappingProxyType({"reference": _reference, "tinker": _tinker})
"""The SDKs that can be driven, by the name users give."""
