"""`parity serve`: the mock server on its own."""

from __future__ import annotations

import click


@click.command("serve")
@click.option("--port", type=click.IntRange(0, 65535), default=0, show_default="chosen by the system", help="Port.")
def serve_command(*, port: int) -> None:
    """Run the mock server until Ctrl-C. It listens on 127.0.0.1 and opens a tenant for every API key it sees."""
    import signal
    import threading

    from harness.errors import ParityError
    from mock_server import MockServer, Registry

    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    server = MockServer(Registry(open_to_all=True), port=port)
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
