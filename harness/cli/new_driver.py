"""`parity new-driver`."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli.completing import languages


@click.command("new-driver")
@click.argument("language", metavar="LANGUAGE", shell_complete=languages)
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--name", default="my-sdk", show_default=True, metavar="NAME", help="What the SDK is called.")
def new_driver_command(*, language: str, folder: Path, name: str) -> None:
    """Write the skeleton of a driver in LANGUAGE (python, javascript or elixir) into DIR, a new or empty folder.

    The skeleton answers hello and passes the first scenario, session/lifecycle; its README says how it grows.
    """
    from harness.drivers.scaffold import LANGUAGES, write_skeleton

    for file in write_skeleton(language, folder, name=name):
        click.echo(f"wrote {file}")
    start = LANGUAGES[language]
    click.echo(f"\ncd {folder}")
    click.echo(f"parity check-driver '{start}'")
    click.echo(f"parity run --driver '{start}' -k session/lifecycle")
