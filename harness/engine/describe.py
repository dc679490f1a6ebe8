"""Scenarios as text, for `parity list` and `parity show`."""

from __future__ import annotations

import difflib
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from harness.checks.registry import CHECKS
from harness.contracts.timeline import load_timeline
from harness.engine.prepare import choose, golden_stores, open_suite
from harness.errors import ParityError
from harness.locations import Locations
from harness.suite.judging import Asked, checks_at, every_check
from harness.suite.loader import Suite
from harness.suite.scenario import Also, ClientOptions, DataSpec, Scenario
from harness.trace.model import Request, Trace
from mock_server.script import Script

_WIDTH = 100


def listing(locations: Locations, *, expression: str | None = None) -> str:
    """Return the scenarios that `expression` selects, each with its checks. Raises what `prepare` raises."""
    suite, described = open_suite(locations), load_timeline(locations.timeline).described
    chosen = choose(suite, expression)
    lines = []
    for scenario_id, checks in chosen.items():
        scenario = suite.scenarios[scenario_id]
        lines.append(f"{scenario_id}  {scenario.title}{''.join(f' [{mark}]' for mark in _marks(scenario))}")
        lines += _wrapped(" ".join(check for check in checks if check in scenario.judge.checks))
        for also in scenario.judge.also:
            if here := [check for check in checks if check in also.checks]:
                lines += _wrapped(f"{_releases(also)}: {' '.join(here)}")
    totals = {sum(_counts(suite, chosen, checks_at(release, described))) for release in described}
    total = str(max(totals)) if len(totals) == 1 else f"{min(totals)} to {max(totals)}"
    lines.append(f"\n{len(chosen)} of {len(suite.scenarios)} scenarios, {total} checks at a release")
    return "\n".join(lines)


def _counts(suite: Suite, chosen: Mapping[str, Sequence[str]], asked: Asked) -> Iterator[int]:
    for scenario_id, checks in chosen.items():
        yield len(set(checks) & set(asked(suite.scenarios[scenario_id].judge)))


def _releases(also: Also) -> str:
    return " ".join([*(["from", also.since] if also.since else []), *(["until", also.until] if also.until else [])])


def description(locations: Locations, scenario_id: str) -> str:
    """Return everything there is to know about one scenario.

    Raises ParityError `scenario-unknown` with the closest id, and what loading the suite and the traces raises.
    """
    suite = open_suite(locations)
    scenario = suite.scenarios.get(scenario_id)
    if scenario is None:
        close = difflib.get_close_matches(scenario_id, suite.scenarios, n=1, cutoff=0.4)
        raise ParityError(
            "scenario-unknown",
            f"there is no scenario {scenario_id!r}",
            hint=f"did you mean {close[0]!r}?" if close else "`parity list` shows them all",
        )
    lines = [f"{scenario.id}  {scenario.title}", ""]
    lines += _wrapped(" ".join(scenario.why.split()))
    if marks := _marks(scenario):
        lines += ["", f"marks {', '.join(marks)}"]
    lines += ["", f"stimulus {suite.digest(scenario)}", "", "steps", *_steps(scenario)]
    if scenario.stimulus.client != ClientOptions():
        options: dict[str, Any] = msgspec.to_builtins(scenario.stimulus.client)
        lines += ["", "client", *(f"  {name}  {value}" for name, value in options.items())]
    lines += ["", "data", *(_data(name, spec) for name, spec in scenario.stimulus.data.items())]
    lines += ["", "server", *_server(scenario.stimulus.server)]
    tolerance = scenario.judge.tolerance
    lines += ["", f"checks (rtol {tolerance.rtol:g}, atol {tolerance.atol:g}, timeout {scenario.timeout:g} s)"]
    width = max(len(check) for check in every_check(scenario.judge))
    lines += [f"  {check:<{width}}  {CHECKS[check].says}" for check in scenario.judge.checks]
    for also in scenario.judge.also:
        lines += ["", f"also {_releases(also)}"]
        lines += [f"  {check:<{width}}  {CHECKS[check].says}" for check in also.checks]
    lines += ["", "golden", *_golden(locations, suite, scenario)]
    return "\n".join(lines)


