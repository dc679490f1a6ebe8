"""Console blocks of a Markdown document: what a reader would type, line by line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

PROGRAMS = ("parity", "(parity", "make", "git", "python", "pytest", "pip", "node", ". ", "cd ")
"""What a line of an indented block, or of a fence without a language, begins with where it is to be typed."""

LANGUAGES = {"console", "sh", "bash", "shell"}
_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>[\w-]*)\s*$")
_COMMENT = re.compile(r"(^|\s{2,})#\s.*$")


@dataclass(frozen=True, slots=True)
class Block:
    """The commands of one block, comments taken away. `line` is the first line's number in the document."""

    document: str
    line: int
    commands: tuple[str, ...]


def console_blocks(document: str, text: str) -> list[Block]:
    """Return the console blocks of `text`, in order."""
    found = []
    for line, language, lines in _code(text):
        typed = [command for raw in lines if (command := _command(raw))]
        if language in LANGUAGES or (not language and typed and typed[0].startswith(PROGRAMS)):
            found.append(Block(document, line, tuple(_joined(typed))))
    return found


def _command(raw: str) -> str:
    """Return what is typed of a line: without its comment and prompt."""
    return _COMMENT.sub("", raw).strip().removeprefix("$ ")


def _joined(lines: list[str]) -> Iterator[str]:
    """Join lines that end with a backslash to the next."""
    open_line = ""
    for line in lines:
        if line.endswith("\\"):
            open_line += line.removesuffix("\\").rstrip() + " "
            continue
        yield open_line + line
        open_line = ""
    if open_line:
        yield open_line.rstrip()


def _code(text: str) -> Iterator[tuple[int, str, list[str]]]:
    """Yield first line, language and lines of every fenced or indented block of code."""
    lines = text.splitlines()
    place = 0
    while place < len(lines):
        if fence := _FENCE.match(lines[place]):
            end = next(
                (k for k in range(place + 1, len(lines)) if lines[k].strip() == "```"),
                len(lines),
            )
            yield place + 2, fence["language"], lines[place + 1 : end]
            place = end + 1
        elif lines[place].startswith("    ") and (place == 0 or not lines[place - 1].strip()):
            end = place
            while end < len(lines) and lines[end].startswith("    "):
                end += 1
            yield place + 1, "", lines[place:end]
            place = end
        else:
            place += 1
