"""`parity gate`: a run that a release hangs on."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli import Settings, with_fixtures
from harness.cli.planning import Asked, planned, with_plan
from harness.cli.wanted import Wanted, with_reports


@click.command("gate")
@with_plan
@click.option(
    "--baseline",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="The JSON report of an earlier run; every check is labelled by how it stands against it.",
)
@with_reports
@with_fixtures
def gate_command(settings: Settings, *, asked: Asked, baseline: Path | None, wanted: Wanted) -> None:
    """Run an SDK, apply its ledger, and say what is new against a baseline.

    The ledger decides, the baseline labels: what no ledger lists fails the gate, also where the baseline has it.

    Exit status: 0 when nothing is new, 1 when something diverged that no ledger lists, 2 when it could not be run, was
    interrupted, or the baseline is none.
    """
    from harness.cli.follow import follow, reports
    from harness.gate.labelling import Labelling
    from harness.gate.labels import Earlier
    from harness.gate.reading import read_report, refuse_foreign, refuse_part
    from harness.reports import Tally

    labelling = None
    if baseline is not None:
        document, digest = read_report(baseline)
        refuse_part(document, str(baseline))
        if asked.sdk is not None:  # else the driver says what it drives
            refuse_foreign(document, str(baseline), sdk=asked.sdk.partition("==")[0].strip())
        labelling = Labelling(Earlier(document, digest))
    plan = planned(settings.locations(), asked, keep_exchange=wanted.trace, pictures=wanted.pictures)
    if labelling is not None:
        refuse_foreign(
            labelling.earlier.document, str(baseline), sdk=plan.spec.name, contract=plan.contract.id, replay=plan.replay
        )
    tally = Tally()
    follow(plan, tally, reports(tally, wanted), labelling=labelling)
    raise SystemExit(tally.exit_status)
