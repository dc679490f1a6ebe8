"""Examine a driver: whichever it is, by the suite's operation vectors and capabilities."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import get_args

from harness.drivers.command import DriverCommand, spec_of
from harness.drivers.examining.desk import Limits
from harness.drivers.examining.examine import examine
from harness.drivers.examining.findings import Examination, Sitting
from harness.drivers.registry import resolve
from harness.drivers.spec import DriverSpec
from harness.engine.prepare import open_suite
from harness.errors import ParityError
from harness.locations import Locations
from harness.suite.loader import Suite, required_capabilities
from harness.suite.losses.effects import DELAY, MUTATES
from harness.suite.losses.vectors import load_vectors
from harness.suite.rules import ADAPTERS, looked_at
from harness.suite.scenario import Step

STYLES = ("concurrent", "thread")


def known_capabilities(suite: Suite) -> frozenset[str]:
    """Return every capability that the protocol has, or that a scenario asks for or has something for."""
    steps = {str(step.__struct_config__.tag) for step in get_args(Step)} - {"await"}
    asked = (required_capabilities(scenario, suite.losses) for scenario in suite.scenarios.values())
    looked = (looked_at(scenario, suite.losses) for scenario in suite.scenarios.values())
    return frozenset(steps | {*STYLES, "telemetry", DELAY, MUTATES, ADAPTERS}).union(*asked, *looked)


def subject_spec(
    locations: Locations, *, driver: DriverCommand | None, sdk: str | None, sdk_path: Path | None
) -> DriverSpec:
    """Return how the driver that is to be examined is started.

    Raises ParityError `sdk-missing` where neither is given, and what `spec_of` and `resolve` raise.
    """
    if driver is not None:
        return spec_of(driver)
    if sdk is None:
        raise ParityError(
            "sdk-missing",
            "nothing says which driver is to be examined",
            hint="Give its command line: parity check-driver 'node driver.mjs'. --sdk names a driver of parity's own.",
        )
    return resolve(sdk, sdk_path=sdk_path, root=locations.root)


def examined(
    locations: Locations, spec: DriverSpec, *, seconds: float | None = None, told: Callable[[Sitting], None]
) -> Examination:
    """Examine a driver. `seconds` is how long any answer is waited for, instead of what each may take.

    Raises ParityError as `open_suite`, `load_vectors` and `examine` do.
    """
    suite = open_suite(locations)
    vectors = load_vectors(locations.operation_vectors)
    limits = Limits() if seconds is None else Limits(seconds, seconds, seconds, seconds)
    work = examine(spec, capabilities=known_capabilities(suite), vectors=vectors, limits=limits, told=told)
    return asyncio.run(work)
