"""Strategies: every name of the timeline is registered, and every registered name is used."""

from __future__ import annotations

import msgspec
import pytest

from harness.contracts.timeline import load_timeline
from harness.locations import locate
from harness.reference.behaviour import REGISTRY, behaviour_of
from harness.reference.templates import placeholders

TIMELINE = load_timeline(locate().timeline)
CONTRACTS = tuple(TIMELINE.points.values())


def _named(contract, key):
    section, _, field = key.partition(".")
    table = getattr(contract, section)
    return set(table.values()) if field == "*" else {getattr(table, field)}


@pytest.mark.parametrize("key", REGISTRY)
def test_strategies_are_those_of_the_timeline(key):
    """A name without a function, and a function that no described release uses, fail the build."""
    assert set().union(*(_named(contract, key) for contract in CONTRACTS)) == set(REGISTRY[key])


def test_every_name_in_a_contract_selects_a_strategy():
    """A text field of a contract that is neither a strategy nor part of `wire` data would select nothing."""
    contract = msgspec.to_builtins(CONTRACTS[0])
    texts = {
        f"{section}.{field}"
        for section in ("chunking", "sending", "custom_loss", "failure", "inputs", "polling", "session", "wire")
        for field, value in contract[section].items()
        if isinstance(value, str)
    }
    assert texts - {"wire.forward_route"} == {key for key in REGISTRY if not key.endswith("*")}


def test_no_code_of_the_reference_asks_for_a_release():
    """Behaviour depends on strategies and data; the release is sent, never compared."""
    for file in (locate().root / "harness" / "reference").glob("*.py"):
        for line in file.read_text("utf-8").splitlines():
            if ".release" in line:
                assert " if " not in line, f"{file.name}: {line}"
                assert "==" not in line, f"{file.name}: {line}"


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract.id)
def test_every_point_has_a_behaviour(contract):
    """Every described release can be looked up as a whole."""
    assert behaviour_of(contract).contract is contract


def test_an_unknown_strategy_is_named():
    """The error says which key and which name, and what there is."""
    contract = CONTRACTS[0]
    wrong = msgspec.structs.replace(contract, sending=msgspec.structs.replace(contract.sending, order="sideways"))
    with pytest.raises(KeyError, match=r"sending\.order: no strategy is called 'sideways'.*rest_then_first, serial"):
        behaviour_of(wrong)


GIVEN = {
    "sdk_version",
    *("session_id", "model_seq_id", "base_model", "rank", "seed"),
    *("model_id", "seq_id", "data", "loss_fn", "path", "optimizer"),
    *("request_id", "allow_metadata_only"),
    *("learning_rate", "beta1", "beta2", "eps", "weight_decay", "grad_clip_norm"),
    *("loss_fn_inputs", "chunks", "tokens", "dtype", "shape"),
}


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract.id)
def test_templates_use_only_values_that_the_client_gives(contract):
    """A misspelt placeholder would become a silent null."""
    wire = contract.wire
    assert placeholders([wire.templates, wire.elements]) <= GIVEN
    assert placeholders([wire.call_headers]) <= {"sdk_version", "sdk_method"}
    for route, defaults in wire.defaults.items():
        assert set(defaults) <= placeholders(wire.templates[route])
