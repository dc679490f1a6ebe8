"""`parity diff`: two JSON reports, offline."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from harness.gate.diff import Difference

_REPORT = click.Path(path_type=Path)


@click.command("diff")
@click.argument("old", type=_REPORT)
@click.argument("new", type=_REPORT)
@click.option("-k", "expression", metavar="EXPRESSION", help="Compare what matches, as with `parity run`.")
@click.option(
    "--json",
    "json_file",
    type=click.Path(dir_okay=False, allow_dash=True, path_type=Path),
    metavar="FILE",
    help="Write the difference here. A dash is stdout, and nothing else is written there then.",
)
def diff_command(*, old: Path, new: Path, expression: str | None, json_file: Path | None) -> None:
    """Compare the JSON reports OLD and NEW of runs of the same SDK. Nothing is run.

    Exit status: 0 when nothing is new, 1 when something is new or changed, 2 when that cannot be said.
    """
    import json

    from msgspec import to_builtins

    from harness.cli.outputs import refuse_unwritable, write_output
    from harness.gate.diff import difference
    from harness.gate.reading import read_report
    from harness.reports.text import for_json

    if json_file is not None and str(json_file) != "-":
        refuse_unwritable("--json", json_file)
    found = difference(*read_report(old), *read_report(new), expression=expression)
    text = for_json(json.dumps(to_builtins(found), indent=1, ensure_ascii=False)) + "\n"
    if json_file is not None and str(json_file) != "-":
        write_output(json_file, text.encode("utf-8", "backslashreplace"))
    if str(json_file) == "-":
        click.echo(text, nl=False)
    else:
        _show(found)
    raise SystemExit(found.exit_status)


def _show(found: Difference) -> None:
    from harness.reports.standing import Standing, counted, standing_lines
    from harness.reports.text import for_terminal

    def say(text: str) -> None:
        click.echo(for_terminal(text))

    say(f"{found.old.sdk} {found.old.version} -> {found.new.version} against {found.new.contract}")
    for sentence in found.apart:
        say(f"{'':16}{sentence}")
    standings = [Standing(each.label, each.scenario, each.check, each.said, each.message) for each in found.told]
    for line in standing_lines(standings):
        say(line)
    unscored = sum(not each.counts for each in found.told)
    say("")
    say(f"{counted(standings)}; {found.unchanged} as before{f'; {unscored} of these unscored' if unscored else ''}")
    besides = found.counts["new-in-suite"]
    say(
        {
            0: f"nothing is new in what both have; the report says how the {besides} more stand"
            if besides
            else "nothing is new",
            1: "something is new or changed",
            2: "whether something is new cannot be said: not everything is comparable",
        }[found.exit_status]
    )
