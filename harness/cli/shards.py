"""`parity plan` and `parity merge`: a run in several parts, and the parts put together."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli import Settings, with_fixtures
from harness.cli.completing import contracts
from harness.cli.planning import MOST_SHARDS
from harness.cli.wanted import Wanted, with_reports


@click.command("plan")
@click.option(
    "--shards", type=click.IntRange(1, MOST_SHARDS), required=True, metavar="N", help="How many parts there are."
)
@click.option(
    "--format",
    "form",
    type=click.Choice(("text", "github")),
    default="text",
    show_default=True,
    help="A table, or the matrix of a GitHub Actions job as one line of JSON.",
)
@click.option("-k", "expression", metavar="EXPRESSION", help="Plan what matches, as with `parity run`.")
@click.option(
    "--contract",
    metavar="ID",
    help="Whose checks are planned. Default: the newest that is described.",
    shell_complete=contracts,
)
@click.option("--slow", is_flag=True, help="Include slow scenarios, as with `parity run`.")
@with_fixtures
def plan_command(
    settings: Settings, *, shards: int, form: str, expression: str | None, contract: str | None, slow: bool
) -> None:
    """Show how `--shard I/N` divides a run, and what to give to the jobs of a matrix.

    Nothing is run. Each part comes with its number of scenarios and an estimate of how long it takes.
    """
    import json

    from harness.engine.dividing import divided

    found = divided(settings.locations(), shards, expression=expression, contract=contract, slow=slow)
    if form == "github":
        include = [
            {"shard": f"{index}/{shards}", "scenarios": len(part.scenarios), "seconds": part.seconds}
            for index, part in enumerate(found, start=1)
        ]
        click.echo(json.dumps({"include": include}))
        return
    click.echo(f"{'shard':<9}{'scenarios':>9}{'seconds':>10}")
    for index, part in enumerate(found, start=1):
        click.echo(f"{f'{index}/{shards}':<9}{len(part.scenarios):>9}{part.seconds:>10.1f}")


@click.command("merge")
@click.argument("reports", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="REPORT...")
@with_reports
def merge_command(*, reports: tuple[Path, ...], wanted: Wanted) -> None:
    """Put the JSON reports of all shards of a run together, and judge the whole.

    Refused where they do not belong together, or one is missing. A ledger entry is unused where no shard has used it.

    Exit status: that of one run of everything.
    """
    from harness.cli.follow import hand
    from harness.cli.follow import reports as chosen
    from harness.gate.merge import merged
    from harness.gate.reading import read_report
    from harness.gate.retelling import retold
    from harness.reports import Tally

    whole = merged([(str(path), read_report(path)[0]) for path in reports])
    tally = Tally()
    handlers = [tally, *chosen(tally, wanted)]
    for event in retold(whole):
        hand(handlers, event)
    raise SystemExit(tally.exit_status)
