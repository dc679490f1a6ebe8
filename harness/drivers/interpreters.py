"""Which Python an SDK's environment is made of: the harness's own, or one that the user names."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import uv

from harness.errors import ParityError

_ASK = """
import json, platform, sys
print(json.dumps({
    "version": platform.python_version(),
    "minor": "%d.%d" % sys.version_info[:2],
    "tag": sys.implementation.cache_tag,
    "base": sys.base_prefix,
    "path": [entry for entry in sys.path if entry.rstrip("/").endswith(("site-packages", "dist-packages"))],
}))
"""


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A Python: its executable, version, the tag that its compiled modules carry, and where its packages are.

    `mine` says that it is the one that runs the harness.
    """

    executable: str
    version: str
    minor: str
    tag: str
    base: str
    path: tuple[str, ...]
    mine: bool = False


def own_interpreter() -> Interpreter:
    """Return the Python that runs the harness."""
    return Interpreter(
        executable=sys.executable,
        version=".".join(map(str, sys.version_info[:3])),
        minor=f"{sys.version_info.major}.{sys.version_info.minor}",
        tag=sys.implementation.cache_tag or "",
        base=sys.base_prefix,
        path=tuple(sys.path),
        mine=True,
    )


def find_interpreter(told: str | None, variables: Mapping[str, str] = os.environ) -> Interpreter:
    """Return the Python that `told` names: a path, a name on PATH, or a version that pyenv or uv finds here.

    None is the harness's own. Nothing is downloaded. Raises ParityError `python-missing` where there is none, or it
    does not run.
    """
    if told is None:
        return own_interpreter()
    executable = _located(told, variables)
    if executable is None:
        raise ParityError(
            "python-missing",
            f"there is no Python {told!r} here",
            hint=_known(variables),
        )
    try:
        done = subprocess.run(
            [executable, "-I", "-c", _ASK], capture_output=True, text=True, check=False, timeout=60, env=dict(variables)
        )
        answer = json.loads(done.stdout)
        return Interpreter(
            executable=executable,
            version=answer["version"],
            minor=answer["minor"],
            tag=answer["tag"] or "",
            base=answer["base"],
            path=tuple(answer["path"]),
        )
    except (OSError, subprocess.TimeoutExpired, ValueError, KeyError, TypeError) as error:
        said = error.strerror if isinstance(error, OSError) else "it does not answer as Python 3 does"
        raise ParityError(
            "python-missing", f"{executable} is no Python that runs: {said}", hint=_known(variables)
        ) from error


def _located(told: str, variables: Mapping[str, str]) -> str | None:
    if os.sep in told:
        path = Path(told).expanduser().absolute()
        return str(path) if path.is_file() else None
    kept = _kept_by_pyenv(variables)
    numbers = told.removeprefix("python")
    if numbers[:1].isdigit():
        for version, python in kept:
            if version == numbers or version.startswith(f"{numbers}."):
                return python
    elif found := shutil.which(told, path=variables.get("PATH")):
        return found
    arguments = ("--quiet", "python", "find", "--no-project", "--no-python-downloads", told)
    done = subprocess.run(
        [uv.find_uv_bin(), *arguments], capture_output=True, text=True, check=False, env=dict(variables), cwd="/"
    )
    return done.stdout.strip() or None if done.returncode == 0 else None


def _kept_by_pyenv(variables: Mapping[str, str]) -> Sequence[tuple[str, str]]:
    """Return version and executable of what pyenv has installed, the newest first."""
    root = Path(variables.get("PYENV_ROOT") or Path(variables.get("HOME") or "/") / ".pyenv")
    found = [(path.parents[1].name, str(path)) for path in (root / "versions").glob("3.*/bin/python")]
    return sorted(found, key=lambda each: [int(part) for part in each[0].split(".") if part.isdigit()], reverse=True)


def _known(variables: Mapping[str, str]) -> str:
    names = [version for version, _ in _kept_by_pyenv(variables)]
    names += [name for number in range(11, 16) if shutil.which(name := f"python3.{number}", path=variables.get("PATH"))]
    listed = ", ".join(dict.fromkeys(names))
    return f"name a path, a name on PATH or a version; here are {listed}" if listed else "name one by its path"
