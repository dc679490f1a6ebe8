"""Published schemas are the same on every Python."""

from __future__ import annotations

import inspect

from harness.schemas import cleaned

DOC = """What it is.

    More about it, as the source indents it:
      a list.
    """


def test_indentation_of_docstrings_leaves_no_trace() -> None:
    """A description is the same whether the compiler has taken the indentation away or not."""
    before, after = DOC, inspect.cleandoc(DOC) + "\n"
    wanted = "What it is.\n\nMore about it, as the source indents it:\n  a list."
    assert cleaned({"$defs": [{"description": before}]}) == {"$defs": [{"description": wanted}]}
    assert cleaned({"$defs": [{"description": after}]}) == {"$defs": [{"description": wanted}]}


def test_a_property_called_description_stays() -> None:
    """Only text is laid out; a property of that name is a schema like any other."""
    schema = {"properties": {"description": {"type": "string", "default": " x "}}, "required": ("description",)}
    assert cleaned(schema) == {**schema, "required": ["description"]}


def test_null_stands_last_among_alternatives() -> None:
    """Releases of msgspec differ in where they put it; the others keep their order."""
    null, text, number = {"type": "null"}, {"type": "string"}, {"type": "number"}
    assert cleaned({"anyOf": [null, text, number]}) == {"anyOf": [text, number, null]}
    assert cleaned({"anyOf": [number, text]}) == {"anyOf": [number, text]}
