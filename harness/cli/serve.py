"""`parity serve`: the mock server on its own."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import click

from harness.cli import Settings, with_settings
from harness.cli.completing import contracts, scenarios

if TYPE_CHECKING:
    from mock_server.record import Violation

TOLD = 50
"""A client that is wrong in every request must not flood the terminal."""

_WIDTH = 300


class _Teller:
    """Writes a line for each of the first violations, and says when it stops."""

    def __init__(self) -> None:
        self._count = 0

    def tell(self, violation: Violation) -> None:
        """Write one violation; what the client sent is spelled, cut, and on one line."""
        self._count += 1
        if self._count <= TOLD:
            what = "not in the trace" if violation.code == "not-in-trace" else violation.code
            said = violation.message.encode("unicode_escape").decode("ascii")
            self._write(f"{what}: {said[:_WIDTH]} (request {violation.request})")
        elif self._count == TOLD + 1:
            self._write(f"more than {TOLD}: no further ones are shown")

    def _write(self, line: str) -> None:
        with suppress(OSError):  # a terminal that is gone must not fail a request
            click.echo(line)


@click.command("serve")
@click.option("--port", type=click.IntRange(0, 65535), default=0, show_default="chosen by the system", help="Port.")
@click.option(
    "--scenario",
    metavar="ID",
    help="Answer as the server does in this scenario: `parity show` says how.",
    shell_complete=scenarios,
)
@click.option(
    "--replay", metavar="ID", help="Answer with the golden responses of this scenario.", shell_complete=scenarios
)
@click.option(
    "--contract",
    metavar="ID",
    help="Which contract to replay. Default: the newest that is described.",
    shell_complete=contracts,
)
@with_settings
def serve_command(
    settings: Settings, *, port: int, scenario: str | None, replay: str | None, contract: str | None
) -> None:
    """Run the mock server until Ctrl-C. It listens on 127.0.0.1 and opens a tenant for every API key it sees."""
    import signal
    import threading

    from harness.errors import ParityError
    from mock_server import MockServer, Registry

    script = answers = None
    told = ""
    if contract is not None and replay is None:
        raise click.UsageError("--contract needs --replay")
    if scenario is not None and replay is not None:
        raise click.UsageError("--scenario and --replay exclude each other: a replay answers as its scenario does")
    if replay is not None:
        from harness.engine.replaying import served

        script, answers, point = served(settings.locations(), replay, contract)
        told = f"replays   {replay} at {point}, from the start for each API key"
    if scenario is not None:
        from harness.engine.lookup import scenario_called
        from harness.engine.prepare import open_suite

        script = scenario_called(open_suite(settings.locations()), scenario).stimulus.server

    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    registry = Registry(open_to_all=True, script=script, replay=answers, on_violation=_Teller().tell)
    server = MockServer(registry, port=port)
    try:
        server.start()
    except OSError as error:
        raise ParityError(
            "port-taken", f"cannot listen on port {port}: {error}", hint="leave --port out and the system chooses one"
        ) from error
    try:
        click.echo(f"base URL  {server.base_url}")
        click.echo("API key   any key that starts with tml-, for example tml-local; each key is a server of its own")
        if told:
            click.echo(told)
        click.echo("Ctrl-C ends it.")
        ended.wait()
    finally:
        server.stop()
