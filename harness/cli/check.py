"""`parity check`: judge a recording."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli import Settings, with_fixtures

if TYPE_CHECKING:
    from harness.engine.offline import Judged


@click.command("check")
@click.argument("recording", type=click.Path(path_type=Path))
@click.option("--scenario", required=True, metavar="ID", help="The scenario that was run.")
@click.option("--contract", required=True, metavar="ID", help="The contract to judge by, such as tinker-0.38.0.")
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Write the verdicts here.")
@with_fixtures
def check_command(settings: Settings, *, recording: Path, scenario: str, contract: str, json_file: Path | None) -> None:
    """Judge a RECORDING of one run of a scenario by its golden trace, as far as the wire tells.

    Exit status: 0 when every judged check passed, 1 when one did not, 2 when it could not be judged.
    """
    from harness.engine.offline import check_recording

    judged = check_recording(settings.locations(), recording, scenario_id=scenario, contract=contract)
    if json_file is not None:
        _write(json_file, judged, recording)
    _show(judged)
    raise SystemExit(0 if judged.holds else 1)


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
    passed = sum(result.outcome == "pass" for result in judged.results)
    say(
        f"{judged.scenario} at {judged.contract}: {passed} of {len(judged.results)} checks passed, "
        f"{len(judged.left_out)} left out"
    )


def _write(file: Path, judged: Judged, recording: Path) -> None:
    import json
    import os

    import msgspec

    document = {
        "schema": 1,
        "recording": str(recording),
        "scenario": judged.scenario,
        "contract": judged.contract,
        "results": [msgspec.to_builtins(result) for result in judged.results],
        "left_out": [{"check": check, "reason": reason} for check, reason in judged.left_out],
    }
    beside = file.with_name(f"{file.name}.{os.getpid()}.new")
    beside.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    beside.replace(file)
