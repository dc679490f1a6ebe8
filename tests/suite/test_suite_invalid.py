"""Every file of fixtures/invalid/ fails to load, with the code it announces."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import ParityError
from harness.suite.loader import load_loss, load_suite
from harness.suite.scenario import Loss

INVALID = Path(__file__).parents[2] / "fixtures" / "invalid"
SCENARIOS = sorted((INVALID / "scenarios").glob("*.toml"))
LOSSES = sorted((INVALID / "losses").glob("*.json"))

WEIGHTED = '{"nodes": [["lps"], ["fields", "advantages"], ["dot", 0, 1]], "loss": 2}'
PARTS = """{"nodes": [["lps"], ["sum", 0]], "loss": 1, "apart": {"base": 1}}"""
FOLDED = """{"nodes": [["lps"], ["sum", 0]], "loss": 1, "apart": {"base": 1, "folded": true}}"""
THIRD = '{"nodes": [["lp", 2], ["sum", 0]], "loss": 1}'


def _suite(root: Path, scenario: str, name: str = "case") -> Path:
    folder = root / "fixtures" / "scenarios" / "scenarios"
    folder.mkdir(parents=True)
    (folder / f"{name}.toml").write_text(scenario, encoding="utf-8")
    losses = root / "fixtures" / "losses"
    losses.mkdir()
    (losses / "weighted.json").write_text(WEIGHTED, encoding="utf-8")
    (losses / "parts.json").write_text(PARTS, encoding="utf-8")
    (losses / "folded.json").write_text(FOLDED, encoding="utf-8")
    (losses / "third.json").write_text(THIRD, encoding="utf-8")
    return root


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_an_invalid_scenario_is_refused_with_its_code(path: Path, tmp_path: Path) -> None:
    """Loading raises the code of the first line, names the file and says what to do."""
    text = path.read_text(encoding="utf-8")
    expected = text.splitlines()[0].removeprefix("# expect: ")
    with pytest.raises(ParityError) as caught:
        load_suite(_suite(tmp_path, text, path.stem))
    assert caught.value.code == expected
    assert path.name in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("path", LOSSES, ids=lambda path: path.stem)
def test_an_invalid_loss_is_refused(path: Path) -> None:
    """Loading raises loss-malformed and names the file."""
    with pytest.raises(ParityError) as caught:
        load_loss(path)
    assert caught.value.code == "loss-malformed"
    assert path.name in caught.value.message


def test_there_are_many_ways_to_be_wrong() -> None:
    """The folder covers every code the loader raises about scenarios."""
    codes = {path.read_text(encoding="utf-8").splitlines()[0].removeprefix("# expect: ") for path in SCENARIOS}
    assert codes == {
        "scenario-malformed",
        "scenario-id-mismatch",
        "step-invalid",
        "data-invalid",
        "data-unused",
        "loss-unknown",
        "loss-unfit",
        "script-invalid",
        "judge-invalid",
    }
    assert len(SCENARIOS) + len(LOSSES) >= 20


def test_a_malformed_scenario_names_the_key_and_what_was_expected(tmp_path: Path) -> None:
    """The message carries the key path and the expected type."""
    text = (INVALID / "scenarios" / "type-wrong.toml").read_text(encoding="utf-8")
    with pytest.raises(ParityError, match=r"type-wrong\.toml: timeout: Expected `float`, got `str`"):
        load_suite(_suite(tmp_path, text, "type-wrong"))


def test_the_valid_counterpart_loads(tmp_path: Path) -> None:
    """Without its defect the same file is fine: the fixtures fail for the reason they name, not for another."""
    text = (INVALID / "scenarios" / "timeout-zero.toml").read_text(encoding="utf-8").replace("timeout = 0.0", "")
    suite = load_suite(_suite(tmp_path, text, "timeout-zero"))
    assert list(suite.scenarios) == ["scenarios/timeout-zero"]
    assert isinstance(suite.losses["third"], Loss)
