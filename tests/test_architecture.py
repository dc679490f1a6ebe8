"""The import rules of docs/architecture.md hold, read from the document itself."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RULES = {
    row[1]: frozenset(re.findall(r"`([\w.]+)`", row[2]))
    for row in re.finditer(
        r"^\| `([\w.]+)` \|(.*)\|$", (ROOT / "docs/architecture.md").read_text("utf-8"), re.MULTILINE
    )
}
MODULES = sorted(path.relative_to(ROOT) for room in ("harness", "mock_server") for path in (ROOT / room).rglob("*.py"))
ENTRANCES = {"harness/__init__.py", "harness/__main__.py"}
STANDALONE = ("harness/drivers/python/", "harness/drivers/tinker/")


def _room(module: str) -> str:
    parts = module.split(".")
    return parts[0] if parts[0] == "mock_server" or len(parts) == 1 else parts[1]


def _imports(path: Path) -> set[str]:
    """Return every module that the file imports, relative imports resolved."""
    package = list(path.parent.parts)
    found: set[str] = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            # `from harness.drivers import wire` names a module too.
            found |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
    return {name for name in found if name.split(".")[0] in {"harness", "mock_server"}}


def _allowed(name: str, room: str) -> bool:
    if name == "harness" or _room(name) in {room, "errors"}:
        return True
    local = name.removeprefix("harness.")
    return any(f"{local}.".startswith(f"{rule}.") or rule.startswith(f"{local}.") for rule in RULES[room])


def test_every_room_has_a_rule():
    """A new room cannot appear without saying what it may import."""
    rooms = {_room(".".join(path.with_suffix("").parts)) for path in MODULES if path.as_posix() not in ENTRANCES}
    assert rooms <= set(RULES)


@pytest.mark.parametrize("path", [path for path in MODULES if path.as_posix() not in ENTRANCES], ids=str)
def test_imports_follow_the_rules(path):
    """Each module imports only what its room may import."""
    room = _room(".".join(path.with_suffix("").parts))
    assert {name for name in _imports(path) if not _allowed(name, room)} == set()


@pytest.mark.parametrize("path", [path for path in MODULES if path.as_posix().startswith(STANDALONE)], ids=str)
def test_what_the_sdks_interpreter_runs_stands_alone(path):
    """Files run by the SDK's own interpreter name nothing of the harness, and reach each other relatively."""
    tree = ast.parse((ROOT / path).read_text("utf-8"))
    absolute = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    absolute |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and not node.level}
    assert {name for name in absolute if name.split(".")[0] in {"harness", "mock_server"}} == set()
    rooms = tuple(room.removesuffix("/").replace("/", ".") for room in STANDALONE)
    assert {name for name in _imports(path) if not any(f"{name}.".startswith(f"{room}.") for room in rooms)} == set()


def test_nobody_imports_the_command_line():
    """Whatever a command does can be done without it."""
    importers = {
        path.as_posix()
        for path in MODULES
        if path.parts[:2] != ("harness", "cli") and any(_room(name) == "cli" for name in _imports(path))
    }
    assert importers == {"harness/__main__.py"}


def test_a_forbidden_import_is_seen():
    """The rules can fail: a check that imported the engine, or a report that imported a trace, would be named."""
    assert not _allowed("harness.engine.run", "checks")
    assert not _allowed("harness.trace.model", "reports")
    assert not _allowed("harness.suite.loader", "checks")
    assert _allowed("harness.suite.scenario", "checks")
