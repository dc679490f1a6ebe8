"""What the self-test says about a mutant: survived, died of another cause, died of a consequence, or equivalent."""

from __future__ import annotations

from harness.engine.selftest import MANY, Expected, Killed


def _killed(failed: dict[str, list[str]], *, silent: dict[str, list[str]] | None = None, scenarios=("a/b", "a/c")):
    mutant = Expected(
        name="sign",
        says="s",
        because="b",
        contract="tinker-0.38.0",
        scenarios=tuple(scenarios),
        reddens=frozenset({"weights.values"}),
        silences=frozenset(),
        follows=frozenset({"training.gradient"}),
        equivalent="",
    )
    return Killed(mutant, failed, silent or {}, ())


def test_a_mutant_that_dies_as_expected_is_no_complaint() -> None:
    """The expected check is red; a declared consequence may be, and need not."""
    assert not _killed({"weights.values": ["a/b"]}).complaints
    assert not _killed({"weights.values": ["a/b"], "training.gradient": ["a/c"]}).complaints


def test_a_survivor_is_a_complaint_whatever_follows() -> None:
    """A consequence does not stand in for its cause."""
    assert _killed({"training.gradient": ["a/b"]}).complaints == ["weights.values survived"]


def test_another_red_check_is_a_complaint() -> None:
    """What is neither expected nor a consequence is named with its scenario; so is a check that saw nothing."""
    both = _killed({"weights.values": ["a/b"], "order.seq": ["a/c"]}, silent={"loss.calls": ["a/b"]})
    assert both.complaints == [
        "order.seq was not expected in a/c",
        "loss.calls found nothing to look at in a/b",
    ]


def test_a_mistake_that_shows_everywhere_proves_no_scenario() -> None:
    """A mutant counts for the scenarios it is caught in, unless those are many and all it was run on."""
    few = [f"a/{number}" for number in range(MANY)]
    many = [*few, "a/more"]
    assert _killed({"weights.values": few}, scenarios=few).caught_in == set(few)
    assert _killed({"weights.values": many}, scenarios=many).caught_in == set()
    assert _killed({"weights.values": many}, scenarios=[*many, "a/green"]).caught_in == set(many)
