"""`parity repro`."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli import Settings, with_fixtures
from harness.cli.completing import scenarios, subjects


@click.command("repro")
@click.argument("scenario", shell_complete=scenarios)
@click.option(
    "--sdk",
    required=True,
    metavar="SDK",
    help="'tinker==VERSION' gives a script, any other SDK gives lines.",
    shell_complete=subjects,
)
@click.option(
    "--sdk-path",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Let the script import the SDK from this checkout or unpacked wheel. With --sdk tinker==VERSION.",
)
@click.option("--driver-lines", is_flag=True, help="Write the lines its driver reads, for tinker too.")
@click.option(
    "--base-url",
    default="http://127.0.0.1:8000",
    show_default=True,
    metavar="URL",
    help="Where the server of the driver's lines is.",
)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write to this file instead of stdout.")
@with_fixtures
def repro_command(
    settings: Settings,
    *,
    scenario: str,
    sdk: str,
    sdk_path: Path | None,
    driver_lines: bool,
    base_url: str,
    out: Path | None,
) -> None:
    """Write SCENARIO as something to run by hand against `parity serve --scenario SCENARIO`.

    For tinker it is a Python script that needs only that SDK and torch. For any other SDK it is what its driver is
    given on stdin, one JSON object per line; keep its stdin open until it has answered: (cat FILE; cat) | DRIVER.
    """
    from harness.cli.outputs import write_output
    from harness.engine.reproduce import reproduce, undescribed

    locations = settings.locations()
    text = reproduce(locations, scenario, sdk=sdk, lines=driver_lines, base_url=base_url, sdk_path=sdk_path)
    if not driver_lines and (warning := undescribed(locations, sdk)):
        click.echo(f"warning: {warning}", err=True)
    if out is None:
        click.echo(text, nl=False)
    else:
        write_output(out, text.encode())
