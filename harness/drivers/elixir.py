"""Elixir on this machine, and what of Tinkex is compiled here: found by asking both."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from packaging.version import InvalidVersion, Version

from harness.drivers.spec import SEARCH_PATH
from harness.errors import ParityError

OLDEST = "1.18.0"
"""The oldest Elixir the driver is written for; Tinkex 0.4.0 asks for it too."""

INSTALL = f"Install Elixir {OLDEST} or newer and Erlang/OTP: https://elixir-lang.org/install.html"

_MARK = "parity:"
_ASK_ELIXIR = f"""
for value <- [System.version(), System.otp_release(), :code.root_dir(), :code.lib_dir(:elixir)], do:
  IO.puts("{_MARK}" <> to_string(value))
"""
_ASK_TINKEX = f"""
Application.load(:tinkex)
parity =
  if Code.ensure_loaded?(Tinkex.Version) and function_exported?(Tinkex.Version, :tinker_sdk, 0),
    do: Tinkex.Version.tinker_sdk(), else: ""
for value <- [Application.spec(:tinkex, :vsn), parity], do: IO.puts("{_MARK}" <> to_string(value))
"""
_VERSION = re.compile(r'\{\s*vsn\s*,\s*"([^"]*)"\s*\}')


@dataclass(frozen=True, slots=True)
class Elixir:
    """An Elixir that is installed: its program, that of Mix, versions, and the search path both need."""

    elixir: Path
    mix: Path
    version: str
    otp: str
    search_path: str


@dataclass(frozen=True, slots=True)
class CompiledTinkex:
    """A compiled Tinkex: the folder of its own and its libraries' applications, its version, and the parity it claims.

    `parity` is a release of the official SDK (`0.15.0`), "" where the code does not say. `applications` are the
    versions of the compiled applications beside it, by name.
    """

    libraries: Path
    version: str
    parity: str
    applications: Mapping[str, str]


def find_elixir(variables: Mapping[str, str] = os.environ) -> Elixir:
    """Return the Elixir on the user's PATH. Raises ParityError `elixir-missing` or `elixir-too-old`."""
    program = shutil.which("elixir", path=variables.get("PATH"))
    if program is None:
        raise ParityError("elixir-missing", "there is no elixir on PATH", hint=INSTALL)
    # Version managers put a small program of their own on PATH that needs the user's environment; what it starts does
    # not, and that is what the driver is started with.
    done = _run([program, "-e", _ASK_ELIXIR], variables)
    told = _told(done)
    if len(told) != 4:
        raise ParityError("elixir-missing", f"{program} does not run: {_last_words(done)}", hint=INSTALL)
    version, otp, erlang, library = told
    try:
        too_old = Version(version) < Version(OLDEST)
    except InvalidVersion:
        too_old = False  # a development version, such as 1.20.0-dev
    if too_old:
        raise ParityError("elixir-too-old", f"{program} is Elixir {version}", hint=INSTALL)
    programs = Path(library).parents[1] / "bin"
    mix = programs / "mix"
    if not mix.is_file():
        raise ParityError("elixir-missing", f"Elixir {version} is there without mix ({mix})", hint=INSTALL)
    return Elixir(programs / "elixir", mix, version, otp, f"{erlang}/bin:{programs}:{SEARCH_PATH}")


def is_tinkex_checkout(directory: Path) -> bool:
    """Say whether `directory` is the root of a checkout of Tinkex."""
    return (directory / "mix.exs").is_file() and (directory / "lib" / "tinkex.ex").is_file()


def compiled_tinkex(directory: Path, elixir: Elixir) -> CompiledTinkex:
    """Return what is compiled below `directory`: a checkout (its newest build of any Mix environment), or a build.

    Nothing is compiled here: which dependencies, which Mix environment and when is up to whoever owns the tree.

    Raises ParityError `sdk-path-empty` when it is no Tinkex, `sdk-not-compiled` when it has not been compiled or
    what is compiled does not load.
    """
    patterns = ("_build/*/lib/tinkex/ebin/tinkex.app", "lib/tinkex/ebin/tinkex.app", "tinkex/ebin/tinkex.app")
    found = [file for pattern in patterns for file in directory.glob(pattern)]
    if not found:
        if not (directory / "lib" / "tinkex.ex").is_file():
            raise ParityError(
                "sdk-path-empty",
                f"{directory} holds neither a checkout nor a build of tinkex",
                hint="Give --sdk-path a checkout, or the _build/dev folder of one.",
            )
        raise ParityError("sdk-not-compiled", f"{directory} has not been compiled", hint=_compile_it(directory))
    libraries = max(found, key=lambda file: file.stat().st_mtime).parents[2]
    return ask_tinkex(libraries, elixir, hint=_compile_it(directory))


def ask_tinkex(libraries: Path, elixir: Elixir, *, hint: str) -> CompiledTinkex:
    """Return what the Tinkex in a folder of compiled applications says of itself.

    Raises ParityError `sdk-not-compiled`, with `hint`, when it does not load.
    """
    command = [str(elixir.elixir), "-pa", str(libraries / "*" / "ebin"), "-e", _ASK_TINKEX]
    done = _run(command, {"PATH": elixir.search_path, "LC_ALL": "C.UTF-8", "HOME": "/nonexistent"})
    told = _told(done)
    if len(told) != 2 or not told[0]:
        raise ParityError("sdk-not-compiled", f"what is in {libraries} does not load: {_last_words(done)}", hint=hint)
    return CompiledTinkex(libraries=libraries, version=told[0], parity=told[1], applications=_versions(libraries))


def _versions(libraries: Path) -> dict[str, str]:
    """Return the versions that the resource files of compiled applications write down."""
    found = {}
    for file in sorted(libraries.glob("*/ebin/*.app")):
        if (told := _VERSION.search(file.read_text("utf-8", errors="replace"))) is not None:
            found[file.stem] = told[1]
    return found


def _compile_it(directory: Path) -> str:
    return f"Run `mix deps.get` and `mix compile` in {directory}, then again."


def _run(command: list[str], variables: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, env=dict(variables), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )


def _told(done: subprocess.CompletedProcess[str]) -> list[str]:
    if done.returncode:
        return []
    return [line.removeprefix(_MARK) for line in done.stdout.splitlines() if line.startswith(_MARK)]


def _last_words(done: subprocess.CompletedProcess[str]) -> str:
    lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
    return lines[0] if lines else f"exit status {done.returncode}"
