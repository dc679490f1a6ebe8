"""The reports a command can write: one list of options for every command that judges."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any

import click

from harness.cli.outputs import refuse_unwritable
from harness.errors import ParityError

_FILE = click.Path(dir_okay=False, path_type=Path)


def _file(name: str, says: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    return click.option(f"--{name}", f"{name}_file", type=_FILE, metavar="FILE", help=says)


_OPTIONS = (
    _file("json", "Write the JSON report here: everything, for programs."),
    _file("junit", "Write JUnit XML here."),
    _file("markdown", "Write a summary in Markdown here, such as $GITHUB_STEP_SUMMARY."),
    _file("html", "Write a page to look at here: one file, no network."),
    _file("badge", "Write the JSON of a shields.io endpoint badge here."),
    _file("support", "Write a table of what is supported here, or between its marks in a README."),
    click.option("--annotations", is_flag=True, help="End with GitHub workflow commands (::error) on stdout."),
    click.option("--trace", is_flag=True, help="Show the HTTP exchange of failing scenarios, with times."),
)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which reports were asked for, beside the console. What they need of a run the plan has to be told."""

    json_file: Path | None = None
    junit_file: Path | None = None
    markdown_file: Path | None = None
    html_file: Path | None = None
    badge_file: Path | None = None
    support_file: Path | None = None
    annotations: bool = False
    trace: bool = False

    @property
    def pictures(self) -> bool:
        """Whether a report draws what scenarios looked like."""
        return self.html_file is not None

    def files(self) -> dict[str, Path]:
        """Return the files to be written, by option."""
        named = {name.removesuffix("_file"): getattr(self, name) for name in self.__slots__ if name.endswith("_file")}
        return {f"--{name}": path for name, path in named.items() if path is not None}

    def refuse_unwritable(self) -> None:
        """Raise ParityError `report-unwritable` or `report-twice`, `support-unmarked`: before a run, not after it."""
        seen: dict[Path, str] = {}
        for option, path in self.files().items():
            place = path.resolve()
            if place in seen:
                raise ParityError(
                    "report-twice", f"{seen[place]} and {option} both name {path}", hint="give each report its own file"
                )
            seen[place] = option
            _try(option, path)
        if self.support_file is not None:
            from harness.reports.support import check_marks

            check_marks(self.support_file)


def _try(option: str, path: Path) -> None:
    if str(path) == "-":
        raise ParityError(
            "report-unwritable", f"{option} -: stdout has the report for people", hint="name a file, or /dev/stdout"
        )
    refuse_unwritable(option, path)


def with_reports(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of reports, and what they say as the argument `wanted`.

    A report that could not be written is refused before the command begins, as `Wanted.refuse_unwritable` says.
    """
    names = tuple(Wanted.__dataclass_fields__)

    @wraps(command)
    def wrapped(*arguments: Any, **options: Any) -> None:
        wanted = Wanted(**{name: options.pop(name) for name in names})
        wanted.refuse_unwritable()
        command(*arguments, wanted=wanted, **options)

    decorated: Callable[..., None] = wrapped
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return decorated
