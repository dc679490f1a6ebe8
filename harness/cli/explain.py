"""`parity explain`."""

from __future__ import annotations

import click

from harness.cli.completing import codes


@click.command("explain")
@click.argument("code", required=False, shell_complete=codes)
def explain_command(*, code: str | None) -> None:
    """Explain a CODE of a report: a cause, a check, an error, an outcome. Without one, list them all."""
    from harness.engine.explain import every_code, explain

    click.echo(every_code() if code is None else explain(code))
