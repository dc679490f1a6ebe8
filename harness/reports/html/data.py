"""The data of the page, packed: texts once, numbers short."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from harness.checks.causes import CAUSES
from harness.engine.events import (
    CheckJudged,
    PicturedChunk,
    PicturedPass,
    PicturedRequest,
    PicturedWeights,
    ScenarioFinished,
    ScenarioPictured,
)
from harness.reports.html.parts import Part, by_weight, fitting, has_sides, rank
from harness.reports.tally import OUTCOMES, Tally, fails
from harness.reports.text import for_terminal

KINDS = ("session", "forward", "backward", "train", "optim", "state", "poll", "other")
_ABSENT = "."
_LONG = 600
_LEFT_OUT = "(left out: the page would be too large; the JSON report has it)"


class Texts:
    """Every text once."""

    def __init__(self) -> None:
        self.all: list[str] = ["", _LEFT_OUT]
        self._index = {"": 0, _LEFT_OUT: 1}

    def put(self, text: str, *, most: int = _LONG) -> int:
        """Return the index of `text`, made safe to show and cut where it has more than `most` characters."""
        shown = for_terminal(text)
        if len(shown) > most:
            shown = f"{shown[:most]}... ({len(shown)} characters)"
        if shown not in self._index:
            self._index[shown] = len(self.all)
            self.all.append(shown)
        return self._index[shown]


def packed(tally: Tally, *, room: int) -> str:
    """Return the data of the page as its block, in at most `room` bytes: what does not fit is left out and counted."""
    results: dict[str, list[CheckJudged]] = {}
    for result in tally.in_plan_order():
        results.setdefault(result.scenario, []).append(result)
    parts = by_weight(tally, results)
    return fitting(parts, lambda kept: _document(tally, results, parts, kept), room=room)


def _document(
    tally: Tally, results: Mapping[str, Sequence[CheckJudged]], parts: Sequence[Part], kept: frozenset[Part]
) -> dict[str, Any]:
    """Return the data of a page that has these parts."""
    texts = Texts()
    checks = sorted({result.check for result in tally.results})
    scenarios: list[dict[str, Any]] = []
    for scenario in sorted(results, key=lambda name: (rank(results[name]), name)):
        entry: dict[str, Any] = {"id": for_terminal(scenario)[:_LONG], "cells": _cells(results[scenario], checks)}
        if scenario in tally.scenarios:
            entry |= _run(tally.scenarios[scenario], texts, kept)
        found = [
            _found(result, checks, texts, kept, label=_label(tally, result))
            for result in results[scenario]
            if result.outcome != "pass"
        ]
        if found:
            entry["found"] = found
        if scenario in tally.pictures:
            if Part("picture", scenario) in kept:
                entry["picture"] = _picture(tally.pictures[scenario], texts)
            else:
                entry["unpictured"] = 1
        scenarios.append(entry)
    started = tally.started
    return {
        "again": shlex.join(["parity", "run", *map(for_terminal, started.arguments)]) if started else "",
        "outcomes": [outcome.replace("_", "-") for outcome in OUTCOMES],
        "totals": [tally.totals[outcome] for outcome in OUTCOMES],
        "kinds": KINDS,
        "checks": checks,
        "causes": {
            code: [CAUSES[code].title, CAUSES[code].says, CAUSES[code].look]
            for code in sorted({result.cause for result in tally.results} & CAUSES.keys())
        },
        "unused": [
            [texts.put(entry.title), texts.put(entry.reason)] if Part("unused", str(number)) in kept else [1, 1]
            for number, entry in enumerate(tally.unused)
        ],
        "left": _left([part for part in parts if part not in kept]),
        "scenarios": scenarios,
        "texts": texts.all,
    }


def _left(missing: Sequence[Part]) -> dict[str, int]:
    """Return how much of each sort is left out: a finding counts once, whether all or some of its texts are."""
    counted = {
        "title": sum(part.kind == "title" for part in missing),
        "text": len({(part.of, part.check) for part in missing if part.kind in ("message", "sides")})
        + sum(part.kind in ("note", "unused") for part in missing),
        "picture": sum(part.kind == "picture" for part in missing),
    }
    return {sort: number for sort, number in counted.items() if number}


def _cells(results: Sequence[CheckJudged], checks: Sequence[str]) -> str:
    """Return one character per check: the place of its outcome, or a point where the scenario does not have it."""
    outcomes = {result.check: str(OUTCOMES.index(result.outcome)) for result in results}
    return "".join(outcomes.get(check, _ABSENT) for check in checks)


def _label(tally: Tally, result: CheckJudged) -> str:
    """Return how a result stands against the baseline, and that it is unscored, in words."""
    labelled = tally.labels.get((result.scenario, result.check))
    words = [labelled.label if labelled else "", "unscored" if result.unscored else ""]
    return ", ".join(word for word in words if word)


def _found(result: CheckJudged, checks: Sequence[str], texts: Texts, kept: frozenset[Part], *, label: str) -> list[int]:
    """Return check, whether it fails the run, message, expected, observed, where, cause, certainty, detail, label."""
    head = [checks.index(result.check), int(fails(result))]
    if Part("message", result.scenario, result.check) not in kept:
        return [*head, 1]
    told = [result.message, result.expected, result.observed, result.where, result.cause, result.certainty]
    row = [*head, *map(texts.put, (*told, result.detail, label))]
    if has_sides(result) and Part("sides", result.scenario, result.check) not in kept:
        row[3:6] = [min(index, 1) for index in row[3:6]]
        row[8] = min(row[8], 1)
    return _trimmed(row)


def _run(run: ScenarioFinished, texts: Texts, kept: frozenset[Part]) -> dict[str, Any]:
    told: dict[str, Any] = {"title": texts.put(run.title) if Part("title", run.scenario) in kept else 1}
    noted = Part("note", run.scenario) in kept
    if run.note:
        told["note"] = texts.put(run.note) if noted else 1
    if run.around:
        told["around"] = texts.put(run.around, most=3 * _LONG) if noted else 1
    if run.runs > 1:
        told["runs"] = [run.runs, run.failed_runs]
    return told


def _trimmed(row: list[Any]) -> list[Any]:
    while row and not row[-1]:
        row.pop()
    return row


def _picture(pictured: ScenarioPictured, texts: Texts) -> dict[str, Any]:
    packed: dict[str, Any] = {
        "r": [_request(request, texts) for request in pictured.requests],
        "p": [_pass(each, texts) for each in pictured.passes],
    }
    if pictured.more_requests or pictured.more_passes:
        packed["more"] = [pictured.more_requests, pictured.more_passes]
    if pictured.weights is not None:
        packed["w"] = _weights(pictured.weights, texts)
    if pictured.losses:
        packed["l"] = [
            [texts.put(loss.step), _number(loss.expected), _number(loss.observed)] for loss in pictured.losses
        ]
    if pictured.updates:
        packed["u"] = [
            [texts.put(update.model), *map(_number, (*update.gradient, *update.parameters, update.difference))]
            for update in pictured.updates
        ]
    if pictured.trouble:
        packed["trouble"] = texts.put(pictured.trouble)
    return packed


def _request(request: PicturedRequest, texts: Texts) -> list[Any]:
    """Return connection, kind, route, begin in ms, duration in ms or null, status, seq_id, model, datums, resend."""
    took = None if request.answered_ms is None else _short(request.answered_ms - request.at_ms, 1)
    row = [
        texts.put(request.connection),
        KINDS.index(request.kind),
        texts.put(request.route),
        _short(request.at_ms, 1),
        took,
        request.status,
        request.seq_id,
        texts.put(request.model),
        request.datums,
        int(request.resend),
    ]
    return _trimmed(row) if request.seq_id is not None or request.datums or request.resend else row[:6]


def _short(value: float, digits: int) -> float | int:
    rounded = round(value, digits)
    return int(rounded) if rounded == int(rounded) else rounded


def _pass(each: PicturedPass, texts: Texts) -> list[Any]:
    """Return name, kind, model, expected chunks and observed ones: 0 where these are the same."""
    expected = _chunks(each.expected)
    observed = 0 if each.observed == each.expected else _chunks(each.observed)
    return [texts.put(each.name), KINDS.index(each.kind), texts.put(each.model), expected, observed]


def _chunks(chunks: Sequence[PicturedChunk]) -> list[int | None]:
    """Return seq_id and datums of each chunk, in turn."""
    return [value for chunk in chunks for value in (chunk.seq_id, chunk.datums)]


def _weights(weights: PicturedWeights, texts: Texts) -> list[Any]:
    errors = [_difference(a, b) for a, b in zip(weights.expected, weights.observed, strict=True)]
    return [
        texts.put(weights.where),
        weights.first,
        weights.total,
        weights.differing,
        list(weights.begins),
        [_number(value) for value in weights.expected],
        errors if any(errors) else 0,
    ]


def _difference(expected: float, observed: float) -> Any:
    """Return observed minus expected; where that is no number, a list with the observed number itself."""
    if expected == observed or (math.isnan(expected) and math.isnan(observed)):
        return 0
    difference = observed - expected
    return _number(difference, digits=3) if math.isfinite(difference) else [_number(observed)]


def _number(value: float | None, *, digits: int = 6) -> float | str | None:
    """Return a number as short as it can be told; what is no number in JSON, as JavaScript spells it."""
    if value is None:
        return None
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    short = float(f"{value:.{digits}g}")
    return int(short) if short == int(short) and abs(short) < 10**6 else short
