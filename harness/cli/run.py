"""`parity run`."""

from __future__ import annotations

import os
from pathlib import Path

import click

from harness.cli import Settings, with_fixtures

JOBS = max(1, min(4, os.cpu_count() or 1))


@click.command("run")
@click.option(
    "--sdk",
    required=True,
    metavar="SDK",
    help="The subject: 'tinker==VERSION' (fetched from the package index) or 'reference' (built in, offline).",
)
@click.option(
    "--sdk-path",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Drive this checkout or unpacked wheel; it is never written to. Needs --sdk tinker==VERSION.",
)
@click.option(
    "--contract",
    metavar="ID",
    help="The contract to judge by, such as tinker-0.15.0. Default: the one of the subject's version.",
)
@click.option(
    "-k",
    "expression",
    metavar="EXPRESSION",
    help="Run what matches: parts of 'scenario:check', joined by and, or, not and parentheses.",
)
@click.option(
    "--jobs",
    type=click.IntRange(1, 64),
    default=JOBS,
    show_default="cores, at most 4",
    help="Driver processes at most.",
)
@click.option(
    "--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Write the JSON report here."
)
@click.option("--junit", "junit_file", type=click.Path(dir_okay=False, path_type=Path), help="Write JUnit XML here.")
@click.option("--trace", is_flag=True, help="Show the HTTP exchange of failing scenarios, with millisecond offsets.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Limit for each scenario instead of its own; a call still open then is a hang.",
)
@click.option("--replay", is_flag=True, help="Answer with golden responses instead of computing any.")
@with_fixtures
def run_command(
    settings: Settings,
    *,
    sdk: str,
    sdk_path: Path | None,
    contract: str | None,
    expression: str | None,
    jobs: int,
    json_file: Path | None,
    junit_file: Path | None,
    trace: bool,
    timeout: float | None,
    replay: bool,
) -> None:
    """Run an SDK through the scenarios and judge it check by check.

    Exit status: 0 when everything held, 1 when something diverged, 2 when it could not be run or was interrupted.
    """
    from harness.cli.follow import follow, reports
    from harness.engine.prepare import prepare
    from harness.reports import Tally

    plan = prepare(
        settings.locations(),
        sdk=sdk,
        sdk_path=sdk_path,
        contract=contract,
        expression=expression,
        jobs=jobs,
        timeout=timeout,
        keep_exchange=trace,
    )
    if replay:
        from harness.engine.replaying import LEFT_OUT, replayed

        plan = replayed(plan)
        if plan.left_out:
            click.echo(f"{len(plan.left_out)} training checks are left out: {LEFT_OUT}", err=True)
    tally = Tally()
    follow(plan, tally, reports(tally, json_file=json_file, junit_file=junit_file, trace=trace))
    raise SystemExit(tally.exit_status)
