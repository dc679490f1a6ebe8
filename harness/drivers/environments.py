"""A cached environment for each SDK release: the release, its dependencies, and torch on loan from the harness."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import uv
from packaging.version import Version

from harness.drivers.cache import cache_directory, cached
from harness.drivers.indexes import pip_settings, uv_settings
from harness.drivers.torch_layer import torch_layer
from harness.errors import ParityError

NOT_INSTALLED = {
    "torch": "lent by the harness (`torch_layer`); installing it anew would fetch gigabytes",
    "click": "used by tinker's command line only",
    "rich": "used by tinker's command line only",
    "transformers": "used by tinker's get_tokenizer only, and as large as everything else together",
}
"""Declared dependencies of tinker that its environment does without, and why."""

STAMP = "parity.json"
_LAYOUT = 1


@dataclass(frozen=True, slots=True)
class Environment:
    """An environment that is ready: its interpreter, and the versions of everything installed in it."""

    root: Path
    python: Path
    libraries: Mapping[str, str]


def environment_for(
    name: str, version: str, *, cache: Path | None = None, variables: Mapping[str, str] = os.environ
) -> Environment:
    """Return the environment of one SDK release, built on first use.

    Raises ParityError: `sdk-version-unavailable`, `index-unreachable`, `torch-missing`, `environment-broken`,
    `cache-unwritable`.
    """
    cache = cache_directory(variables) if cache is None else cache
    layer = torch_layer(cache)
    identity = json.dumps([_LAYOUT, name, version, platform.python_version(), sys.base_prefix, str(layer)])
    key = f"{name}-{version}-{sys.implementation.cache_tag}-{hashlib.sha256(identity.encode()).hexdigest()[:8]}"

    def valid(place: Path) -> bool:
        return _read_stamp(place) is not None and _python(place).exists()

    def build(site: Path) -> None:
        _build(site, name=name, version=version, layer=layer, variables=variables)

    place = cached(cache / "environments" / key, valid=valid, build=build)
    return Environment(root=place, python=_python(place), libraries=_read_stamp(place) or {})


def _build(site: Path, *, name: str, version: str, layer: Path, variables: Mapping[str, str]) -> None:
    settings = {**variables, **uv_settings(variables, pip_settings(variables)), "UV_PYTHON_DOWNLOADS": "never"}
    for inherited in ("VIRTUAL_ENV", "CONDA_PREFIX", "PYTHONHOME", "PYTHONPATH"):
        settings.pop(inherited, None)
    tool = _Uv(site, settings)
    tool.must("venv", "--quiet", "--no-project", "--allow-existing", "--python", sys.executable, str(site))
    overrides = site / "overrides.txt"
    overrides.write_text("".join(f'{package} ; sys_platform == "never"\n' for package in NOT_INSTALLED))
    python = str(_python(site))
    failed = tool.complaint(
        "pip", "install", "--quiet", "--compile-bytecode", "--python", python, "--overrides", overrides.name,
        f"{name}=={version}",
    )  # fmt: skip
    if failed:
        raise _installation_error(name, version, failed, tool)
    # The line is read after the environment's own directory is on the path, so its own packages win.
    (_site_packages(site) / "_parity_torch_layer.pth").write_text(f"{layer}\n")
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
        return subprocess.run(
            [uv.find_uv_bin(), *arguments],
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


def _site_packages(place: Path) -> Path:
    return place / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
