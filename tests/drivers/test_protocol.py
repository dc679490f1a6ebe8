"""The written protocol: schema, documentation and what is really said on the line agree."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import jsonschema
import msgspec
import pytest

from harness.drivers import schema
from harness.drivers.protocol import PROTOCOL, Answer, Command, ErrorKind, EvaluateAnswer, HelloAnswer, RunAnswer
from harness.drivers.python import spelling
from harness.drivers.registry import resolve
from harness.drivers.tinker import service

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = (ROOT / "docs" / "driver-protocol.md").read_text(encoding="utf-8")
PUBLISHED = ROOT / "docs" / "schema" / "driver-protocol.schema.json"
EXAMPLES = [json.loads(block) for block in re.findall(r"```json\n(.*?)\n```", DOCUMENT, flags=re.DOTALL)]
FAKE = Path(__file__).with_name("fake_driver.py")
FAKE_SDK = Path(__file__).with_name("fake_sdk")


@pytest.fixture(scope="module")
def lines() -> jsonschema.Draft202012Validator:
    """Return the validator of one line, from the published schema."""
    content = json.loads(PUBLISHED.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(content)
    return jsonschema.Draft202012Validator(content)


def test_the_published_schema_is_that_of_the_structs() -> None:
    """`python -m harness.drivers.schema > docs/schema/driver-protocol.schema.json` brings it up to date."""
    assert PUBLISHED.read_text(encoding="utf-8") == schema.render()


def test_the_drivers_speak_the_documented_version() -> None:
    """The document, the harness and the Python driver name the same version."""
    assert DOCUMENT.startswith(f"# Driver protocol {PROTOCOL}\n")
    assert service.PROTOCOL == PROTOCOL


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: ",".join(example)[:40])
def test_every_example_of_the_document_is_valid(
    lines: jsonschema.Draft202012Validator, example: dict[str, Any]
) -> None:
    """Lines fit the schema, and the structs take them; tensors fit the schema of tensors."""
    if "cmd" in example or "id" in example:
        lines.validate(example)
        kind = Command if "cmd" in example else Answer
        told = msgspec.convert(example, kind)
        if isinstance(told, Answer) and told.ok:
            shape = {"steps": RunAnswer, "results": EvaluateAnswer, "nonce": HelloAnswer}
            msgspec.convert(told.ok, next(shape[key] for key in shape if key in told.ok))
    else:
        lines.evolve(schema={**lines.schema, "oneOf": [{"$ref": "#/$defs/WireTensor"}]}).validate(example)


def test_the_document_has_an_example_of_every_command_and_answer() -> None:
    """Each command is shown with its answer, and a driver_error is shown."""
    commands = {example["cmd"]: example["id"] for example in EXAMPLES if "cmd" in example}
    assert sorted(commands) == ["evaluate", "hello", "run", "shutdown"]
    answered = {example["id"] for example in EXAMPLES if "ok" in example}
    assert set(commands.values()) <= answered
    assert any("driver_error" in example for example in EXAMPLES)


def test_the_document_names_every_error_kind_status_and_step() -> None:
    """The closed lists of the schema are the tables of the document."""
    definitions = schema.driver_protocol_schema()["$defs"]
    result = definitions["StepResult"]["properties"]
    kinds = set(get_args(ErrorKind))
    steps = definitions["Step"]["discriminator"]["mapping"].keys()
    for name in kinds | set(result["status"]["enum"]) | steps:
        assert f"| `{name}` |" in DOCUMENT, name


def test_the_document_describes_every_key() -> None:
    """No key of an answer or command is left unexplained."""
    definitions = schema.driver_protocol_schema()["$defs"]
    named = (
        "Hello",
        "HelloAnswer",
        "Run",
        "StepResult",
        "Saw",
        "TensorSummary",
        "WireTensor",
        "DriverError",
        "Evaluate",
    )
    for name in named:
        for key in definitions[name]["properties"]:
            assert f"`{key}`" in DOCUMENT or f'"{key}"' in DOCUMENT, f"{name}.{key}"


def test_the_spellings_of_the_document_are_those_of_the_code() -> None:
    """What the document promises about numbers is what the shared code does."""
    assert spelling.unspell(["NaN", "Infinity", "-Infinity", "-0.0"], "float32").tobytes().hex() == (
        "0000c07f0000807f000080ff00000080"
    )
    assert spelling.spell_int(2**53 + 1) == str(2**53 + 1)
    for name in ("NaN", "Infinity", "-Infinity", "-0.0"):
        assert f'`"{name}"`' in DOCUMENT


def talk(argv: tuple[str, ...], environment: dict[str, str], commands: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Say commands to a driver and return its lines; its stdout carries nothing else."""
    text = "".join(json.dumps(command) + "\n" for command in commands)
    done = subprocess.run(argv, input=text, env=environment, capture_output=True, text=True, timeout=120, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_the_transcript_of_the_smallest_driver_is_valid(lines: jsonschema.Draft202012Validator) -> None:
    """The example that the document points at keeps the protocol."""
    examples = [example for example in EXAMPLES if example.get("cmd") in ("hello", "run", "shutdown")]
    said = talk((sys.executable, str(FAKE)), {}, examples)
    assert [answer["id"] for answer in said] == [example["id"] for example in examples]
    for line in said:
        lines.validate(line)


def test_the_transcript_of_the_python_driver_is_valid(
    lines: jsonschema.Draft202012Validator, cache: Path, tmp_path: Path
) -> None:
    """The real driver answers the document's own examples with lines that fit the schema."""
    assert cache.is_dir()
    spec = resolve("tinker==0.38.0", sdk_path=FAKE_SDK)
    environment = {**spec.env, "HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
    by_command = {example["cmd"]: example for example in EXAMPLES if "cmd" in example}
    hello, evaluated = talk(spec.argv, environment, [by_command["hello"], by_command["evaluate"]])
    lines.validate(hello)
    lines.validate(evaluated)
    assert evaluated == next(example for example in EXAMPLES if example.get("id") == 3 and "ok" in example)
