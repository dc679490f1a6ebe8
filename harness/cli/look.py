"""`parity list` and `parity show`: what would be run, without running it."""

from __future__ import annotations

import click

from harness.cli import Settings, with_fixtures
from harness.cli.completing import scenarios


@click.command("list")
@click.option("-k", "expression", metavar="EXPRESSION", help="List what matches, as with `parity run`.")
@with_fixtures
def list_command(settings: Settings, *, expression: str | None) -> None:
    """List the scenarios and their checks."""
    from harness.engine.describe import listing

    click.echo(listing(settings.locations(), expression=expression))


@click.command("show")
@click.argument("scenario", shell_complete=scenarios)
@with_fixtures
def show_command(settings: Settings, *, scenario: str) -> None:
    """Show one SCENARIO: what the client is asked, what is judged, and the golden requests at each release."""
    from harness.engine.describe import description

    click.echo(description(settings.locations(), scenario))
