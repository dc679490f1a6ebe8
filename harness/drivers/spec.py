"""What is needed to start a driver, and the environment it is given: built from nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from harness.drivers.answers import shortened
from harness.drivers.protocol import SdkInfo
from harness.errors import ParityError

SEARCH_PATH = "/usr/local/bin:/usr/bin:/bin"


@dataclass(frozen=True, slots=True)
class DriverSpec:
    """How one subject's driver is started.

    `argv` is the command, `cwd` its working directory (the process's scratch directory when None), `env` its whole
    environment (see `base_environment`) apart from HOME and TMPDIR, scratch directories made for each process. `name`
    and `version` are what the driver must say it drives, both empty where it is believed; `source_dir` is where the
    driven code must come from, when that was asked. `contract` is the contract point that the SDK claims
    (`tinker-0.15.0`), where that is known before it is started. `dependencies` is what the environment built for it was
    resolved to, package by package.
    """

    argv: tuple[str, ...]
    name: str
    version: str
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: Path | None = None
    source_dir: Path | None = None
    contract: str = ""
    dependencies: Mapping[str, str] = field(default_factory=dict)


def base_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment of a driver: constants and `extra`, nothing inherited.

    A maintainer's keys, endpoints, proxies and interpreter settings cannot reach an SDK that is being judged.
    """
    return {
        "PATH": SEARCH_PATH,
        "LANG": "C.UTF-8",
        "LC_ALL": "C.UTF-8",
        "NO_PROXY": "127.0.0.1,localhost",
        "OMP_NUM_THREADS": "1",
    } | dict(extra or {})


def confirm(spec: DriverSpec, sdk: SdkInfo) -> None:
    """Check that the driver drives what was asked for.

    Raises ParityError `sdk-path-mismatch` when the imported code lies outside `source_dir`, `sdk-mismatch` when name
    or version differ.
    """
    if spec.source_dir is not None:
        directory, file = spec.source_dir.resolve(), Path(sdk.file).resolve()
        if not sdk.file or not file.is_relative_to(directory):
            raise ParityError(
                "sdk-path-mismatch",
                f"the driver imported {shortened(sdk.file) or 'nothing it could name'}, not the code below {directory}",
                hint="Give --sdk-path the directory that holds the package, or the checkout's root.",
            )
    if spec.name and (sdk.name, sdk.version) != (spec.name, spec.version):
        name, version = shortened(sdk.name), shortened(sdk.version)
        raise ParityError(
            "sdk-mismatch",
            f"the driver says it drives {name} {version}, not {spec.name} {spec.version}",
            hint=f"Name what is there (--sdk {name}=={version}), or clear the cache if it should not be there.",
        )
