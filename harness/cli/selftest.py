"""`parity selftest`: the harness against clients that are wrong on purpose, and against its own unsteadiness."""

from __future__ import annotations

import click

from harness.cli import Settings, with_settings


@click.command("selftest")
@click.option("-k", "expression", metavar="TEXT", help="Only the mutants whose name contains TEXT.")
@click.option("--jobs", type=click.IntRange(1, 64), default=2, show_default=True, help="Driver processes at most.")
@click.option(
    "--repeat",
    type=click.IntRange(1),
    metavar="N",
    help="Instead, run a correct client N times, its scenarios shuffled: every run must be green at once. "
    "-k then selects scenarios, as in `parity run`.",
)
@click.option("--slow", is_flag=True, help="Include the wrong clients that only slow scenarios tell.")
@click.option("--sdk", default="reference", show_default=True, help="The correct client that is repeated.")
@click.option("--seed", type=int, default=0, show_default=True, help="Which orders the repetitions take.")
@with_settings
def selftest_command(
    settings: Settings, *, expression: str | None, jobs: int, repeat: int | None, slow: bool, sdk: str, seed: int
) -> None:
    """Check that every deliberately wrong client is caught by exactly the expected checks.

    Prints the kill matrix, check by mutant. Needs a checkout: the wrong clients are in tests/mutants. Exit status 1
    when one survives or dies of another cause, when no mutant turns a check or a scenario red, or when too little is
    proven at 0.7.0, 0.15.0 or 0.38.0 (docs/checks.md).
    """
    from harness.engine.selftest import selftest, steady
    from harness.locations import locate

    locations = locate(settings.root)
    if repeat is None:
        raise SystemExit(selftest(locations, expression=expression, jobs=jobs, slow=slow, say=click.echo))
    raise SystemExit(
        steady(locations, sdk=sdk, repetitions=repeat, jobs=jobs, seed=seed, expression=expression, say=click.echo)
    )
