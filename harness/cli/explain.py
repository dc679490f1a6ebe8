"""`parity explain`."""

from __future__ import annotations

import click


@click.command("explain")
@click.argument("code", required=False)
def explain_command(*, code: str | None) -> None:
    """Explain a CODE of a report: a cause, a check or an error. Without one, list them all."""
    from harness.engine.explain import every_code, explain

    click.echo(every_code() if code is None else explain(code))
