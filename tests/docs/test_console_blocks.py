"""Every console block of the README and of docs/ is typed here, line by line, as a reader would.

What the documents do with Tinkex is typed by a reader who has no Elixir, and is told what to install. Where `TINKEX`
names a compiled checkout of Tinkex, and Elixir is on PATH, it is typed by one who has both.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from docs.blocks import Block, console_blocks
from docs.reader import Reader, a_readers_environment

ROOT = Path(__file__).parents[2]
PROGRAMS = Path(sys.executable).parent
BLOCKS: Mapping[str, list[Block]] = {
    document: found
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    if (found := console_blocks(document := path.relative_to(ROOT).as_posix(), path.read_text("utf-8")))
}
SDK = "tinker==0.38.0"
TINKEX = os.environ.get("TINKEX", "")

ENDS_WITH = {
    "parity run --sdk tinker==0.38.0 --contract tinker-0.7.0 -k custom/sum-literal": 1,
    "parity drive custom/sum-literal --attach": 2,  # the wait is interrupted
    "parity check imported --scenario chunks/count-1025 --contract tinker-0.38.0 --json verdicts.json": 1,
}
"""Exit statuses that are meant, where a command shows a divergence; every other command ends with 0."""

REFUSED = {
    "parity run --sdk tinkex": "elixir-missing",
    "parity run --sdk tinkex --sdk-path ../tinkex": "elixir-missing",
    "parity run --sdk tinkex --ledger parity-ledger.toml --update-ledger": "elixir-missing",
    "parity run --sdk tinkex --sdk-path DIR --json report.json": "elixir-missing",
}
"""Commands that need what no package index has: they end with 2 and this code, or with 0 where it is there."""


NARROWED = {
    "parity gate --sdk tinker==0.38.0 --json report.json --junit junit.xml --html report.html": " -k custom",
    "parity gate --sdk tinker==0.38.0 --json report.json --junit junit.xml": " -k custom",
}
"""Commands that drive a real release through the whole suite, typed with less; `make run` takes less from ARGUMENTS."""


def _an_installation(folder: Path) -> None:
    """Put what `make run` has made there."""
    (folder / ".venv").symlink_to(PROGRAMS.parent)


def _own_scenarios(folder: Path) -> None:
    """Put a folder of a user's own scenarios there, under the name that the documents give it."""
    text = (ROOT / "fixtures/scenarios/custom/sum-literal.toml").read_text("utf-8")
    place = folder / "DIR/scenarios/own"
    place.mkdir(parents=True)
    (place / "first.toml").write_text(text.replace('id = "custom/sum-literal"', 'id = "own/first"'), encoding="utf-8")


def _no_elixir(folder: Path) -> Path:
    """Return a folder whose `elixir` is none: on PATH it stands before one that this machine may have."""
    (folder / "none").mkdir()
    program = folder / "none" / "elixir"
    program.write_text("#!/bin/sh\nexit 127\n", encoding="utf-8")
    program.chmod(0o755)
    return folder / "none"


def _with_tinkex(command: str, folder: Path) -> str:
    """Return a command about Tinkex as one types it who has a checkout of it."""
    for place in ("../tinkex", "DIR"):
        command = command.removesuffix(f" --sdk-path {place}").replace(f" --sdk-path {place} ", " ")
    (folder / "parity-ledger.toml").write_text('sdk = "tinkex"\n', encoding="utf-8")
    return command.replace("--sdk tinkex", f"--sdk tinkex --sdk-path {TINKEX}")


def _a_tinker_checkout(folder: Path) -> None:
    """Put the official SDK's sources beside the folder of the reader."""
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-compile",
         "--target", str(folder / "tinker"), SDK],
        check=True,
    )  # fmt: skip


def _the_fixtures(folder: Path) -> None:
    """Put the fixtures there, as a checkout has them."""
    (folder / "fixtures").symlink_to(ROOT / "fixtures")


def _a_report_of_tinkex(folder: Path) -> None:
    """Put the report of the recorded run of Tinkex there, and the fixtures it is read beside."""
    _the_fixtures(folder)
    recording = ROOT / "fixtures/recorded/tinkex-0.4.0"
    subprocess.run([PROGRAMS / "parity", "check", recording, "--json", folder / "report.json"], check=True, stdout=-3)


