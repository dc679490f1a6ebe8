"""Which checks a scenario asks for, at which release: the common ones, and those of a range of releases."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations

from harness.errors import ParityError
from harness.suite.scenario import Also, Judgement, Scenario

Asked = Callable[[Judgement], tuple[str, ...]]
"""Gives the checks that are meant."""


def every_check(judge: Judgement) -> tuple[str, ...]:
    """Return the checks of all releases together, each once."""
    return tuple(dict.fromkeys((*judge.checks, *(check for also in judge.also for check in also.checks))))


def checks_at(release: str, described: Sequence[str]) -> Asked:
    """Return what gives the checks at one of the described releases, which are in order."""
    place = described.index(release)

    def asked(judge: Judgement) -> tuple[str, ...]:
        here = (also.checks for also in judge.also if place in _range(also, described))
        return tuple(dict.fromkeys((*judge.checks, *(check for checks in here for check in checks))))

    return asked


def check_ranges(scenario: Scenario, described: Sequence[str], *, place: str) -> None:
    """Refuse ranges of releases that make no sense on a timeline. Raises ParityError `judge-invalid`."""
    also = scenario.judge.also
    for index, each in enumerate(also):
        for key, release in (("from", each.since), ("until", each.until)):
            if release and release not in described:
                raise _invalid(
                    f"{place}: judge.also[{index}].{key}: {release!r} is not described",
                    f"the described releases are {', '.join(described)}",
                )
        if not _range(each, described):
            raise _invalid(f"{place}: judge.also[{index}]: {each.since} comes after {each.until}", "turn them round")
        if len(_range(each, described)) == len(described):
            raise _invalid(
                f"{place}: judge.also[{index}]: every described release is in the range", "move it to judge.checks"
            )
    for (first, one), (second, two) in combinations(enumerate(also), 2):
        common = sorted(set(one.checks) & set(two.checks))
        if common and set(_range(one, described)) & set(_range(two, described)):
            raise _invalid(
                f"{place}: judge.also[{first}] and judge.also[{second}] both ask for {common[0]!r} at a release",
                "list it once for each release",
            )


def _range(also: Also, described: Sequence[str]) -> range:
    first = described.index(also.since) if also.since else 0
    last = described.index(also.until) if also.until else len(described) - 1
    return range(first, last + 1)


def _invalid(what: str, hint: str) -> ParityError:
    return ParityError("judge-invalid", what, hint=hint)
