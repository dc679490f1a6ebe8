"""Reads the scenarios and losses below a folder, strictly."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from harness.errors import ParityError
from harness.suite import canonical
from harness.suite.losses.validate import validate
from harness.suite.rules import capabilities, check_scenario, losses_used
from harness.suite.scenario import Loss, Scenario

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Suite:
    """Scenarios by id and losses by name, both in order; every scenario is valid together with its losses.

    `own` are the ids of the scenarios that came from the user's own folder.
    """

    scenarios: dict[str, Scenario]
    losses: dict[str, Loss]
    own: frozenset[str] = frozenset()
    _digests: dict[str, str] = field(default_factory=dict, repr=False, compare=False)

    def digest(self, scenario: Scenario) -> str:
        """Return the SHA-256 (hexadecimal) over the stimulus and the contents of the losses it names.

        Title, reason, checks, tolerance and timeout are not part of it, nor are a loss's `about` and the order of
        keys.
        """
        known = self._digests.get(scenario.id)
        if known is None or self.scenarios.get(scenario.id) is not scenario:
            losses = {name: msgspec.structs.replace(self.losses[name], about="") for name in losses_used(scenario)}
            known = canonical.digest({"stimulus": scenario.stimulus, "losses": losses})
            if self.scenarios.get(scenario.id) is scenario:
                self._digests[scenario.id] = known
        return known


def load_suite(root: Path, own: Path | None = None) -> Suite:
    """Read `fixtures/scenarios/**/*.toml` and `fixtures/losses/*.json` below `root`, and the user's own below `own`.

    `own` adds: its scenarios may name losses of `root`, but nothing in it may have the id or name of what `root` has.

    Raises ParityError: `scenario-malformed` (not TOML, or not of the schema: names file, key and what was expected),
    `scenario-id-mismatch`, `loss-malformed`, `scenario-id-taken`, `loss-name-taken`, and what `harness.suite.rules`
    raises about a scenario's content.
    """
    losses = _load_losses(root / "fixtures" / "losses")
    scenarios = _load_scenarios(root / "fixtures" / "scenarios", losses)
    if own is None:
        return Suite(dict(sorted(scenarios.items())), losses)
    own_losses = _load_losses(own / "losses")
    if taken := sorted(own_losses.keys() & losses.keys()):
        raise ParityError(
            "loss-name-taken",
            f"{own / 'losses' / taken[0]}.json: the suite has a loss called {taken[0]!r}",
            hint="give your own loss another name",
        )
    losses = dict(sorted((losses | own_losses).items()))
    own_scenarios = _load_scenarios(own / "scenarios", losses)
    if taken := sorted(own_scenarios.keys() & scenarios.keys()):
        raise ParityError(
            "scenario-id-taken",
            f"{own / 'scenarios' / taken[0]}.toml: the suite has a scenario with the id {taken[0]!r}",
            hint="put your own scenarios in a folder whose name the suite does not use, such as own/",
        )
    return Suite(dict(sorted((scenarios | own_scenarios).items())), losses, frozenset(own_scenarios))


def _load_losses(folder: Path) -> dict[str, Loss]:
    return {path.stem: load_loss(path) for path in sorted(folder.glob("*.json"))}


def _load_scenarios(folder: Path, losses: Mapping[str, Loss]) -> dict[str, Scenario]:
    scenarios: dict[str, Scenario] = {}
    for path in sorted(folder.rglob("*.toml")):
        scenario = load_scenario(path, losses)
        expected = path.relative_to(folder).with_suffix("").as_posix()
        if scenario.id != expected:
            raise ParityError(
                "scenario-id-mismatch",
                f"{path}: the id is {scenario.id!r}",
                hint=f"the id of this file is its path, {expected!r}",
            )
        scenarios[scenario.id] = scenario
    return scenarios


def load_scenario(path: Path, losses: Mapping[str, Loss]) -> Scenario:
    """Read one scenario and check it against the losses there are. Raises ParityError as `load_suite` does."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ParityError("scenario-malformed", f"{path}: not TOML: {error}", hint="correct the file") from error
    scenario = _convert(content, Scenario, path, code="scenario-malformed", schema="scenario.schema.json")
    check_scenario(scenario, losses, place=str(path))
    return scenario


def load_loss(path: Path) -> Loss:
    """Read and validate one loss. Raises ParityError `loss-malformed`."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
    except (json.JSONDecodeError, UnicodeDecodeError, _NotPlainError) as error:
        raise ParityError("loss-malformed", f"{path}: not JSON: {error}", hint="correct the file") from error
    loss = _convert(content, Loss, path, code="loss-malformed", schema="loss.schema.json")
    validate(loss, place=str(path))
    return loss


def required_capabilities(scenario: Scenario, losses: Mapping[str, Loss]) -> frozenset[str]:
    """Return the capabilities a driver needs: operations by their `do`, `concurrent`, and what the losses need."""
    return capabilities(scenario, losses)


class _NotPlainError(Exception):
    """JSON that readers take differently."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        keys = [key for key, _ in pairs]
        raise _NotPlainError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} is given twice")
    return result


def _no_constant(name: str) -> Any:
    raise _NotPlainError(f"{name} is not a JSON number")


def _convert(content: Any, kind: type[_T], path: Path, *, code: str, schema: str) -> _T:
    try:
        return msgspec.convert(content, kind)
    except msgspec.ValidationError as error:
        # msgspec says "Expected `int`, got `str` - at `$.stimulus.steps[0].id`".
        what, _, where = str(error).partition(" - at ")
        place = where.strip("`").removeprefix("$").removeprefix(".") or "top level"
        raise ParityError(code, f"{path}: {place}: {what}", hint=f"docs/schema/{schema} is the schema") from error