def _marks(scenario: Scenario) -> list[str]:
    """Return what is said about running a scenario: slow, exclusive, repeated."""
    repeated = [f"{scenario.repeat} runs"] if scenario.repeat > 1 else []
    return [name for name in ("slow", "exclusive") if getattr(scenario, name)] + repeated


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(
        text, _WIDTH, initial_indent="    ", subsequent_indent="    ", break_on_hyphens=False, break_long_words=False
    )


def _steps(scenario: Scenario) -> Iterator[str]:
    for number, step in enumerate(scenario.stimulus.steps, start=1):
        fields: dict[str, Any] = msgspec.to_builtins(step)
        told = "  ".join(f"{name}={value}" for name, value in fields.items() if name != "do")
        yield f"  {number}. {fields['do']}  {told}".rstrip()


def _data(name: str, spec: DataSpec) -> str:
    parts = []
    if spec.datums:
        parts.append(f"{len(spec.datums)} literal datums of {_lengths([len(datum.tokens) for datum in spec.datums])}")
    for generated in spec.generate:
        kinds = "distinct " if generated.distinct else ""
        parts.append(f"{generated.count} generated {kinds}datums of {_lengths(list(generated.lengths))}")
    return f"  {name}  {', '.join(parts)}"


def _lengths(lengths: Sequence[int]) -> str:
    shown = ", ".join(map(str, lengths[:8]))
    return f"{shown}{', ...' if len(lengths) > 8 else ''} tokens"


def _server(script: Script) -> Iterator[str]:
    plain: dict[str, Any] = msgspec.to_builtins(Script())
    told = {name: value for name, value in msgspec.to_builtins(script).items() if value != plain[name]}
    for name, value in told.items():
        text = str(value)
        yield f"  {name}  {text if len(text) <= _WIDTH else text[:_WIDTH] + '...'}"
    if not told:
        yield "  as it comes: true logprobs of the tiny model, its own metrics"


def _golden(locations: Locations, suite: Suite, scenario: Scenario) -> Iterator[str]:
    """Yield one block per distinct golden trace, with the releases that share it."""
    timeline = load_timeline(locations.timeline)
    store = golden_stores(locations, suite)(scenario.id)
    blocks: list[tuple[list[str], list[str]]] = []
    for release in timeline.described:
        trace = store.load(scenario.id, release, timeline.described)
        summary = _summary(trace)
        if trace.stimulus != suite.digest(scenario):
            summary.insert(0, "    stale: made from another stimulus")
        if blocks and blocks[-1][1] == summary:
            blocks[-1][0].append(release)
        else:
            blocks.append(([release], summary))
    for releases, summary in blocks:
        yield f"  {releases[0]}" if len(releases) == 1 else f"  {releases[0]} to {releases[-1]}"
        yield from summary


def _summary(trace: Trace) -> list[str]:
    lines = [f"    {_request(request)}" for request in trace.requests]
    shown = 24
    if len(lines) > shown:
        lines = [*lines[:shown], f"    ... {len(lines) - shown} more requests"]
    for step in trace.steps:
        outputs = f", {len(step.outputs)} outputs" if step.outputs is not None else ""
        metrics = f", metrics {', '.join(sorted(step.metrics))}" if step.metrics else ""
        kind = f" {step.kind}" if step.kind else ""
        lines.append(f"    {step.step}: {step.status}{kind}{outputs}{metrics}")
    return lines


def _request(request: Request) -> str:
    seq = f"seq {request.seq_id}  " if request.seq_id is not None else ""
    who = f"  for {request.call} {request.phase}".rstrip() if request.call else ""
    size = f"  {len(request.batch.datums)} datums" if request.batch is not None else ""
    return f"{seq}{request.effect}  ({request.route}, {request.encoding}){size}{who}"
