"""A cached environment for each SDK release: the release, its dependencies, and torch on loan from the harness."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import uv
from packaging.version import Version

from harness.drivers.cache import cache_directory, cached
from harness.drivers.constraints import Constraints
from harness.drivers.indexes import pip_settings, uv_settings
from harness.drivers.interpreters import Interpreter, own_interpreter
from harness.drivers.torch_layer import plan_layer, torch_layer
from harness.errors import ParityError

NOT_INSTALLED = {
    "torch": "lent by the harness (`torch_layer`); installing it anew would fetch gigabytes",
    "click": "used by tinker's command line only",
    "rich": "used by tinker's command line only",
    "transformers": "used by tinker's get_tokenizer only, and as large as everything else together",
}
"""Declared dependencies of tinker that its environment does without, and why."""

STAMP = "parity.json"
LOCK = "requirements.txt"
_LAYOUT = 2


@dataclass(frozen=True, slots=True)
class Environment:
    """An environment that is ready: its interpreter, and the versions of everything installed in it."""

    root: Path
    python: Path
    libraries: Mapping[str, str]


def environment_for(
    name: str,
    version: str,
    *,
    interpreter: Interpreter | None = None,
    constraints: Constraints | None = None,
    cache: Path | None = None,
    variables: Mapping[str, str] = os.environ,
) -> Environment:
    """Return the environment of one SDK release, built on first use.

    What the release depends on is resolved once, for an `interpreter` (None: the harness's own) and the user's
    `constraints`, and kept; the environment is that of the resolved versions.

    Raises ParityError: `sdk-version-unavailable`, `index-unreachable`, `torch-missing`, `environment-broken`,
    `constraints-malformed`, `constraints-unmet`, `cache-unwritable`.
    """
    cache = cache_directory(variables) if cache is None else cache
    interpreter = interpreter or own_interpreter()
    layer = plan_layer(interpreter)
    if constraints is not None:
        constraints.allow("torch", layer.versions["torch"])
    lent = torch_layer(cache, interpreter)
    resolution = cached(
        _resolution(cache, name, version, interpreter, constraints.text if constraints else ""),
        valid=lambda place: (place / LOCK).is_file(),
        build=lambda site: _resolve(site, name, version, interpreter, constraints, variables),
    )
    lock = (resolution / LOCK).read_text("utf-8")
    place = cached(
        _place(cache, name, version, interpreter, lent, lock),
        valid=_is_whole,
        build=lambda site: _build(site, name, version, interpreter, lock, lent, variables),
    )
    return Environment(root=place, python=_python(place), libraries=_read_stamp(place) or {})


def has_environment(name: str, version: str) -> bool:
    """Whether the environment of a release, for the harness's own interpreter, is there already; builds nothing of it.

    Raises ParityError `torch-missing`.
    """
    cache, interpreter = cache_directory(), own_interpreter()
    try:
        lock = (_resolution(cache, name, version, interpreter, "") / LOCK).read_text("utf-8")
    except OSError:
        return False
    return _is_whole(_place(cache, name, version, interpreter, torch_layer(cache, interpreter), lock))


def _resolution(cache: Path, name: str, version: str, interpreter: Interpreter, constraints: str) -> Path:
    of = _digest(_LAYOUT, name, version, interpreter.version, interpreter.base, constraints)
    return cache / "resolutions" / f"{name}-{version}-{interpreter.tag}-{of}"


def _place(cache: Path, name: str, version: str, interpreter: Interpreter, lent: Path, lock: str) -> Path:
    of = _digest(_LAYOUT, name, version, interpreter.version, interpreter.base, str(lent), lock)
    return cache / "environments" / f"{name}-{version}-{interpreter.tag}-{of}"


def _is_whole(place: Path) -> bool:
    return _read_stamp(place) is not None and _python(place).exists()


def _digest(*identity: object) -> str:
    return hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:8]


def _tool(site: Path, variables: Mapping[str, str]) -> _Uv:
    settings = {**variables, **uv_settings(variables, pip_settings(variables)), "UV_PYTHON_DOWNLOADS": "never"}
    for inherited in ("VIRTUAL_ENV", "CONDA_PREFIX", "PYTHONHOME", "PYTHONPATH"):
        settings.pop(inherited, None)
    return _Uv(site, settings)


def _resolve(
    site: Path,
    name: str,
    version: str,
    interpreter: Interpreter,
    constraints: Constraints | None,
    variables: Mapping[str, str],
) -> None:
    """Write which version of every dependency belongs to a release: one `name==version` a line."""
    tool = _tool(site, variables)
    overrides = site / "overrides.txt"
    overrides.write_text("".join(f'{package} ; sys_platform == "never"\n' for package in NOT_INSTALLED))
    arguments = ["pip", "compile", "-", "--quiet", "--no-header", "--no-annotate", "--python", interpreter.executable]
    arguments += ["--overrides", overrides.name]
    if constraints is not None:
        (site / "constraints.txt").write_text(constraints.text, "utf-8")
        arguments += ["--constraints", "constraints.txt"]
    done = tool.run(*arguments, text=f"{name}=={version}\n")
    if done.returncode:
        complaint = done.stderr.strip() or f"uv exited with status {done.returncode}"
        if constraints is not None:
            constraints.explain(complaint)
        raise _installation_error(name, version, complaint, tool)
    (site / LOCK).write_text("".join(f"{line}\n" for line in done.stdout.splitlines() if "==" in line), "utf-8")


def _build(
    site: Path,
    name: str,
    version: str,
    interpreter: Interpreter,
    lock: str,
    layer: Path,
    variables: Mapping[str, str],
) -> None:
    tool = _tool(site, variables)
    tool.must("venv", "--quiet", "--no-project", "--allow-existing", "--python", interpreter.executable, str(site))
    (site / LOCK).write_text(lock, "utf-8")
    python = str(_python(site))
    failed = tool.complaint(
        "pip", "install", "--quiet", "--compile-bytecode", "--no-deps", "--python", python, "--requirements", LOCK
    )
    if failed:
        raise _installation_error(name, version, failed, tool)
    # The line is read after the environment's own directory is on the path, so its own packages win.
    packages = site / "lib" / f"python{interpreter.minor}" / "site-packages"
    (packages / "_parity_torch_layer.pth").write_text(f"{layer}\n")
    frozen = tool.must("pip", "freeze", "--quiet", "--python", python)
    libraries = dict(line.split("==", 1) for line in frozen.split() if "==" in line)
    # Written last: a directory without it was never finished.
    (site / STAMP).write_text(json.dumps(libraries, indent=1, sort_keys=True) + "\n")


@dataclass(frozen=True, slots=True)
class _Uv:
    """uv, run inside `directory` so that no project's settings apply."""

    directory: Path
    variables: Mapping[str, str]

    def run(self, *arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
        # uv has an option for it and, unlike for everything else, no variable.
        asks = arguments[:2] in (("pip", "install"), ("pip", "compile"))
        offline = ("--no-index",) if asks and self.variables.get("UV_NO_INDEX", "0") not in ("", "0") else ()
        return subprocess.run(
            [uv.find_uv_bin(), *arguments, *offline],
            cwd=self.directory,
            env=dict(self.variables),
            input=text,
            capture_output=True,
            text=True,
            check=False,
        )

    def complaint(self, *arguments: str) -> str:
        """Run uv; return what it said if it failed, else nothing."""
        done = self.run(*arguments)
        return "" if done.returncode == 0 else (done.stderr.strip() or f"uv exited with status {done.returncode}")

    def must(self, *arguments: str) -> str:
        """Run uv; return what it printed. Raises ParityError `environment-broken`."""
        done = self.run(*arguments)
        if done.returncode:
            raise _broken(f"uv {arguments[0]} failed: {done.stderr.strip()}")
        return done.stdout


def _installation_error(name: str, version: str, complaint: str, tool: _Uv) -> ParityError:
    if re.search(rf"no version of {re.escape(name)}(\[[^\]]*\])?==", complaint):
        near = _nearest(name, version, tool)
        return ParityError(
            "sdk-version-unavailable",
            f"the package index has no {name} {version}",
            hint=f"Nearest: {', '.join(near)}." if near else f"Does the index have {name} at all?",
        )
    if re.search(r"error sending request|Failed to fetch|network was disabled|timed out", complaint):
        return ParityError(
            "index-unreachable",
            f"the package index cannot be reached: {_last_cause(complaint)}",
            hint="Check the network and the index (UV_DEFAULT_INDEX, PIP_INDEX_URL); `--sdk reference` needs neither.",
        )
    return _broken(f"{name} {version} could not be installed: {complaint}")


def _broken(message: str) -> ParityError:
    return ParityError(
        "environment-broken", message, hint="Nothing was cached. Mend the cause named here and run again."
    )


def _nearest(name: str, version: str, tool: _Uv) -> list[str]:
    """Return the closest versions below and above that the index has."""
    found = []
    for comparison, resolution in (("<", "highest"), (">", "lowest")):
        arguments = ("pip", "compile", "-", "--quiet", "--no-deps", "--no-header", "--no-annotate")
        done = tool.run(*arguments, "--resolution", resolution, text=f"{name}{comparison}{version}\n")
        found += re.findall(rf"^{re.escape(name)}==(\S+)", done.stdout, flags=re.MULTILINE)
    return sorted(found, key=Version)


def _last_cause(complaint: str) -> str:
    lines = complaint.splitlines()
    fetched = next((line for line in lines if "Failed to fetch" in line or "network was disabled" in line), lines[0])
    causes = dict.fromkeys([fetched.strip(), lines[-1].strip()])
    return "; ".join(cause.removeprefix("cause: ") for cause in causes)


def _read_stamp(place: Path) -> dict[str, str] | None:
    try:
        libraries = json.loads((place / STAMP).read_text())
    except (OSError, ValueError):
        return None
    return libraries if isinstance(libraries, dict) else None


def _python(place: Path) -> Path:
    return place / "bin" / "python"
