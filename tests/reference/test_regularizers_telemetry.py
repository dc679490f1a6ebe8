"""Reports of regularizers: the document and its schema, lines of a file, the flat form and the way back."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import jsonschema
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import ParityError
from harness.reference.regularizers.flat import KEY, flatten, unflatten
from harness.reference.regularizers.schema import render, telemetry_schema
from harness.reference.regularizers.telemetry import (
    BaseLoss,
    LossReport,
    ReportLog,
    StepReport,
    from_json,
    loss_report,
    term_report,
    to_builtins,
    to_json,
)

SCHEMA = Path(__file__).parents[2] / "docs" / "schema" / "regularizer-telemetry.schema.json"
NUMBERS = st.floats(allow_nan=True, allow_infinity=True)
NORMS = st.none() | st.floats(min_value=0)
NAMES = st.text(alphabet="abcdefghijklmnopqrstuvwxyz0123456789_.-", min_size=1, max_size=40).filter(
    lambda name: name != "base_loss"
)
SHORT = st.text(alphabet="abcxyz0189_.-/", min_size=1, max_size=12)
METRICS = st.builds(lambda name, end: name + end, SHORT, st.sampled_from(["", ":sum", ":mean"]))


def _reports(metrics):
    terms = st.dictionaries(
        NAMES,
        st.builds(term_report, NUMBERS, st.floats(0, 1e6), NORMS, st.dictionaries(metrics, NUMBERS, max_size=4)),
        max_size=4,
    )
    base = st.none() | st.builds(BaseLoss, NUMBERS, NORMS, st.dictionaries(metrics, NUMBERS, max_size=4))
    return st.builds(lambda base, terms, norm: loss_report(base, list(terms.items()), norm), base, terms, NORMS)


REPORT = loss_report(
    BaseLoss(2.5, None, {"perplexity": 12.18}),
    [("topology", term_report(1.23, 0.1, None, {"beta_1_mean": 3.2})), ("sparsity", term_report(22.4, 0.01, 7.48, {}))],
    5.67,
)


def _same(one, other):
    """Compare with NaN equal to NaN."""
    return json.dumps(to_builtins(one)) == json.dumps(to_builtins(other))


@pytest.fixture(scope="module")
def validator():
    """Return the published schema of a report."""
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.fixture(scope="module")
def line_validator():
    """Return the published schema of a line."""
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    return jsonschema.Draft202012Validator({**schema, "$ref": "#/$defs/StepReport"})


def test_the_published_schema_is_that_of_the_structs():
    """It is what `python -m harness.reference.regularizers.schema` would print."""
    assert SCHEMA.read_text(encoding="utf-8") == render()
    assert json.loads(render()) == telemetry_schema()


def test_the_document():
    """Every key is there, nulls too, in the order of declaration, with nothing rounded."""
    assert json.loads(to_json(REPORT)) == {
        "version": 1,
        "loss_total": 2.5 + (0.1 * 1.23 + 0.01 * 22.4),
        "base_loss": {"value": 2.5, "grad_norm": None, "custom": {"perplexity": 12.18}},
        "regularizers": {
            "topology": {
                "value": 1.23,
                "weight": 0.1,
                "contribution": 0.1 * 1.23,
                "grad_norm": None,
                "grad_norm_weighted": None,
                "custom": {"beta_1_mean": 3.2},
            },
            "sparsity": {
                "value": 22.4,
                "weight": 0.01,
                "contribution": 0.01 * 22.4,
                "grad_norm": 7.48,
                "grad_norm_weighted": 0.01 * 7.48,
                "custom": {},
            },
        },
        "regularizer_total": 0.1 * 1.23 + 0.01 * 22.4,
        "total_grad_norm": 5.67,
    }
    assert list(REPORT.regularizers) == ["topology", "sparsity"]


@given(_reports(st.text(max_size=8)))
def test_a_document_is_valid_and_comes_back(validator, report):
    """JSON holds every report, whatever its metrics are called and whatever its numbers are."""
    written = to_json(report)
    validator.validate(json.loads(written, parse_constant=_no_constant))
    assert _same(from_json(written, LossReport), report)


def _no_constant(name):
    raise AssertionError(f"{name} is not JSON")


@pytest.mark.parametrize(
    "change",
    [
        lambda report: report.pop("base_loss"),
        lambda report: report.pop("total_grad_norm"),
        lambda report: report.update(version=2),
        lambda report: report.update(more=1),
        lambda report: report.update(loss_total="2.5"),
        lambda report: report.update(loss_total=None),
        lambda report: report["base_loss"].update(metrics={}),
        lambda report: report["regularizers"]["topology"].pop("grad_norm_weighted"),
        lambda report: report["regularizers"]["topology"].update(weight=-1.0),
        lambda report: report["regularizers"]["topology"].update(weight="NaN"),
        lambda report: report["regularizers"]["topology"]["custom"].update(mode="minimize"),
        lambda report: report["regularizers"].update({"Upper": report["regularizers"]["topology"]}),
        lambda report: report["regularizers"].update({"base_loss": report["regularizers"]["topology"]}),
        lambda report: report["regularizers"].update({"a\n": report["regularizers"]["topology"]}),
    ],
)
def test_other_documents_are_refused(validator, change):
    """By the schema and by the reader alike: absent where null is due, another version, a key more, a text."""
    report = to_builtins(REPORT)
    change(report)
    assert not validator.is_valid(report)
    with pytest.raises(ParityError) as caught:
        from_json(json.dumps(report).encode(), LossReport)
    assert caught.value.code == "telemetry-malformed"


# --- lines ------------------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 5), _reports(METRICS)), max_size=4))
def test_lines_come_back(tmp_path_factory, line_validator, steps):
    """One line per call, with step and model; the file grows and is never written anew."""
    log = ReportLog(tmp_path_factory.mktemp("reports") / "reports.jsonl")
    log.path.touch()
    for step, report in steps:
        log.append(StepReport(step, "5c7d:train:0", report))
    lines = log.path.read_bytes().splitlines()
    for line in lines:
        line_validator.validate(json.loads(line))
    found = log.read()
    assert [(each.step, each.model_id) for each in found] == [(step, "5c7d:train:0") for step, _ in steps]
    assert all(_same(each.report, report) for each, (_, report) in zip(found, steps, strict=True))


@pytest.mark.parametrize(
    "line", [b"{", b"[]", b"{}", b"null", b'{"step":0,"model_id":"m","report":null}', b"\xff", b'{"step":-1}']
)
def test_a_line_that_is_none_is_named(tmp_path, line):
    """A file that was cut or edited: which file, which line."""
    log = ReportLog(tmp_path / "reports.jsonl")
    log.append(StepReport(0, "m", REPORT))
    with log.path.open("ab") as file:
        file.write(line)
    with pytest.raises(ParityError, match=re.escape(f"{log.path}, line 2")) as caught:
        log.read()
    assert caught.value.code == "telemetry-malformed"


# --- the flat form ----------------------------------------------------------------------------------------------------


@given(_reports(METRICS))
def test_the_flat_form_comes_back(report):
    """Document to flat form and back: what `left_out` lists is missing, and nothing else."""
    flat = flatten(report)
    assert all(KEY.fullmatch(key) for key in flat.metrics)
    assert all(isinstance(number, float) for number in flat.metrics.values())
    kept = _without(report, flat.left_out)
    assert _same(unflatten(flat.metrics), kept)
    # Among the metrics of a server it is found as well.
    assert _same(unflatten({"loss:sum": 1.0, **flat.metrics, "custom/mine:sum": 2.0}), kept)


def _without(report, left_out):
    def kept(prefix, custom):
        return {key: value for key, value in custom.items() if f"{prefix}.custom.{key}" not in left_out}

    base = report.base_loss
    return msgspec.structs.replace(
        report,
        base_loss=base and msgspec.structs.replace(base, custom=kept("base_loss", base.custom)),
        regularizers={
            name: msgspec.structs.replace(each, custom=kept(f"regularizers.{name}", each.custom))
            for name, each in report.regularizers.items()
        },
    )


@given(_reports(st.text(max_size=3) | st.text(alphabet="ab:/", min_size=60, max_size=70) | METRICS))
def test_what_is_left_out_is_listed(report):
    """Metrics whose names do not fit are listed by their path, each of them, and no other."""
    flat = flatten(report)
    parts = {f"regularizers.{name}": each.custom for name, each in report.regularizers.items()}
    if report.base_loss is not None:
        parts["base_loss"] = report.base_loss.custom
    paths = [f"{prefix}.custom.{metric}" for prefix, custom in parts.items() for metric in custom]
    assert set(flat.left_out) <= set(paths)
    carried = [key for key in flat.metrics if "/custom/" in key or "/reduced/" in key]
    assert len(carried) + len(flat.left_out) == len(paths)


def test_names_and_reductions_of_the_flat_form():
    """What adds up is a sum, what does not is a mean; a null is not there."""
    assert flatten(REPORT).metrics == {
        "custom/loss_total:sum": REPORT.loss_total,
        "custom/regularizer_total:sum": REPORT.regularizer_total,
        "custom/total_grad_norm:mean": 5.67,
        "custom/base_loss/value:sum": 2.5,
        "custom/base_loss/custom/perplexity:mean": 12.18,
        "custom/topology/value:sum": 1.23,
        "custom/topology/weight:mean": 0.1,
        "custom/topology/contribution:sum": 0.1 * 1.23,
        "custom/topology/custom/beta_1_mean:mean": 3.2,
        "custom/sparsity/value:sum": 22.4,
        "custom/sparsity/weight:mean": 0.01,
        "custom/sparsity/contribution:sum": 0.01 * 22.4,
        "custom/sparsity/grad_norm:mean": 7.48,
        "custom/sparsity/grad_norm_weighted:mean": 0.01 * 7.48,
    }


def test_a_metric_may_name_its_reduction():
    """`x`, `x:sum` and `x:mean` are three metrics, and stay three."""
    report = loss_report(None, [("r", term_report(1.0, 1.0, None, {"x": 1.0, "x:sum": 2.0, "x:mean": 3.0}))], None)
    metrics = flatten(report).metrics
    assert metrics["custom/r/custom/x:mean"] == 1.0
    assert metrics["custom/r/reduced/x:sum"] == 2.0
    assert metrics["custom/r/reduced/x:mean"] == 3.0
    assert unflatten(metrics) == report


def test_a_metric_without_a_name_is_left_out():
    """It is listed: the flat form has no place for it."""
    report = loss_report(BaseLoss(1.0, None, {"": 1.0}), [("r", term_report(1.0, 1.0, None, {"": 2.0}))], None)
    flat = flatten(report)
    assert flat.left_out == ("base_loss.custom.", "regularizers.r.custom.")
    assert unflatten(flat.metrics).regularizers["r"].custom == {}


def test_a_log_makes_its_folder(tmp_path):
    """A folder that is not there yet does not lose the report of a call that has come to its end."""
    log = ReportLog(tmp_path / "not" / "there" / "reports.jsonl")
    log.append(StepReport(0, "m", REPORT))
    assert log.read() == (StepReport(0, "m", REPORT),)


def test_the_longest_name_has_room_for_its_norms():
    """40 letters fit into upstream's 64 with every field of a regularizer."""
    report = loss_report(None, [("n" * 40, term_report(1.0, 1.0, 1.0, {"x": 1.0}))], 1.0)
    flat = flatten(report)
    assert flat.left_out == ()
    assert unflatten(flat.metrics) == report


@pytest.mark.parametrize(
    "missing", ["custom/loss_total:sum", "custom/regularizer_total:sum", "custom/topology/weight:mean"]
)
def test_an_incomplete_flat_form_is_refused(missing):
    """A number of the report that is not there is an error that names it, not a zero."""
    metrics = flatten(REPORT).metrics
    del metrics[missing]
    with pytest.raises(ParityError, match=missing.split("/")[-1].split(":")[0]) as caught:
        unflatten(metrics)
    assert caught.value.code == "telemetry-malformed"


def test_no_number_and_infinity_in_both_forms():
    """NaN and infinities are spelled in JSON, and are floats in the flat form."""
    report = loss_report(BaseLoss(math.inf, math.nan, {"x": -math.inf}), [], math.nan)
    written = json.loads(to_json(report), parse_constant=_no_constant)
    assert (written["loss_total"], written["base_loss"]["grad_norm"]) == ("Infinity", "NaN")
    assert written["base_loss"]["custom"] == {"x": "-Infinity"}
    assert _same(unflatten(flatten(report).metrics), report)
