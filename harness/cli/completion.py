"""`parity completion`: what a shell needs to complete commands, options, scenarios and codes."""

from __future__ import annotations

import click

from harness.cli import main

SHELLS = ("bash", "zsh", "fish")


@click.command("completion")
@click.argument("shell", type=click.Choice(SHELLS))
def completion_command(*, shell: str) -> None:
    """Print the completion script of a SHELL: bash, zsh or fish.

    For bash: parity completion bash > ~/.parity-completion, and source that file in ~/.bashrc.
    """
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    assert found is not None
    click.echo(found(main, {}, "parity", "_PARITY_COMPLETE").source())