def _traffic(folder: Path) -> None:
    """Put a HAR file there, as a browser's developer tools export it."""
    request = {
        "method": "POST",
        "url": "http://127.0.0.1:8000/api/v1/create_session",
        "headers": [{"name": "x-api-key", "value": "tml-x"}, {"name": "content-type", "value": "application/json"}],
        "postData": {"mimeType": "application/json", "text": json.dumps({"tags": [], "type": "create_session"})},
    }
    answer = {
        "status": 200,
        "headers": [{"name": "content-type", "value": "application/json"}],
        "content": {"mimeType": "application/json", "text": json.dumps({"session_id": "s"})},
    }
    entry = {"startedDateTime": "2026-01-01T00:00:00.000Z", "time": 1.0, "request": request, "response": answer}
    document = {"log": {"version": "1.2", "creator": {"name": "by hand", "version": "1"}, "entries": [entry]}}
    (folder / "traffic.har").write_text(json.dumps(document), encoding="utf-8")


def _a_ledger(folder: Path) -> None:
    """Put a ledger there that knows of nothing yet."""
    (folder / "known.toml").write_text('sdk = "my-sdk"\n', encoding="utf-8")


PREPARED: Mapping[str, Callable[[Path], None]] = {
    "README.md": _a_tinker_checkout,
    "docs/first-five-minutes.md": _an_installation,
    "docs/own-scenarios.md": _own_scenarios,
    "docs/replay.md": _traffic,
    "docs/writing-a-driver.md": _a_ledger,
    "docs/reports.md": _the_fixtures,
    "docs/tinkex.md": _a_report_of_tinkex,
}
"""What a document takes for granted that a reader has."""


@pytest.mark.parametrize("document", BLOCKS)
def test_what_a_document_prints_can_be_typed(document: str, tmp_path: Path) -> None:
    """Each command ends as the document says, in the folder and environment that those before it left."""
    if prepare := PREPARED.get(document):
        prepare(tmp_path)
    published = tmp_path / "published" / "parity"  # git names a clone after the last part of where it comes from
    published.parent.mkdir()
    published.symlink_to(ROOT)
    environment = a_readers_environment(tmp_path, PROGRAMS)
    if not TINKEX:
        environment["PATH"] = f"{_no_elixir(tmp_path)}{os.pathsep}{environment['PATH']}"
    reader = Reader(tmp_path, environment, {"<this repository>": str(published)})
    for block in BLOCKS[document]:
        for command in block.commands:
            refused = "" if TINKEX else REFUSED.get(command, "")
            wanted = _with_tinkex(command, reader.folder) if TINKEX and command in REFUSED else command
            typed = reader.type(wanted + NARROWED.get(command, ""))
            where = f"{document}, line {block.line}: {command}\n{typed.output}"
            if refused:
                assert typed.status == 2, where
                assert f"error [{refused}]" in typed.output, where
            else:
                assert typed.status == ENDS_WITH.get(command, 0), where
            assert "Traceback (most recent call last)" not in typed.output, where


def test_the_documents_have_blocks() -> None:
    """The README and the pages that show commands are found; the exceptions above are about printed commands."""
    assert {"README.md", "docs/own-scenarios.md", "docs/replay.md"} <= set(BLOCKS)
    printed = {command for blocks in BLOCKS.values() for block in blocks for command in block.commands}
    assert {*ENDS_WITH, *REFUSED, *NARROWED} <= printed
    assert set(PREPARED) <= set(BLOCKS)


def test_blocks_are_told_from_other_code() -> None:
    """Fences and indented blocks that begin with a command are typed; configuration, diagrams and JSON are not."""
    text = """Text.

    parity list            # what there is
    parity run --sdk x \\
        --json report.json

    key = "value"   # TOML

```console
$ make test
```

```json
{"parity": 1}
```
"""
    assert console_blocks("x.md", text) == [
        Block("x.md", 3, ("parity list", "parity run --sdk x --json report.json")),
        Block("x.md", 10, ("make test",)),
    ]


def test_a_command_that_fails_is_seen(tmp_path: Path) -> None:
    """The reader tells the status of what was typed, and goes on in the folder and environment it left."""
    (tmp_path / "inner").mkdir()
    reader = Reader(tmp_path, a_readers_environment(tmp_path, PROGRAMS))
    assert reader.type("cd inner && export SEEN=yes").status == 0
    typed = reader.type('basename "$PWD"; echo "$SEEN"; exit 3')
    assert (typed.status, typed.output.split()) == (3, ["inner", "yes"])
