"""The loader: the committed suite, digests, capabilities, and the published schemas."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import jsonschema
import msgspec
import pytest

from harness.errors import ParityError
from harness.suite import canonical
from harness.suite.loader import Suite, load_suite, required_capabilities
from harness.suite.scenario import AppendDatum, InputSpec, Scenario, Stimulus

ROOT = Path(__file__).parents[2]

SCENARIO = """
id = "a/b"
title = "T"
why = "W"
[stimulus]
steps = [
  { do = "create_model" },
  { do = "forward_backward_custom", id = "fb", data = "batch", loss = "sum", style = "concurrent" },
  { do = "optim_step", id = "opt", params = { beta1 = 0.5, learning_rate = 0.25 } },
  { do = "await", of = "fb" },
]
[stimulus.data.batch]
generate = [{ count = 2, seed = 4, inputs = { a = { low = 0.0, high = 1.0 }, b = { constant = 1.0 } } }]
[judge]
checks = ["wire.bodies"]
"""
LOSS = '{"about": "x", "nodes": [["lps"], ["sum", 0]], "loss": 1, "metrics": {"a": 1, "b": 1}}'


def _load(tmp_path: Path, scenario: str = SCENARIO, loss: str = LOSS) -> tuple[Suite, Scenario]:
    folder = tmp_path / "fixtures" / "scenarios" / "a"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "b.toml").write_text(scenario, encoding="utf-8")
    losses = tmp_path / "fixtures" / "losses"
    losses.mkdir(exist_ok=True)
    (losses / "sum.json").write_text(loss, encoding="utf-8")
    (losses / "unused.json").write_text(LOSS, encoding="utf-8")
    suite = load_suite(tmp_path)
    return suite, suite.scenarios["a/b"]


def _digest(tmp_path: Path, scenario: str = SCENARIO, loss: str = LOSS) -> str:
    suite, loaded = _load(tmp_path, scenario, loss)
    return suite.digest(loaded)


def test_the_committed_suite_loads() -> None:
    """Every scenario under fixtures/ is valid, and every digest differs from every other."""
    suite = load_suite(ROOT)
    assert len(suite.scenarios) >= 15
    assert list(suite.scenarios) == sorted(suite.scenarios)
    digests = {suite.digest(scenario) for scenario in suite.scenarios.values()}
    assert len(digests) == len(suite.scenarios)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('title = "T"', 'title = "Another"'),
        ('why = "W"', 'why = "Another"'),
        ('checks = ["wire.bodies"]', 'checks = ["wire.bodies", "order.seq"]\ntolerance = { rtol = 0.5 }'),
        ('id = "a/b"', 'id = "a/b"\ntimeout = 3.0'),
        ("{ count = 2, seed = 4,", "{ seed = 4, count = 2,"),
        (
            "a = { low = 0.0, high = 1.0 }, b = { constant = 1.0 }",
            "b = { constant = 1.0 }, a = { high = 1.0, low = 0.0 }",
        ),
        ("beta1 = 0.5, learning_rate = 0.25", "learning_rate = 0.25, beta1 = 0.5"),
        ('do = "create_model"', 'do = "create_model", id = "model", rank = 8'),
        ("[judge]", "[stimulus.server]\nquiet_seconds = 8.0\n[judge]"),
    ],
)
def test_what_is_not_stimulus_leaves_the_digest_alone(tmp_path: Path, old: str, new: str) -> None:
    """Texts, checks, timeout, the order of keys and spelled-out defaults are not part of the digest."""
    assert old in SCENARIO
    assert _digest(tmp_path / "new", SCENARIO.replace(old, new)) == _digest(tmp_path / "old")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("count = 2", "count = 3"),
        ("seed = 4", "seed = 5"),
        ("learning_rate = 0.25", "learning_rate = 0.5"),
        (', style = "concurrent"', ""),
        ("[judge]", "[stimulus.server]\nquiet_seconds = 3.0\n[judge]"),
        ("[judge]", "[stimulus.server]\nclient_config = { x = 1 }\n[judge]"),
        ('  { do = "await", of = "fb" },\n', ""),
    ],
)
def test_a_change_of_the_stimulus_changes_the_digest(tmp_path: Path, old: str, new: str) -> None:
    """Steps, data and server script are digested."""
    assert old in SCENARIO
    assert _digest(tmp_path / "new", SCENARIO.replace(old, new)) != _digest(tmp_path / "old")


def test_the_order_of_steps_changes_the_digest(tmp_path: Path) -> None:
    """A list has an order: the same steps in another one are another stimulus."""
    fb, opt = SCENARIO.splitlines()[7:9]
    swapped = SCENARIO.replace(f"{fb}\n{opt}", f"{opt}\n{fb}")
    assert swapped != SCENARIO
    assert _digest(tmp_path / "new", swapped) != _digest(tmp_path / "old")


@pytest.mark.parametrize(
    ("loss", "same"),
    [
        (LOSS.replace('"about": "x"', '"about": "y"'), True),
        ('{"metrics": {"b": 1, "a": 1}, "loss": 1, "nodes": [["lps"], ["sum", 0]]}', True),
        (LOSS.replace('["sum", 0]', '["mean", 0]'), False),
        (LOSS.replace('{"a": 1, "b": 1}', "{}"), False),
        (LOSS.replace('"loss": 1', '"loss": 1, "fail": "no"'), False),
    ],
)
def test_a_used_loss_is_part_of_the_digest(tmp_path: Path, loss: str, same: bool) -> None:
    """Its graph, metrics and failure count; its description and the order of its keys do not."""
    assert (_digest(tmp_path / "new", loss=loss) == _digest(tmp_path / "old")) is same


def test_a_changed_scenario_is_not_given_the_digest_of_the_loaded_one(tmp_path: Path) -> None:
    """The digest is that of the scenario handed in, also when one of its id was digested before."""
    suite, scenario = _load(tmp_path)
    before = suite.digest(scenario)
    longer = msgspec.structs.replace(
        scenario, stimulus=msgspec.structs.replace(scenario.stimulus, steps=scenario.stimulus.steps[:-1])
    )
    assert suite.digest(longer) != before
    assert suite.digest(scenario) == before


def test_numbers_json_cannot_hold_are_told_apart() -> None:
    """NaN, the infinities and the two zeros have forms of their own."""
    values = [float("nan"), float("inf"), float("-inf"), 0.0, -0.0]
    assert len({canonical.digest(InputSpec(values=(value,))) for value in values}) == len(values)


def test_required_capabilities_are_the_operations_and_the_style(tmp_path: Path) -> None:
    """A scenario needs every operation it calls, and `concurrent` when a step says so; awaits need nothing."""
    suite, scenario = _load(tmp_path)
    assert required_capabilities(scenario, suite.losses) == {
        "create_model",
        "forward_backward_custom",
        "optim_step",
        "concurrent",
    }
    assert suite.losses.keys() == {"sum", "unused"}


def test_a_loss_that_does_more_than_compute_needs_a_capability(tmp_path: Path) -> None:
    """A delay and a change of the data are each a capability of the driver."""
    suite, scenario = _load(tmp_path)
    effects = (AppendDatum(datum=0),)
    slow = msgspec.structs.replace(suite.losses["sum"], delay_seconds=0.5, mutates=effects)
    plain = required_capabilities(scenario, suite.losses)
    assert required_capabilities(scenario, {**suite.losses, "sum": slow}) - plain == {"loss_delay", "loss_mutates"}
    assert required_capabilities(scenario, {**suite.losses, "unused": slow}) == plain


def test_a_scenario_that_is_not_utf8_is_malformed(tmp_path: Path) -> None:
    """Bytes that are no text are reported like any other malformed file."""
    _load(tmp_path)
    (tmp_path / "fixtures" / "scenarios" / "a" / "b.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ParityError) as caught:
        load_suite(tmp_path)
    assert caught.value.code == "scenario-malformed"


def _validator(name: str) -> jsonschema.Draft202012Validator:
    schema = json.loads((ROOT / "docs" / "schema" / name).read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_the_published_schemas_accept_the_committed_files() -> None:
    """Anyone's validator accepts what the loader accepts."""
    scenarios, losses = _validator("scenario.schema.json"), _validator("loss.schema.json")
    for path in (ROOT / "fixtures" / "scenarios").rglob("*.toml"):
        scenarios.validate(tomllib.loads(path.read_text(encoding="utf-8")))
    for path in (ROOT / "fixtures" / "losses").glob("*.json"):
        losses.validate(json.loads(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("name", ["key-unknown", "title-missing", "type-wrong", "style-unknown", "server-key-unknown"])
def test_the_published_scenario_schema_refuses_malformed_files(name: str) -> None:
    """What the loader calls malformed does not pass the schema either."""
    path = ROOT / "fixtures" / "invalid" / "scenarios" / f"{name}.toml"
    assert not _validator("scenario.schema.json").is_valid(tomllib.loads(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    "name", ["operation-unknown", "argument-missing", "argument-too-many", "take-negative", "nodes-empty"]
)
def test_the_published_loss_schema_knows_the_operations(name: str) -> None:
    """Operations and their arguments are in the schema."""
    path = ROOT / "fixtures" / "invalid" / "losses" / f"{name}.json"
    assert not _validator("loss.schema.json").is_valid(json.loads(path.read_text(encoding="utf-8")))


def test_a_new_optional_field_does_not_move_digests() -> None:
    """The canonical form leaves defaults out, so that the schema can grow without touching frozen scenarios."""
    assert "server" not in canonical.plain(Stimulus(steps=()))
