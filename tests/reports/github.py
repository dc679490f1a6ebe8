"""How GitHub's runner reads the output of a step: which lines are workflow commands, and what they say."""

from __future__ import annotations

import re

_COMMAND = re.compile(r"::(?P<name>[^ :]+)(?: (?P<properties>[^:]*))?::(?P<data>.*)", re.DOTALL)
_OLD = re.compile(r"##\[(?P<name>[^\] ]+)(?: (?P<properties>[^\]]*))?\](?P<data>.*)", re.DOTALL)


def workflow_commands(output: str) -> list[tuple[str, dict[str, str], str]]:
    """Return the commands in `output`, in order: name, properties and data, unescaped.

    As the runner does it: a line is a command when it starts with `::` after spaces, or has `##[` anywhere; after
    `stop-commands` everything is text until the token stands alone in a command.
    """
    found = []
    stopped = ""
    for line in re.split("[\r\n]+", output):
        match = _COMMAND.match(line.lstrip()) or _OLD.search(line)
        if match is None:
            continue
        name, data = match["name"], match["data"]
        if stopped:
            if name == stopped:
                stopped = ""
        elif name == "stop-commands":
            stopped = data
        else:
            properties = dict(p.split("=", 1) for p in (match["properties"] or "").split(",") if "=" in p)
            found.append((name, {k: _plain(v, ":,") for k, v in properties.items()}, _plain(data)))
    assert not stopped, "commands were never allowed again"
    return found


def _plain(text: str, more: str = "") -> str:
    for character in f"\r\n{more}":
        text = text.replace(f"%{ord(character):02X}", character)
    return text.replace("%25", "%")
