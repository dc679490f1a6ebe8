"""`parity check`: judge a recording of a run, or of traffic."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli import Settings, with_fixtures
from harness.cli.wanted import Wanted, with_reports

if TYPE_CHECKING:
    from harness.engine.offline import Judged


@click.command("check")
@click.argument("recording", type=click.Path(path_type=Path))
@click.option("--scenario", metavar="ID", help="The scenario that recorded traffic is of.")
@click.option(
    "--contract",
    metavar="ID",
    help="The contract to judge by, such as tinker-0.38.0. Default: the one a recorded run was judged by.",
)
@click.option(
    "--sdk", metavar="NAME==VERSION", help="Whose ledger of known divergences applies to recorded traffic. A run says."
)
@click.option(
    "--ledger",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Your own ledger of known divergences, laid over the one parity has of the SDK.",
)
@with_reports
@click.option("--no-stale", is_flag=True, help="Exit with 1 where a recorded scenario has changed since, too.")
@with_fixtures
def check_command(
    settings: Settings,
    *,
    recording: Path,
    scenario: str | None,
    contract: str | None,
    sdk: str | None,
    ledger: Path | None,
    wanted: Wanted,
    no_stale: bool,
) -> None:
    """Judge a RECORDING offline, by today's golden traces, checks and ledger.

    A recorded run (`parity run --record`) is judged as if it were live, every scenario that has not changed since.
    Recorded traffic of one scenario (`parity record`, `parity import-har`) is judged as far as the wire tells; it
    needs --scenario and --contract.

    Exit status: 0 when everything judged held, 1 when something diverged, 2 when it could not be judged.
    """
    from harness.recording.runs import is_recorded_run

    if is_recorded_run(recording):
        if scenario is not None or sdk is not None:
            raise click.UsageError("a recorded run says itself which scenarios and whose they are")
        raise SystemExit(
            _check_run(settings, recording, contract=contract, ledger=ledger, wanted=wanted, no_stale=no_stale)
        )
    others = [option for option in wanted.files() if option != "--json"]
    if others and recording.exists():
        raise click.UsageError(f"{others[0]} is for recorded runs; of recorded traffic there is --json")
    if scenario is None or contract is None:
        if not recording.exists():
            raise _missing(recording)
        raise click.UsageError("recorded traffic needs --scenario and --contract")
    from click.core import ParameterSource

    from harness.engine.offline import check_recording

    if sdk is None and click.get_current_context().get_parameter_source("ledger") is ParameterSource.DEFAULT_MAP:
        ledger = None  # parity.toml does not know whose traffic this is
    judged = check_recording(
        settings.locations(), recording, scenario_id=scenario, contract=contract, sdk=sdk, ledger=ledger
    )
    if wanted.json_file is not None:
        _write(wanted.json_file, judged, recording)
    _show(judged)
    raise SystemExit(0 if judged.holds else 1)


def _check_run(
    settings: Settings,
    recording: Path,
    *,
    contract: str | None,
    ledger: Path | None,
    wanted: Wanted,
    no_stale: bool,
) -> int:
    from harness.cli.follow import hand, reports
    from harness.engine.recorded import judge_run
    from harness.reports import Tally

    tally = Tally()
    handlers = [tally, *reports(tally, wanted)]
    for event in judge_run(
        settings.locations(),
        recording,
        contract=contract,
        ledger=ledger,
        keep_exchange=wanted.trace,
        pictures=wanted.pictures,
    ):
        hand(handlers, event)
    stale = no_stale and tally.recording is not None and bool(tally.recording.stale)
    return max(tally.exit_status, 1 if stale else 0)


def _missing(recording: Path) -> Exception:
    from harness.errors import ParityError

    return ParityError(
        "recording-missing",
        f"there is no recording {recording}",
        hint="`parity run --record`, `parity record` and `parity import-har` write recordings",
    )


def _show(judged: Judged) -> None:
    from harness.reports.text import cause_of, for_terminal

    def say(text: str) -> None:
        click.echo(for_terminal(text))

    for result in judged.results:
        if result.outcome == "pass":
            continue
        say(f"{result.outcome:8} {result.check}  {result.message}")
        for name in ("expected", "observed", "where", "cause"):
            value = cause_of(result) if name == "cause" else getattr(result, name)
            if value:
                say(f"{'':8}   {name:8}  {value}")
    reasons: dict[str, list[str]] = {}
    for check, reason in judged.left_out:
        reasons.setdefault(reason, []).append(check)
    for reason, checks in reasons.items():
        say(f"left out {', '.join(checks)}: {reason}")
    if judged.note:
        say(f"note     {judged.note}")
    passed = sum(result.outcome == "pass" for result in judged.results)
    say(
        f"{judged.scenario} at {judged.contract}: {passed} of {len(judged.results)} checks passed, "
        f"{len(judged.left_out)} left out"
    )


def _write(file: Path, judged: Judged, recording: Path) -> None:
    import json

    import msgspec

    from harness.cli.outputs import write_output

    document = {
        "schema": 1,
        "recording": str(recording),
        "scenario": judged.scenario,
        "contract": judged.contract,
        "results": [msgspec.to_builtins(result) for result in judged.results],
        "note": judged.note,
        "left_out": [{"check": check, "reason": reason} for check, reason in judged.left_out],
    }
    write_output(file, (json.dumps(document, indent=1) + "\n").encode())
