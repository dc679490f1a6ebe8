"""`parity check-driver`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli import Settings, with_settings
from harness.cli.completing import subjects

if TYPE_CHECKING:
    from harness.drivers.examining.findings import Examination, Sitting

_WORDS = {"ok": "ok", "found": "FOUND", "left-out": "left out"}


@click.command("check-driver")
@click.argument("command", required=False)
@click.option(
    "--sdk",
    metavar="SDK",
    shell_complete=subjects,
    help="Examine parity's own driver of this SDK, such as 'tinker==0.38.0'.",
)
@click.option(
    "--sdk-path", type=click.Path(path_type=Path), metavar="DIR", help="The SDK from this folder, as in `parity run`."
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Wait so long for any answer. Default: 120 for hello and losses, 15 for others, 5 for an end.",
)
@click.option(
    "--json",
    "json_file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write what was found here, too.",
)
@with_settings
def check_driver_command(
    settings: Settings,
    *,
    command: str | None,
    sdk: str | None,
    sdk_path: Path | None,
    seconds: float | None,
    json_file: Path | None,
) -> None:
    """Torment the driver that COMMAND starts, and say which rules of the driver protocol it breaks.

    COMMAND is one argument, such as 'node driver.mjs'; left out, it is the driver of parity.toml. Nothing is said
    about the SDK.

    Exit status: 0 when nothing was found, 1 when something was, 2 when the driver could not be started.
    """
    if command is not None and sdk is not None:
        raise click.UsageError("give a command or --sdk, not both")
    from harness.cli.outputs import refuse_unwritable
    from harness.engine.examining import examined, subject_spec

    if json_file is not None:
        refuse_unwritable("--json", json_file)
    locations = settings.locations()
    driver = settings.driver(command, sdk_typed=sdk is not None)
    spec = subject_spec(locations, driver=driver, sdk=sdk, sdk_path=sdk_path)
    found = examined(locations, spec, seconds=seconds, told=_tell)
    _sum_up(found)
    if json_file is not None:
        _write(json_file, found)
    raise SystemExit(1 if found.findings else 0)


def _tell(sitting: Sitting) -> None:
    why = f" ({sitting.reason})" if sitting.reason else ""
    click.echo(f"{_WORDS[sitting.outcome]:<9} {sitting.exam:<18} {sitting.says}{why}")


def _sum_up(examination: Examination) -> None:
    from harness.drivers.examining.findings import FINDINGS
    from harness.reports.text import for_terminal

    for finding in examination.findings:
        click.echo(f"\n{finding.code} ({finding.exam})")
        click.echo(f"  rule      {FINDINGS[finding.code]}")
        click.echo(for_terminal(f"  seen      {finding.message}"))
    asked = sum(sitting.outcome != "left-out" for sitting in examination.sittings)
    number = len(examination.findings)
    click.echo(f"\n{asked} exams, {number or 'nothing'} found")


def _write(file: Path, examination: Examination) -> None:
    import json

    import msgspec

    from harness.cli.outputs import write_output

    document = {"schema": 1, **msgspec.to_builtins(examination)}
    write_output(file, (json.dumps(document, indent=1) + "\n").encode())
