"""Which checks of which scenarios a run is about: the `-k` expression.

An expression combines terms with `and`, `or`, `not` and parentheses. A term that is a whole scenario id, or a whole
`scenario:check`, selects exactly that; any other term selects what contains it, letter case aside.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence

from harness.engine.events import PlannedCheck
from harness.errors import ParityError

_TOKEN = re.compile(r"[()]|[^\s()]+")
_WORDS = {"and", "or", "not"}

Matcher = Callable[[str, str], bool]


def _malformed(expression: str, what: str) -> ParityError:
    return ParityError(
        "selection-malformed",
        f"-k {expression!r}: {what}",
        hint="terms are joined by and, or, not and parentheses: -k 'chunks and not session.end'",
    )


class _Parser:
    """Recursive descent over the tokens of one expression; `or` binds weakest, `not` strongest."""

    def __init__(self, expression: str, scenarios: Mapping[str, Sequence[str]]) -> None:
        self._expression = expression
        self._scenarios = scenarios
        self._tokens = _TOKEN.findall(expression)
        self._place = 0
        self.terms: list[str] = []

    def parse(self) -> Matcher:
        if not self._tokens:
            raise _malformed(self._expression, "it is empty")
        matcher = self._any_of()
        if self._place < len(self._tokens):
            raise _malformed(self._expression, f"{self._tokens[self._place]!r} is out of place")
        return matcher

    def _peek(self) -> str:
        return self._tokens[self._place] if self._place < len(self._tokens) else ""

    def _take(self) -> str:
        token = self._peek()
        self._place += 1
        return token

    def _any_of(self) -> Matcher:
        left = self._all_of()
        while self._peek() == "or":
            self._take()
            left = _either(left, self._all_of())
        return left

    def _all_of(self) -> Matcher:
        left = self._one()
        while self._peek() == "and":
            self._take()
            left = _both(left, self._one())
        return left

    def _one(self) -> Matcher:
        token = self._take()
        if token == "not":
            inner = self._one()
            return lambda scenario, check: not inner(scenario, check)
        if token == "(":
            inner = self._any_of()
            if self._take() != ")":
                raise _malformed(self._expression, "a parenthesis is not closed")
            return inner
        if not token:
            raise _malformed(self._expression, "it ends too early")
        if token in _WORDS or token == ")":
            raise _malformed(self._expression, f"{token!r} is out of place")
        return self._term(token)

    def _term(self, token: str) -> Matcher:
        self.terms.append(token)
        if token in self._scenarios:
            return lambda scenario, _check: scenario == token
        scenario_id, _, check_id = token.partition(":")
        if check_id in self._scenarios.get(scenario_id, ()):
            return lambda scenario, check: (scenario, check) == (scenario_id, check_id)
        folded = token.casefold()
        return lambda scenario, check: folded in f"{scenario}:{check}".casefold()


def _either(left: Matcher, right: Matcher) -> Matcher:
    return lambda scenario, check: left(scenario, check) or right(scenario, check)


def _both(left: Matcher, right: Matcher) -> Matcher:
    return lambda scenario, check: left(scenario, check) and right(scenario, check)


def select(scenarios: Mapping[str, Sequence[str]], expression: str | None) -> tuple[PlannedCheck, ...]:
    """Return the checks that `expression` selects, scenarios in order of their id, checks as the scenario lists them.

    `scenarios` maps a scenario id to its checks. Without an expression everything is selected.

    Raises ParityError `selection-malformed` and, when nothing matches, `selection-empty` with the closest name.
    """
    everything = tuple(PlannedCheck(scenario, check) for scenario in sorted(scenarios) for check in scenarios[scenario])
    if expression is None:
        matcher: Matcher = lambda _scenario, _check: True  # noqa: E731 - one of several matchers, as data
        terms: list[str] = []
    else:
        parser = _Parser(expression, scenarios)
        matcher, terms = parser.parse(), parser.terms
    selected = tuple(planned for planned in everything if matcher(planned.scenario, planned.check))
    if not selected:
        raise ParityError(
            "selection-empty",
            f"-k {expression!r} selects no check of {len(scenarios)} scenarios"
            if expression
            else "there is no scenario",
            hint=_suggestion(terms, everything),
        )
    return selected


def _suggestion(terms: Sequence[str], everything: Sequence[PlannedCheck]) -> str:
    """Name what comes closest to a term that matches nothing."""
    whole = [*dict.fromkeys(planned.scenario for planned in everything)]
    whole += dict.fromkeys(planned.check for planned in everything)
    # Parts too, so that a misspelt family or last name finds its own.
    parts = dict.fromkeys(part for name in whole for part in re.split(r"[/.]", name))
    names = {name.casefold(): name for name in [*whole, *parts]}
    haystack = [f"{planned.scenario}:{planned.check}".casefold() for planned in everything]
    for term in terms:
        folded = term.casefold()
        if any(folded in text for text in haystack):
            continue
        for candidate in (folded, folded.partition(":")[0], folded.rpartition(":")[2]):
            close = difflib.get_close_matches(candidate, names, n=1, cutoff=0.5)
            if close:
                return f"did you mean {names[close[0]]!r}? `parity list` shows every scenario and check"
    return "`parity list` shows every scenario and check"
