"""`parity golden` and `parity certify`: golden traces, and the proof that real releases agree with them."""

from __future__ import annotations

import click

from harness.cli import Settings, with_fixtures, with_settings
from harness.cli.completing import contracts as contract_points


@click.group("golden")
def golden_command() -> None:
    """Emit and verify the golden traces: what the reference implementation does at every described release."""


@golden_command.command("emit")
@click.option("-k", "expression", metavar="EXPRESSION", help="Emit the scenarios that match, as with `parity run`.")
@with_fixtures
def emit_command(settings: Settings, *, expression: str | None) -> None:
    """Drive the reference at every described release and write what changed.

    A number within tolerance of the committed one is left alone. With --fixtures, those of your own scenarios are
    written to that folder, and no others.
    """
    from harness.engine.golden import emit

    emit(settings.locations(), expression=expression, say=click.echo)


@golden_command.command("verify")
@with_fixtures
def verify_command(settings: Settings) -> None:
    """Check that the golden traces are whole, current and certified.

    Checksums hold, the reference still produces them at every described release, and no certificate speaks about
    another set of golden traces. With --fixtures it is about those of your own scenarios.
    Exit status 1 when anything moved.
    """
    from harness.engine.golden import verify

    problems = verify(settings.locations(), say=click.echo)
    for problem in problems:
        click.echo(problem, err=True)
    raise SystemExit(1 if problems else 0)


@click.command("certify")
@click.option(
    "--contract",
    "contracts",
    multiple=True,
    metavar="ID",
    shell_complete=contract_points,
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
    from harness.cli.follow import console, follow
    from harness.engine.certify import (
        certified,
        compare_certificates,
        make_certificate,
        read_certificate,
        write_certificate,
    )
    from harness.engine.prepare import prepare
    from harness.errors import ParityError
    from harness.locations import locate
    from harness.reports import Tally

    locations = locate(settings.root)  # a certificate is about the suite, not about the user's own scenarios
    if not check:
        locations.refuse_installed()
    status = 0
    chosen = contracts or certified(locations)
    if not chosen:
        raise ParityError(
            "certificate-missing", "nothing is certified yet", hint="name a contract: --contract tinker-0.38.0"
        )
    for contract in chosen:
        committed = read_certificate(locations, contract) if check else None
        release = contract.removeprefix("tinker-")
        plan = prepare(locations, sdk=f"tinker=={release}", contract=contract, jobs=jobs, slow=True)
        tally = Tally()
        follow(plan, tally, [console(tally)])
        if tally.exit_status or tally.started is None or tally.subject is None:
            click.echo(f"{contract} is not certified: tinker {release} does not hold", err=True)
            status = max(status, tally.exit_status)
            if tally.interrupted:
                break
            continue
        earned = make_certificate(locations, started=tally.started, subject=tally.subject, totals=tally.totals)
        if committed is None:
            write_certificate(locations, earned)
            click.echo(f"{contract} is certified by tinker {release}")
            continue
        differences = compare_certificates(committed, earned)
        for difference in differences:
            click.echo(difference, err=True)
        status = max(status, 1 if differences else 0)
    raise SystemExit(status)
