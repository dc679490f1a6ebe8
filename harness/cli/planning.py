"""What to drive and how: one list of options for every command that runs an SDK, and the plan they ask for."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli import Settings, typed
from harness.cli.completing import contracts, subjects

if TYPE_CHECKING:
    from harness.drivers.command import DriverCommand
    from harness.engine.plan import Plan
    from harness.locations import Locations

MOST_SHARDS = 256
"""So many jobs a matrix of GitHub Actions has at most."""

JOBS = max(1, min(4, os.cpu_count() or 1))


def _part(_ctx: click.Context, _parameter: click.Parameter, value: str | None) -> tuple[int, int] | None:
    """Return the number of a part and how many there are: 2/4 is the second of four."""
    if value is None:
        return None
    index, slash, of = value.partition("/")
    if not (slash and value.isascii() and index.isdecimal() and of.isdecimal()):
        raise click.BadParameter(f"{value!r} is not I/N, such as 2/4")
    if not 1 <= int(index) <= int(of) <= MOST_SHARDS:
        raise click.BadParameter(f"{value!r}: I counts from 1 to N, and N is {MOST_SHARDS} at most")
    return int(index), int(of)


_OPTIONS = (
    click.option(
        "--sdk",
        metavar="SDK",
        shell_complete=subjects,
        help="'tinker==VERSION' (from the package index), 'tinkex==VERSION' (from Hex), 'tinkex' (the checkout in this "
        "folder, or the release that parity knows), or 'reference' (built in). With --driver: what it has to say it "
        "drives.",
    ),
    click.option(
        "--driver",
        metavar="COMMAND",
        help="Start a driver of your own, such as 'node driver.mjs'; it says itself what it drives.",
    ),
    click.option(
        "--sdk-path",
        type=click.Path(path_type=Path),
        metavar="DIR",
        help="Drive this checkout, unpacked wheel or build; it is never written to. With --sdk tinker==VERSION or "
        "tinkex.",
    ),
    click.option(
        "--contract",
        metavar="ID",
        shell_complete=contracts,
        help="The contract to judge by, such as tinker-0.15.0. Default: the one of the subject's version.",
    ),
    click.option(
        "-k",
        "expression",
        metavar="EXPRESSION",
        help="Run what matches: parts of 'scenario:check', joined by and, or, not and parentheses.",
    ),
    click.option(
        "--jobs",
        type=click.IntRange(1, 64),
        default=JOBS,
        show_default="cores, at most 4",
        help="Driver processes at most.",
    ),
    click.option(
        "--timeout",
        type=click.FloatRange(min=0, min_open=True),
        metavar="SECONDS",
        help="Limit for each scenario instead of its own; a call still open then is a hang.",
    ),
    click.option("--slow", is_flag=True, help="Include slow scenarios: those that wait for seconds on purpose."),
    click.option(
        "--ledger",
        type=click.Path(dir_okay=False, path_type=Path),
        metavar="FILE",
        help="Your own ledger of known divergences, laid over the one parity has of the SDK.",
    ),
    click.option(
        "--python",
        metavar="PYTHON",
        help="The interpreter of a Python SDK's environment: a path, a name, or a version found here.",
    ),
    click.option(
        "--subject-constraints",
        "constraints",
        type=click.Path(dir_okay=False, path_type=Path),
        metavar="FILE",
        help="What a release's dependencies are resolved to at most: a file as pip's -c takes it; Tinkex: a mix.lock.",
    ),
    click.option(
        "--suite",
        "revision",
        type=click.IntRange(min=1),
        metavar="N",
        help="Score what revision N of the suite has; what is later is run, reported, and decides nothing.",
    ),
    click.option(
        "--shard",
        callback=_part,
        metavar="I/N",
        help="Run the I-th of N parts of the selection; `parity merge` puts their JSON reports together.",
    ),
    click.option("--replay", is_flag=True, help="Answer with golden responses instead of computing any."),
)


@dataclass(frozen=True, slots=True)
class Asked:
    """What the options say is to be driven, and how."""

    sdk: str | None
    driver: DriverCommand | None
    sdk_path: Path | None
    contract: str | None
    expression: str | None
    jobs: int
    timeout: float | None
    slow: bool
    ledger: Path | None
    python: str | None
    constraints: Path | None
    revision: int | None
    shard: tuple[int, int] | None
    replay: bool


def with_plan(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that say what is driven and how, and what they say as the argument `asked`."""
    names = tuple(Asked.__dataclass_fields__)

    @wraps(command)
    def wrapped(*arguments: Any, **options: Any) -> None:
        settings = click.get_current_context().find_object(Settings)
        assert settings is not None
        options["driver"] = settings.driver(options["driver"], sdk_typed=typed("sdk"))
        asked = Asked(**{name: options.pop(name) for name in names})
        command(*arguments, asked=asked, **options)

    decorated: Callable[..., None] = wrapped
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return decorated


def planned(locations: Locations, asked: Asked, *, keep_exchange: bool, pictures: bool = False) -> Plan:
    """Return the plan that was asked for. Raises ParityError as `harness.engine.prepare.prepare` does."""
    from harness.engine.prepare import prepare

    plan = prepare(
        locations,
        sdk=asked.sdk,
        driver=asked.driver,
        sdk_path=asked.sdk_path,
        contract=asked.contract,
        expression=asked.expression,
        jobs=asked.jobs,
        timeout=asked.timeout,
        keep_exchange=keep_exchange,
        pictures=pictures,
        slow=asked.slow,
        ledger=asked.ledger,
        revision=asked.revision,
        python=asked.python,
        constraints=asked.constraints,
    )
    if asked.replay:
        from harness.engine.replaying import LEFT_OUT, replayed

        plan = replayed(plan)
        if plan.left_out:
            click.echo(f"{len(plan.left_out)} training checks are left out: {LEFT_OUT}", err=True)
    if asked.shard is not None:
        from harness.engine.sharding import read_costs, sharded

        plan = sharded(plan, *asked.shard, costs=read_costs(locations.costs))
    return plan
