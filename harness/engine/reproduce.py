"""One scenario as something to run by hand, for `parity repro`."""

from __future__ import annotations

from packaging.version import InvalidVersion, Version

from harness.engine.lookup import scenario_called
from harness.engine.prepare import open_suite
from harness.errors import ParityError
from harness.locations import Locations
from harness.repro.lines import driver_lines
from harness.repro.script import python_script

SCRIPTED = "tinker"
"""The SDK that a script is written for; every other one has a driver, which takes lines."""


def reproduce(locations: Locations, scenario_id: str, *, sdk: str, lines: bool, base_url: str) -> str:
    """Return a Python script for `tinker==VERSION`; for any other SDK, or with `lines`, what a driver is given.

    `base_url` is where the driver's lines say the server is; a script is told when it is run.

    Raises ParityError `scenario-unknown`, `sdk-version-missing`, `sdk-version-malformed`, and what loading the suite
    raises.
    """
    suite = open_suite(locations)
    scenario = scenario_called(suite, scenario_id)
    name, _, version = (part.strip() for part in sdk.partition("=="))
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
    return python_script(scenario, suite.losses, sdk=f"{name}=={release}")
