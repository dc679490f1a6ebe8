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

from harness.drivers.constraints import read_constraints
from harness.drivers.elixir import compiled_tinkex, find_elixir, is_tinkex_checkout
from harness.drivers.environments import environment_for
from harness.drivers.hex import tinkex_release
from harness.drivers.interpreters import find_interpreter
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

ELIXIR_VARIABLES = MappingProxyType({"ERL_CRASH_DUMP_SECONDS": "0", "TINKER_TELEMETRY": "0"})
"""What a driver in Elixir is told besides `base_environment`: a crash is told on stderr, and leaves no dump."""

TINKEX = "0.4.0"
"""What `--sdk tinkex` alone drives outside a checkout: the release that ledger and recording are about."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the user wants an SDK's environment to be made of: an interpreter, and constraints on its dependencies."""

    python: str | None = None
    constraints: Path | None = None

    @property
    def arguments(self) -> list[str]:
        """The options that ask for it."""
        python = ["--python", self.python] if self.python is not None else []
        return python + (["--subject-constraints", str(self.constraints)] if self.constraints is not None else [])

    def refuse(self, name: str, *, python: bool = True, constraints: bool = True) -> None:
        """Raise ParityError `surroundings-unsupported` where something is asked for that `name` has no environment for.

        `python`, `constraints`: which of the two there is nothing to choose for.
        """
        asked = (("--python", self.python, python), ("--subject-constraints", self.constraints, constraints))
        for option, told, refused in asked:
            if told is not None and refused:
                raise ParityError(
                    "surroundings-unsupported",
                    f"{option} has nothing to choose for {name}: parity makes no such environment here",
                    hint=f"leave {option} out",
                )


@dataclass(frozen=True, slots=True)
class Subject:
    """What the user asked to drive: a name, the release after `==` if one was given, a directory, and a contract.

    `root` is the folder whose timeline the contract is a point of; `surroundings` is what its environment is made of.
    """

    name: str
    version: str
    path: Path | None
    contract: str | None
    root: Path | None
    surroundings: Surroundings


def resolve(
    sdk: str,
    *,
    sdk_path: Path | None = None,
    contract: str | None = None,
    root: Path | None = None,
    surroundings: Surroundings | None = None,
) -> DriverSpec:
    """Return how the driver of `sdk` (`tinker==0.38.0`, `tinkex==0.4.0`, `reference`) is started.

    `sdk_path` drives the code in a directory instead of the installed release; `contract` (`tinker-0.38.0`) is the
    point of the timeline that the reference is to be, `root` the folder whose timeline that is (None: the installed
    one). May build the release's environment first, of what `surroundings` says.

    Raises ParityError: `sdk-path-unsupported`, `sdk-path-empty`, `sdk-version-missing`, `surroundings-unsupported`,
    and what `read_constraints`, `find_interpreter`, `parse`, `environment_for`, `find_elixir`, `compiled_tinkex` and
    `tinkex_release` raise.
    """
    name, version = parse(sdk)
    surroundings = surroundings or Surroundings()
    if name == "reference":
        surroundings.refuse(name)
    return DRIVERS[name](Subject(name, version, sdk_path, contract, root, surroundings))


def parse(sdk: str) -> tuple[str, str]:
    """Return the name and the release of what `--sdk` says; the release is "" where it may be left out.

    Raises ParityError `sdk-unknown`, `sdk-malformed` (another operator than `==`), `sdk-version-missing` or
    `sdk-version-malformed`.
    """
    name, _, version = (part.strip() for part in sdk.partition("=="))
    bare = re.split(r"[<>=!~ ]", name, maxsplit=1)[0]
    if bare != name and bare in DRIVERS:
        raise ParityError(
            "sdk-malformed", f"{sdk!r} names no single release", hint=f"Say --sdk {bare}==VERSION, with one release."
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
    source = None if subject.path is None else source_root(subject.path, subject.name)
    told = subject.surroundings
    environment = environment_for(
        subject.name,
        version,
        interpreter=find_interpreter(told.python),
        constraints=None if told.constraints is None else read_constraints(told.constraints),
    )
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
        dependencies=environment.libraries,
    )


def _tinkex(subject: Subject) -> DriverSpec:
    path = subject.path or (Path.cwd() if not subject.version and is_tinkex_checkout(Path.cwd()) else None)
    subject.surroundings.refuse("Tinkex", constraints=path is not None)
    elixir = find_elixir()
    if path is None:
        compiled = tinkex_release(_semantic(subject.version or TINKEX), elixir, lock=subject.surroundings.constraints)
    else:
        compiled = compiled_tinkex(path.resolve(), elixir)
    driver = Path(__file__).resolve().parent / "tinkex" / "driver.exs"
    return DriverSpec(
        # The answers have a descriptor of their own: what the SDK or its logger prints goes to stderr.
        argv=(
            *("/bin/sh", "-c", 'exec "$0" "$@" 3>&1 1>&2'),
            *(str(elixir.elixir), "--erl", "-noinput", "-pa", str(compiled.libraries / "*" / "ebin"), str(driver)),
        ),
        name=subject.name,
        version=_semantic(subject.version) if subject.version else compiled.version,
        contract=f"tinker-{compiled.parity}" if compiled.parity else "",
        env=base_environment(ELIXIR_VARIABLES) | {"PATH": elixir.search_path},
        source_dir=compiled.libraries if path is None else path.resolve(),
        dependencies=compiled.applications,
    )


def _semantic(version: str) -> str:
    """Return a version as Hex writes it: with three numbers."""
    missing = 2 - version.count(".")
    return version + ".0" * missing if version.replace(".", "").isdigit() else version


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


def source_root(directory: Path, package: str) -> Path:
    """Return the directory below `directory` that holds the package: `src`, or itself.

    Raises ParityError `sdk-path-empty`.
    """
    for root in (directory / "src", directory):
        if (root / package / "__init__.py").is_file():
            return root.resolve()
    raise ParityError(
        "sdk-path-empty",
        f"{directory} holds neither src/{package} nor {package}",
        hint="Give --sdk-path a checkout or an unpacked wheel.",
    )


DRIVERS: Mapping[str, Callable[[Subject], DriverSpec]] = MappingProxyType(
    {"reference": _reference, "tinker": _tinker, "tinkex": _tinkex}
)
"""The SDKs that can be driven, by the name users give."""
