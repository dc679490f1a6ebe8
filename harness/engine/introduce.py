"""What a driver that parity does not know says about itself, asked before anything is planned."""

from __future__ import annotations

import asyncio

from harness.drivers.command import DriverCommand, check_asked, named, spec_of
from harness.drivers.failure import DriverFailure, Patience
from harness.drivers.process import running
from harness.drivers.protocol import HelloAnswer
from harness.drivers.spec import DriverSpec
from harness.errors import ParityError


def introduced(command: DriverCommand, *, sdk: str | None, patience: Patience | None = None) -> DriverSpec:
    """Start the driver, ask it what it drives, end it, and return how it is started, name and version known.

    `sdk` is what the user says is driven, or None to believe the driver. Must not be called in a running event loop.

    Raises ParityError `driver-failed` when it does not answer hello as it should, and what `spec_of`, `check_asked`,
    `named` and `DriverProcess.start` raise.
    """
    if sdk is not None:
        check_asked(sdk)
    spec = spec_of(command)
    try:
        hello = asyncio.run(_hello(spec, patience))
    except DriverFailure as failure:
        tail = failure.stderr_tail.strip().splitlines()[-3:]
        said = f"; its stderr ends: {' / '.join(tail)}" if tail else ""
        raise ParityError(
            "driver-failed",
            f"{command.text!r} does not answer hello ({failure.kind}): {failure.message}{said}",
            hint="`parity check-driver` says what is wrong with a driver; docs/writing-a-driver.md shows how one is "
            "written.",
        ) from failure
    return named(spec, hello, asked=sdk)


async def _hello(spec: DriverSpec, patience: Patience | None) -> HelloAnswer:
    async with running(spec, patience=patience) as driver:
        return driver.hello
