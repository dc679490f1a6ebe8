"""`parity selftest`: the harness against clients that are wrong on purpose."""

from __future__ import annotations

import click

from harness.cli import Settings, with_settings


@click.command("selftest")
@click.option("-k", "expression", metavar="TEXT", help="Only the mutants whose name contains TEXT.")
@click.option("--jobs", type=click.IntRange(1, 64), default=2, show_default=True, help="Driver processes at most.")
@with_settings
def selftest_command(settings: Settings, *, expression: str | None, jobs: int) -> None:
    """Check that every deliberately wrong client is caught by exactly the expected checks.

    Needs a checkout: the wrong clients are in tests/mutants. Exit status 1 when one survives or dies of another cause.
    """
    from harness.engine.selftest import selftest
    from harness.locations import locate

    raise SystemExit(selftest(locate(settings.root), expression=expression, jobs=jobs, say=click.echo))
