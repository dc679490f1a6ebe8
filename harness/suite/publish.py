"""Writes what is published from the suite's own definitions: `python -m harness.suite.publish`.

The JSON Schemas, the operation table of docs/losses.md and the operation vectors. The tests fail when one is stale.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from harness.locations import locate
from harness.suite.losses import operations as ops
from harness.suite.losses.cases import make_vectors
from harness.suite.losses.operations import GROUPS, Operation
from harness.suite.losses.spelling import SPELLINGS
from harness.suite.losses.vectors import dump_vectors
from harness.suite.schema import loss_schema, scenario_schema, text

BEGIN = "<!-- operations: written by python -m harness.suite.publish -->"
END = "<!-- end of operations -->"

_SHAPES = {
    "S": "-> S",
    "D": "-> D",
    "T": "-> T",
    "V": "-> V",
    "same": "any -> same",
    "join": "equal shapes, or S with any",
    "segments": "T -> D",
    "expand": "D -> T",
    "take": "D, T, V -> V",
    "reduce": "D, T, V -> S",
    "dot": "two equal D, T, V -> S",
    "vector": "D, T, V -> same",
}
_ARGUMENTS = {"node": "", "number": "x", "datum": "i", "key": "key", "indices": "[i, ...]"}


def publish(root: Path) -> None:
    """Write every published file below `root`, a checkout."""
    for path, content in published(root).items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")


def published(root: Path) -> dict[Path, str]:
    """Return the published files of the checkout at `root` and what they should hold."""
    ops_folder = root / "fixtures" / "losses" / "ops"
    guide = root / "docs" / "losses.md"
    return {
        root / "docs" / "schema" / "scenario.schema.json": text(scenario_schema()),
        root / "docs" / "schema" / "loss.schema.json": text(loss_schema()),
        guide: _with_table(guide.read_text(encoding="utf-8")),
    } | {ops_folder / f"{name}.json": dump_vectors(vectors) for name, vectors in make_vectors().items()}


def _with_table(guide: str) -> str:
    before, _, rest = guide.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{operation_tables()}\n{END}{after}"


def operation_tables() -> str:
    """Return the tables of all operations as Markdown, one for each group."""
    lines: list[str] = []
    for group, operations in GROUPS.items():
        lines += ["", f"### {group[0].upper()}{group[1:]}", ""]
        lines += ["| operation | shapes | meaning | domain | gradient at kinks | torch | numpy | Nx |"]
        lines += ["|---|---|---|---|---|---|---|---|"]
        lines += [_row(operation) for operation in operations]
    return "\n".join(lines)


def _row(operation: Operation) -> str:
    spelling = SPELLINGS[operation.name]
    cells = [
        f"`{_form(operation)}`",
        _SHAPES[operation.shape],
        operation.meaning,
        "; ".join(_domain(operation)) or "everywhere",
        operation.kink or "-",
        *(f"`{each}`" for each in spelling),
    ]
    return "| " + " | ".join(cells) + " |"


def _form(operation: Operation) -> str:
    if operation.name == "clip":
        return '["clip", a, lo, hi]'
    if operation.name == "pow":
        return '["pow", a, p]'
    if operation.name == "where":
        return '["where", c, a, b]'
    names = iter("ab")
    written = [next(names) if kind == "node" else _ARGUMENTS[kind] for kind in operation.arguments]
    return "[" + ", ".join([f'"{operation.name}"', *written]) + "]"


def _domain(operation: Operation) -> Iterator[str]:
    for guard in operation.guards:
        argument = "ab"[getattr(guard, "argument", 0)]
        if isinstance(guard, ops.Within):
            yield f"{argument} in [{guard.low:g}, {guard.high:g}]"
        elif isinstance(guard, ops.NotNear):
            yield f"abs({argument}) at least {guard.distance:g}"
        elif isinstance(guard, ops.KinkAt):
            yield f"{argument} away from {guard.point:g}"
        elif isinstance(guard, ops.KinkWhereEqual):
            yield "a away from b"
        elif isinstance(guard, ops.KinkAtTie):
            yield f"the {'smallest' if guard.smallest else 'largest'} element is unique"
        elif isinstance(guard, ops.NotEmpty):
            yield "at least one element"
        elif operation.name == "clip":
            yield "a away from lo and hi"
        else:
            yield "p whole and positive: everywhere; p whole and negative: abs(a) at least 0.01; else a in [0.01, 1e6]"


if __name__ == "__main__":
    publish(locate().root)
