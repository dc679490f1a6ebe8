"""`parity golden` and `parity certify`: golden traces, and the proof that real releases agree with them."""

from __future__ import annotations

import click

from harness.cli import Settings, with_settings


@click.group("golden")
def golden_command() -> None:
    """Emit and verify the golden traces: what the reference implementation does at every described release."""


@golden_command.command("emit")
@click.option("-k", "expression", metavar="EXPRESSION", help="Emit the scenarios that match, as with `parity run`.")
@with_settings
def emit_command(settings: Settings, *, expression: str | None) -> None:
    """Drive the reference at every described release and write what changed.

    A number within tolerance of the committed one is left alone.
    """
    from harness.engine.golden import emit
    from harness.locations import locate

    for line in emit(locate(settings.root), expression=expression):
        click.echo(line)


@golden_command.command("verify")
@with_settings
def verify_command(settings: Settings) -> None:
    """Check that the golden traces are whole, current and certified.

    Checksums hold, the reference still produces them at every described release, and no certificate speaks about
    another set of golden traces. Exit status 1 when anything moved.
    """
    from harness.engine.golden import verify
    from harness.locations import locate

    problems = verify(locate(settings.root), say=click.echo)
    for problem in problems:
        click.echo(problem, err=True)
    raise SystemExit(1 if problems else 0)


@click.command("certify")
@click.option(
    "--contract",
    "contracts",
    multiple=True,
    metavar="ID",
    help="The contract to certify, such as tinker-0.38.0. Repeatable. Default: every one that has a certificate.",
)
@click.option("--check", is_flag=True, help="Compare with the certificates instead of writing them.")
@click.option("--jobs", type=click.IntRange(1, 64), default=2, show_default=True, help="Driver processes at most.")
@with_settings
def certify_command(settings: Settings, *, contracts: tuple[str, ...], check: bool, jobs: int) -> None:
    """Run the real SDK releases through every scenario and write what was proven to golden/certified/.

    A contract is certified when the release it is named after passes every check, or fails as its ledger lists.
    Exit status 1 when it does not, or when --check finds that a certificate no longer holds.
    """
    from harness.locations import locate
    from harness.reports.certify import certify

    raise SystemExit(
        certify(locate(settings.root), contracts, check=check, jobs=jobs, stream=click.get_text_stream("stdout"))
    )
