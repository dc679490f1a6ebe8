"""What the shell may complete: scenario ids, contracts, codes and SDKs. Nothing here loads torch, numpy or the server.

A completer never fails: where files are missing or damaged it has nothing to offer, and the command itself says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from harness.errors import ParityError


def scenarios(ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the ids of the suite's scenarios, and of the user's own."""
    from harness.locations import locate

    try:
        places = locate(_told(ctx, "root"), _told(ctx, "fixtures"))
    except ParityError:
        return []
    folders = [places.fixtures, *([places.own] if places.own else [])]
    ids = (
        path.relative_to(folder / "scenarios").with_suffix("").as_posix()
        for folder in folders
        for path in (folder / "scenarios").rglob("*.toml")
    )
    return _beginning(ids, incomplete)


def contracts(ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the described contract points, newest first."""
    from harness.contracts.timeline import load_timeline
    from harness.locations import locate

    try:
        described = load_timeline(locate(_told(ctx, "root")).timeline).described
    except (ParityError, OSError):
        return []
    return _beginning((f"tinker-{release}" for release in reversed(described)), incomplete, ordered=True)


def subjects(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer what --sdk can say: described releases of the official SDK, Tinkex, the reference."""
    releases = [item.value.replace("-", "==", 1) for item in contracts(ctx, parameter, "")]
    return _beginning(["reference", "tinkex", *releases], incomplete, ordered=True)


def languages(_ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the languages that there is a skeleton of a driver for."""
    from harness.drivers.scaffold import LANGUAGES

    return _beginning(LANGUAGES, incomplete)


def codes(_ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the codes that `parity explain` knows."""
    from harness.engine.explain import every_code

    found = re.findall(r"^  (\S+)", every_code(), re.MULTILINE)
    return _beginning(found, incomplete)


def _beginning(names: Iterable[str], incomplete: str, *, ordered: bool = False) -> list[CompletionItem]:
    found = [name for name in dict.fromkeys(names) if name.startswith(incomplete)]
    return [CompletionItem(name) for name in (found if ordered else sorted(found))]


def _told(ctx: click.Context, name: str) -> Path | None:
    """Return a folder that an option of the command, or of the whole command line, names."""
    for level in (ctx, ctx.parent):
        if level is not None and isinstance(value := level.params.get(name), Path):
            return value
    return None
