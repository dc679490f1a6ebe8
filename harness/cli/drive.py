"""`parity drive`."""

from __future__ import annotations

import click

from harness.cli import Settings, with_fixtures
from harness.cli.completing import contracts, scenarios
from harness.cli.wanted import Wanted, with_reports


@click.command("drive")
@click.argument("scenario", shell_complete=scenarios)
@click.option("--print", "printed", is_flag=True, help="Print the lines that a driver is given, and stop.")
@click.option("--attach", is_flag=True, help="Wait for a driver that you start yourself, and judge it.")
@click.option(
    "--contract",
    metavar="ID",
    shell_complete=contracts,
    help="The contract an attached driver is judged by. Default: the one it claims.",
)
@click.option(
    "--base-url",
    default="http://127.0.0.1:8000",
    show_default=True,
    metavar="URL",
    help="Where the printed lines say the server is.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="How long an attached driver is told it has. Default: an hour.",
)
@with_reports
@with_fixtures
def drive_command(
    settings: Settings,
    *,
    scenario: str,
    printed: bool,
    attach: bool,
    contract: str | None,
    base_url: str,
    timeout: float | None,
    wanted: Wanted,
) -> None:
    """Debug a driver with SCENARIO: print what it is given, or attach a process of it that runs under a debugger.

    Exit status: that of `parity run`.
    """
    if printed == attach:
        raise click.UsageError("say --print or --attach")
    if printed:
        from harness.engine.reproduce import reproduce

        click.echo(reproduce(settings.locations(), scenario, sdk="", lines=True, base_url=base_url), nl=False)
        return
    raise SystemExit(_attach(settings, scenario, contract=contract, timeout=timeout, wanted=wanted))


def _attach(settings: Settings, scenario: str, *, contract: str | None, timeout: float | None, wanted: Wanted) -> int:
    import asyncio

    from harness.cli.follow import reports, tell
    from harness.engine.attaching import attached
    from harness.reports import Tally

    def told(pipes: str) -> None:
        click.echo(f"waiting for a driver; start it with\n\n    YOUR_DRIVER {pipes}\n", err=True)

    tally = Tally()
    events = attached(
        settings.locations(),
        scenario,
        contract=contract,
        timeout=timeout,
        keep_exchange=wanted.trace,
        pictures=wanted.pictures,
        told=told,
    )
    asyncio.run(tell(events, [tally, *reports(tally, wanted)]))
    return tally.exit_status
