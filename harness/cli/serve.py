"""`parity serve`: the mock server on its own."""

from __future__ import annotations

import click

from harness.cli import Settings, with_settings


@click.command("serve")
@click.option("--port", type=click.IntRange(0, 65535), default=0, show_default="chosen by the system", help="Port.")
@click.option("--scenario", metavar="ID", help="Answer as the server does in this scenario: `parity show` says how.")
@with_settings
def serve_command(settings: Settings, *, port: int, scenario: str | None) -> None:
    """Run the mock server until Ctrl-C. It listens on 127.0.0.1 and opens a tenant for every API key it sees."""
    import signal
    import threading

    from harness.errors import ParityError
    from mock_server import MockServer, Registry

    script = None
    if scenario is not None:
        from harness.engine.lookup import scenario_called
        from harness.engine.prepare import open_suite
        from harness.locations import locate

        script = scenario_called(open_suite(locate(settings.root)), scenario).stimulus.server

    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    server = MockServer(Registry(open_to_all=True, script=script), port=port)
    try:
        server.start()
    except OSError as error:
        raise ParityError(
            "port-taken", f"cannot listen on port {port}: {error}", hint="leave --port out and the system chooses one"
        ) from error
    try:
        click.echo(f"base URL  {server.base_url}")
        click.echo("API key   any key that starts with tml-, for example tml-local; each key is a server of its own")
        click.echo("Ctrl-C ends it.")
        ended.wait()
    finally:
        server.stop()
