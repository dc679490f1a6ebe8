"""`parity suite`: what is released of the suite, and the next release of it."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli import Settings, with_settings


@click.group("suite")
def suite_command() -> None:
    """Release revisions of the suite, and check that what is released stays as it is."""


@suite_command.command("release")
@with_settings
def release_command(settings: Settings) -> None:
    """Write the next revision: every scenario and check that is in none yet.

    Nothing that is released can change afterwards. Needs a checkout, or --root.
    """
    from harness.engine.releasing import release
    from harness.locations import locate

    click.echo(release(locate(settings.root)))


@suite_command.command("verify")
@with_settings
def verify_command(settings: Settings) -> None:
    """Check that released scenarios and checks are as they were released. Exit status 1 when one has moved."""
    from harness.engine.releasing import verify
    from harness.locations import locate

    sentences, told = verify(locate(settings.root))
    for sentence in sentences:
        click.echo(sentence, err=True)
    if not sentences:
        click.echo(told)
    raise SystemExit(1 if sentences else 0)


@suite_command.command("costs")
@click.argument("report", type=click.Path(path_type=Path))
@with_settings
def costs_command(settings: Settings, *, report: Path) -> None:
    """Take how long scenarios take from the JSON REPORT of a whole run, so that shards take equally long."""
    from harness.atomic import write_whole
    from harness.engine.sharding import written_costs
    from harness.gate.reading import read_report, refuse_part
    from harness.locations import locate

    locations = locate(settings.root)
    locations.refuse_installed()
    document, _ = read_report(report)
    refuse_part(document, str(report))
    seconds = {run.scenario: run.seconds for run in document.scenarios}
    write_whole(locations.costs, written_costs(seconds, subject=f"{document.sdk.name} {document.sdk.version}"))
    click.echo(f"{len(seconds)} scenarios written to {locations.costs}")
