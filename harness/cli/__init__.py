"""The command line: thin commands over the engine. It decides nothing; it parses, calls and prints.

`parity --help` must answer at once, so that nothing here imports torch, numpy or the server at the top of a module:
each command imports what it needs when it runs.
"""

from __future__ import annotations

import io
import signal
import sys
from collections.abc import Callable
from functools import wraps
from importlib import import_module, metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, ParamSpec

import click

from harness.errors import ParityError

if TYPE_CHECKING:
    from harness.drivers.command import DriverCommand
    from harness.locations import Locations
    from harness.settings import DriverSettings

P = ParamSpec("P")

_COMMANDS = {
    "run": "harness.cli.run",
    "gate": "harness.cli.gate",
    "diff": "harness.cli.diff",
    "plan": "harness.cli.shards",
    "merge": "harness.cli.shards",
    "list": "harness.cli.look",
    "show": "harness.cli.look",
    "serve": "harness.cli.serve",
    "record": "harness.cli.record",
    "import-har": "harness.cli.record",
    "check": "harness.cli.check",
    "work": "harness.cli.work",
    "golden": "harness.cli.golden",
    "certify": "harness.cli.golden",
    "suite": "harness.cli.suite",
    "explain": "harness.cli.explain",
    "repro": "harness.cli.repro",
    "selftest": "harness.cli.selftest",
    "new-driver": "harness.cli.new_driver",
    "check-driver": "harness.cli.check_driver",
    "drive": "harness.cli.drive",
    "completion": "harness.cli.completion",
}


class LazyGroup(click.Group):
    """A group that imports the module of a command when the command, or the list of commands, is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the names in the order a newcomer needs them."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        """Return the command called `cmd_name`, or None."""
        if cmd_name not in _COMMANDS:
            return None
        command = getattr(import_module(_COMMANDS[cmd_name]), f"{cmd_name.replace('-', '_')}_command")
        assert isinstance(command, click.Command)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; show what the user can mend as code, message and hint, with status 2."""
        # The jobs that a script starts in the background ignore SIGINT; who sends one to parity means it.
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            return super().invoke(ctx)
        except ParityError as error:
            fail(error)
        except KeyboardInterrupt:
            # Before a run has begun; afterwards the run itself takes the signal and still writes its reports.
            click.echo("interrupted", err=True)
            raise SystemExit(2) from None


def fail(error: ParityError) -> NoReturn:
    """Print `error` to stderr and exit with its status."""
    from harness.reports.text import for_terminal

    click.echo(for_terminal(f"error [{error.code}] {error.message}"), err=True)
    click.echo(for_terminal(f"hint  {error.hint}"), err=True)
    raise SystemExit(error.exit_status)


class Settings:
    """What the options of the whole command line say, and parity.toml where they say nothing."""

    def __init__(
        self, root: Path | None, fixtures: Path | None = None, own_driver: DriverSettings | None = None
    ) -> None:
        self.root = root
        self.fixtures = fixtures
        self.own_driver = own_driver

    def locations(self) -> Locations:
        """Return where everything is, the user's own scenarios included. Raises ParityError as `locate` does."""
        from harness.locations import locate

        return locate(self.root, self.fixtures)

    def driver(self, typed: str | None, *, sdk_typed: bool) -> DriverCommand | None:
        """Return the driver of the user's own: `--driver`, else the project's unless `--sdk` was typed; or None."""
        from harness.drivers.command import DriverCommand

        if typed is not None:
            return DriverCommand(typed, Path.cwd())
        if self.own_driver is None or sdk_typed:
            return None
        return DriverCommand(
            self.own_driver.command, self.own_driver.folder, dict(self.own_driver.environment), typed=False
        )


def with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Pass the command line's `Settings` to a command as its first argument."""

    @click.pass_context
    @wraps(command)
    def wrapped(ctx: click.Context, /, **options: Any) -> None:
        settings = ctx.find_object(Settings)
        assert settings is not None
        command(settings, **options)

    return wrapped


def typed(parameter: str) -> bool:
    """Return whether an option of the running command was given on the command line."""
    from click.core import ParameterSource

    return click.get_current_context().get_parameter_source(parameter) is ParameterSource.COMMANDLINE


FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


def with_fixtures(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the option --fixtures, and its `Settings` as first argument."""

    @click.option("--fixtures", type=FOLDER, metavar="DIR", help="Folder of your own scenarios and losses.")
    @click.pass_context
    @wraps(command)
    def wrapped(ctx: click.Context, /, *, fixtures: Path | None, **options: Any) -> None:
        settings = ctx.find_object(Settings)
        assert settings is not None
        command(settings if fixtures is None else Settings(settings.root, fixtures, settings.own_driver), **options)

    return wrapped


def _version() -> str:
    try:
        return metadata.version("parity")
    except metadata.PackageNotFoundError:
        return "(not installed)"


def _print_version(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from harness.locations import locate

        try:
            revision = locate(ctx.params.get("root")).revision
        except ParityError as error:
            fail(error)
        click.echo(f"parity {_version()}, {f'suite revision {revision}' if revision else 'suite not released yet'}")
        ctx.exit()


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--root",
    type=FOLDER,
    is_eager=True,  # --version asks for it
    help="Folder that holds fixtures/ and golden/. Default: what was installed with parity.",
)
@click.option("--fixtures", type=FOLDER, metavar="DIR", help="Folder of your own scenarios, added to the suite.")
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="Show the version."
)
@click.pass_context
def main(ctx: click.Context, root: Path | None, fixtures: Path | None) -> None:
    """Check what an SDK of the Tinker training API sends, against golden traces of the official one.

    Defaults come from parity.toml, in the current folder or the nearest one above: fixtures, ledger, sdk, jobs, suite,
    driver.

    Exit status: 0 everything held, 1 something diverged, 2 it could not be run (bad options, no such SDK or
    scenario, corrupted golden files, interrupted).
    """
    from harness.settings import read_settings

    if isinstance(sys.stdout, io.TextIOWrapper):
        # What a subject says may have characters that this terminal has not; they must not end the run.
        sys.stdout.reconfigure(errors="backslashreplace")
    told = read_settings(Path.cwd())
    ctx.obj = Settings(root, fixtures or told.fixtures, told.driver)
    ctx.default_map = {"run": told.run, "gate": told.run, "work": told.run, "check": told.check}
