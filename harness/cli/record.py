"""`parity record` and `parity import-har`: real traffic, kept to be judged later."""

from __future__ import annotations

from pathlib import Path

import click

_OUT = click.option(
    "--out",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Folder to write the recording to; it must not exist, or be empty.",
)
_NO_SCRUB = click.option(
    "--no-scrub",
    is_flag=True,
    help="Keep keys and tokens in bodies, and user metadata. Secret headers are never kept.",
)


@click.command("record")
@click.option("--upstream", required=True, metavar="URL", help="Where requests go: the base URL an SDK would be given.")
@_OUT
@click.option("--port", type=click.IntRange(0, 65535), default=0, show_default="chosen by the system", help="Port.")
@_NO_SCRUB
def record_command(*, upstream: str, out: Path, port: int, no_scrub: bool) -> None:
    """Pass everything on to a server and record it, until Ctrl-C.

    Listens on 127.0.0.1. Every exchange is written as it comes; what a killed process leaves can be checked too.
    """
    import signal
    import threading

    from harness.errors import ParityError
    from harness.recording.journal import Journal
    from harness.recording.proxy import RecordingProxy
    from harness.recording.store import check_free, finish_recording, unwritable

    check_free(out)
    try:
        journal = Journal(out, scrubbing=not no_scrub)
    except OSError as error:
        raise unwritable(out, error) from error
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    proxy = RecordingProxy(upstream, port=port, keep=journal.append)
    try:
        proxy.start()
    except OSError as error:
        journal.discard()
        raise ParityError(
            "port-taken", f"cannot listen on port {port}: {error}", hint="leave --port out and the system chooses one"
        ) from error
    try:
        click.echo(f"base URL  {proxy.base_url}")
        click.echo("Ctrl-C ends it and finishes the recording.")
        ended.wait()
    finally:
        proxy.stop()
        journal.close()
    if journal.trouble is not None:
        raise unwritable(out, journal.trouble)
    taken = finish_recording(out)
    click.echo(f"{len(taken.record.exchanges)} requests written to {out}")


@click.command("import-har")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@_OUT
@_NO_SCRUB
def import_har_command(*, file: Path, out: Path, no_scrub: bool) -> None:
    """Make a recording of the requests to the service's API in a HAR 1.2 FILE."""
    from harness.recording.assemble import assemble
    from harness.recording.har import read_har
    from harness.recording.store import write_recording

    record = assemble(read_har(file), scrubbing=not no_scrub)
    write_recording(out, record, scrubbed=not no_scrub)
    click.echo(f"{len(record.exchanges)} requests written to {out}")
