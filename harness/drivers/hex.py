"""A cached Mix project for each release of Tinkex: the release and its dependencies, fetched from Hex and compiled."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from harness.drivers.cache import cache_directory, cached
from harness.drivers.constraints import read_lock
from harness.drivers.elixir import CompiledTinkex, Elixir, ask_tinkex
from harness.errors import ParityError

NOT_INSTALLED = {
    "exla": "a native backend, hundreds of megabytes: losses run on Nx's own backend",
    "tokenizers": "a native library that only encoding of text uses: scenarios give tokens",
}
"""Declared dependencies of Tinkex that its project does without, and why: empty applications stand for them."""

STAMP = "parity.json"
_LAYOUT = 1
_PROJECT = """defmodule ParitySubject.MixProject do
  use Mix.Project

  def project, do: [app: :parity_subject, version: "0.1.0", deps: deps()]

  defp deps do
    [
      {{:tinkex, "== {version}"}},
{unused}
    ]
  end
end
"""
_UNUSED = """defmodule ParityUnused.{module}.MixProject do
  use Mix.Project

  def project, do: [app: :{name}, version: "0.0.0"]
end
"""


def tinkex_release(
    version: str,
    elixir: Elixir,
    *,
    lock: Path | None = None,
    cache: Path | None = None,
    variables: Mapping[str, str] = os.environ,
) -> CompiledTinkex:
    """Return one release of Tinkex from Hex, fetched and compiled on first use.

    Mix works with the user's own settings (`HEX_MIRROR`, `HEX_HOME`, ...), in a folder of the cache; from the versions
    that the `mix.lock` in `lock` has, where it is given.

    Raises ParityError: `sdk-version-unavailable`, `index-unreachable`, `environment-broken`, `cache-unwritable`, and
    what `read_lock` raises.
    """
    cache = cache_directory(variables) if cache is None else cache
    locked = read_lock(lock) if lock is not None else ""
    parts = [_LAYOUT, version, elixir.version, elixir.otp, locked]
    identity = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:8]
    key = f"tinkex-{version}-otp{elixir.otp}-{identity}"

    def build(site: Path) -> None:
        if locked:
            (site / "mix.lock").write_text(locked, "utf-8")
        _build(site, version=version, elixir=elixir, variables=variables)

    place = cached(cache / "environments" / key, valid=lambda place: (place / STAMP).is_file(), build=build)
    compiled = ask_tinkex(place / "_build" / "prod" / "lib", elixir, hint=f"Remove {place} and run again.")
    installed = {name: told for name, told in compiled.applications.items() if name not in NOT_INSTALLED}
    return replace(compiled, applications=installed)


def write_project(site: Path, version: str) -> None:
    """Write the Mix project that depends on one release of Tinkex."""
    unused = []
    for name in NOT_INSTALLED:
        folder = site / "unused" / name
        folder.mkdir(parents=True)
        (folder / "mix.exs").write_text(_UNUSED.format(module=name.capitalize(), name=name))
        unused.append(f'      {{:{name}, path: "unused/{name}", override: true}}')
    (site / "mix.exs").write_text(_PROJECT.format(version=version, unused=",\n".join(unused)))


def _build(site: Path, *, version: str, elixir: Elixir, variables: Mapping[str, str]) -> None:
    write_project(site, version)
    settings = {**variables, "PATH": f"{elixir.search_path}:{variables.get('PATH', '')}", "MIX_ENV": "prod"}
    settings = {"LC_ALL": "C.UTF-8", **settings}
    for inherited in ("MIX_EXS", "MIX_BUILD_PATH", "MIX_DEPS_PATH", "MIX_TARGET", "ELIXIR_ERL_OPTIONS", "ERL_FLAGS"):
        settings.pop(inherited, None)
    for task in (
        ("local.hex", "--if-missing", "--force"),
        ("local.rebar", "--if-missing", "--force"),
        ("deps.get",),
        ("deps.compile",),
    ):
        done = subprocess.run(
            [str(elixir.mix), *task],
            cwd=site,
            env=settings,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode:
            raise installation_error(version, " ".join(task), done.stdout)
    # Written last: a directory without it was never finished.
    (site / STAMP).write_text(json.dumps({"tinkex": version}) + "\n")


def installation_error(version: str, task: str, output: str) -> ParityError:
    """Return what a failing `mix` task means for its user."""
    complaint = _complaint(output) or "no output"
    if re.search(r"doesn't match any versions|No matching version|No package with name", output):
        return ParityError(
            "sdk-version-unavailable",
            f"Hex has no tinkex {version}",
            hint="`mix hex.info tinkex` lists the releases.",
        )
    if re.search(r"failed_connect|nxdomain|httpc request failed|Failed to fetch|could not fetch|timeout", output):
        return ParityError(
            "index-unreachable",
            f"Hex cannot be reached (mix {task}): {complaint}",
            hint="Check the network and the mirror (HEX_MIRROR), or give --sdk-path a compiled checkout.",
        )
    return ParityError(
        "environment-broken",
        f"mix {task} failed for tinkex {version}: {complaint}",
        hint="Nothing was cached. Mend the cause named here and run again.",
    )


def _complaint(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return next((line for line in lines if line.startswith("**")), lines[-1] if lines else "")
