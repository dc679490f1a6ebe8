"""One scenario as something to run by hand, for `parity repro`."""

from __future__ import annotations

from pathlib import Path

from packaging.version import InvalidVersion, Version

from harness.contracts.timeline import load_timeline
from harness.drivers.registry import source_root
from harness.engine.lookup import scenario_called
from harness.engine.prepare import open_suite
from harness.errors import ParityError
from harness.locations import Locations
from harness.repro.lines import driver_lines
from harness.repro.script import python_script

SCRIPTED = "tinker"
"""The SDK that a script is written for; every other one has a driver, which takes lines."""


def reproduce(
    locations: Locations, scenario_id: str, *, sdk: str, lines: bool, base_url: str, sdk_path: Path | None = None
) -> str:
    """Return a Python script for `tinker==VERSION`; for any other SDK, or with `lines`, what a driver is given.

    `base_url` is where the driver's lines say the server is; a script is told when it is run. With `sdk_path` the
    script imports the SDK from there, whatever is installed.

    Raises ParityError `scenario-unknown`, `sdk-version-missing`, `sdk-version-malformed`, `sdk-path-empty`,
    `sdk-path-unsupported` (lines name no code: whoever starts the driver does), and what loading the suite raises.
    """
    suite = open_suite(locations)
    scenario = scenario_called(suite, scenario_id)
    name, _, version = (part.strip() for part in sdk.partition("=="))
    if sdk_path is not None and (lines or name != SCRIPTED):
        raise ParityError(
            "sdk-path-unsupported",
            "a driver's lines do not say where the SDK's code is",
            hint="leave --sdk-path away, and start the driver on that code",
        )
    if lines or name != SCRIPTED:
        return driver_lines(scenario, suite.losses, base_url=base_url)
    if not version:
        raise ParityError(
            "sdk-version-missing", f"{name} needs a release", hint=f"say --sdk {name}==0.38.0, or another release"
        )
    try:
        release = Version(version)
    except InvalidVersion as error:
        raise ParityError(
            "sdk-version-malformed", f"{version!r} is no version", hint="versions look like 0.38.0"
        ) from error
    source = None if sdk_path is None else source_root(sdk_path, name)
    return python_script(scenario, suite.losses, sdk=f"{name}=={release}", folder=source)


def undescribed(locations: Locations, sdk: str) -> str:
    """Return what to say of a release of the scripted SDK that no contract describes, "" where one does."""
    name, _, version = (part.strip() for part in sdk.partition("=="))
    timeline = load_timeline(locations.timeline)
    if name != SCRIPTED or Version(version) in {Version(release) for release in timeline.described}:
        return ""
    return (
        f"no contract describes {name}=={version}: whether that release exists, and takes what the script calls, "
        f"was not tested (described: {', '.join(timeline.described)})"
    )
