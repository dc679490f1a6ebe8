"""Comparing numbers, against numpy.isclose and deepdiff; checks per second on stored traces."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator

import numpy as np
from deepdiff import DeepDiff

from harness.checks.numbers import compare
from harness.checks.registry import judge
from harness.checks.verdict import Case
from harness.engine.prepare import prepare
from harness.locations import locate

MILLION = 1_000_000
FEW = 10_000


def once(work: Callable[[], object]) -> float:
    """Return the CPU seconds of `work`: one thread does it, and other load on the machine does not count."""
    began = time.process_time()
    work()
    return time.process_time() - began


def seconds(*works: Callable[[], object], repeat: int = 15) -> tuple[float, ...]:
    """Return the median CPU seconds of each work; they are done in turn."""
    times = [[once(work) for work in works] for _ in range(repeat)]
    return tuple(map(statistics.median, zip(*times, strict=True)))


def comparing() -> Iterator[str]:
    """Yield lines about a million weights, and ten thousand against deepdiff."""
    generator = np.random.default_rng(0)
    expected = generator.standard_normal(MILLION).astype(np.float32)
    some = expected.copy()
    some[:: MILLION // 1000] += 1
    for what, observed in (
        ("that agree", expected * np.float32(1 + 1e-7)),
        ("of which 1000 differ", some),
        ("that all differ", expected + 1),
    ):
        plain, ours = seconds(
            lambda other=observed: np.isclose(other, expected, rtol=1e-5, atol=1e-6, equal_nan=True),
            lambda other=observed: compare(expected, other, rtol=1e-5, atol=1e-6),
        )
        yield f"million weights {what:<21} {ours * 1e3:7.1f} ms  {ours / plain:5.2f} x numpy.isclose (aim 3)"
    few, others = expected[:FEW], expected[:FEW] + 1
    (ours,) = seconds(lambda: compare(few, others, rtol=1e-5, atol=1e-6))
    left, right = few.tolist(), others.tolist()
    (structure,) = seconds(lambda: DeepDiff(left, right, math_epsilon=1e-6), repeat=1)
    told = f"{ours * 1e3:7.2f} ms  deepdiff takes {structure / ours:.0f} times as long"
    yield f"10,000 weights that all differ         {told}"


def checks() -> Iterator[str]:
    """Yield a line about judging: every scenario's golden trace against a copy of itself."""
    contract = "tinker-0.15.0"
    plan, copy = (prepare(locate(), sdk="reference", contract=contract) for _ in range(2))
    cases = []
    for planned, other in zip(plan.scenarios, copy.scenarios, strict=True):
        tolerance, script = planned.scenario.judge.tolerance, planned.scenario.stimulus.server
        case = Case(planned.golden, other.golden, plan.contract, tolerance, script)
        cases += [(check, case) for check in planned.checks]

    def every() -> None:
        for check, case in cases:
            judge(check, case)

    (taken,) = seconds(every, repeat=3)
    yield f"checks on recorded traces {len(cases) / taken:8.0f}/s  {len(cases)} checks in {taken:.2f} s"
