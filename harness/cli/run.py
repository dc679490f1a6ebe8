"""`parity run`."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli import Settings, with_fixtures
from harness.cli.planning import Asked, planned, with_plan
from harness.cli.wanted import Wanted, with_reports


@click.command("run")
@with_plan
@with_reports
@click.option(
    "--record",
    "record_folder",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Keep what is observed in this folder, for `parity check`.",
)
@click.option("--update-ledger", is_flag=True, help="Bring the file of --ledger in line with what the run found.")
@with_fixtures
def run_command(
    settings: Settings, *, asked: Asked, wanted: Wanted, record_folder: Path | None, update_ledger: bool
) -> None:
    """Run an SDK through the scenarios and judge it check by check.

    Exit status: 0 when everything held, 1 when something diverged, 2 when it could not be run or was interrupted.
    """
    from harness.engine.early import head_start

    locations = settings.locations()
    usual = asked.driver is None and asked.python is None and asked.constraints is None
    sdk = asked.sdk if usual else None
    with head_start(locations, sdk, sdk_path=asked.sdk_path, contract=asked.contract) as head:
        # Imported while the driver starts.
        from harness.cli.follow import follow, reports
        from harness.engine.recorder import recorded, refuse_replay
        from harness.engine.relisting import refuse_update, relist
        from harness.reports import Tally

        if record_folder is not None:
            refuse_replay(replay=asked.replay)
        if update_ledger:
            partial = (
                "-k" if asked.expression is not None else "--replay" if asked.replay else "--shard" * bool(asked.shard)
            )
            refuse_update(asked.ledger, partial=partial)
        plan = planned(locations, asked, keep_exchange=wanted.trace, pictures=wanted.pictures)
        recorder = None
        if record_folder is not None:
            plan, recorder = recorded(plan, record_folder, locations=locations)
        tally = Tally()
        follow(head.used_by(plan), tally, reports(tally, wanted), runner=head.runner)
    if recorder is not None:
        click.echo(f"recorded in {recorder.path}" if recorder.path else "nothing was recorded", err=True)
    if update_ledger and asked.ledger is not None and not tally.interrupted:
        for change in relist(plan, tally.results, asked.ledger):
            click.echo(f"{asked.ledger.name}: {change}", err=True)
    raise SystemExit(tally.exit_status)
