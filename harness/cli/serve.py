"""`parity serve`: the mock server on its own."""

from __future__ import annotations

import click

from harness.cli import Settings, with_settings


@click.command("serve")
@click.option("--port", type=click.IntRange(0, 65535), default=0, show_default="chosen by the system", help="Port.")
@click.option("--scenario", metavar="ID", help="Answer as the server does in this scenario: `parity show` says how.")
@click.option("--replay", metavar="ID", help="Answer with the golden responses of this scenario.")
@click.option("--contract", metavar="ID", help="Which contract to replay. Default: the newest that is described.")
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
    server = MockServer(Registry(open_to_all=True, script=script, replay=answers), port=port)
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
