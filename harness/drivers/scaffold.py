"""The skeleton of a new driver, written into a folder of the user's."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from harness.errors import ParityError

LANGUAGES: Mapping[str, str] = MappingProxyType(
    {"python": "python driver.py", "javascript": "node driver.mjs", "elixir": "./driver.sh"}
)
"""The languages there is a skeleton for, and the command that starts it in its folder."""

_TEMPLATES = Path(__file__).resolve().parent / "templates"
_PLACEHOLDER = "SDK_NAME"
_NEXT = "NEXT.md"
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")


def write_skeleton(language: str, folder: Path, *, name: str) -> tuple[Path, ...]:
    """Write the skeleton of a driver for the SDK called `name`; return the files, in order.

    Raises ParityError `skeleton-unknown` (no such language), `skeleton-folder` (the folder is there and not empty, or
    cannot be written to), `sdk-malformed` (a name that reports and ledgers could not go by).
    """
    if language not in LANGUAGES:
        raise ParityError(
            "skeleton-unknown",
            f"there is no skeleton in {language!r}",
            hint=f"There are {', '.join(LANGUAGES)}. For any other language docs/writing-a-driver.md shows the way.",
        )
    if not _NAME.fullmatch(name):
        raise ParityError(
            "sdk-malformed", f"{name!r} names no SDK", hint="A name has lower-case letters, digits, - and _."
        )
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise ParityError(
            "skeleton-folder",
            f"{folder} is there already, and not an empty folder",
            hint="Name a new folder: nothing that is there is written over.",
        )
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for template in sorted((_TEMPLATES / language).iterdir()):
            if not template.is_file():
                continue
            text = template.read_text("utf-8")
            if template.name == "README.md":
                text += (_TEMPLATES / _NEXT).read_text("utf-8")
            place = folder / template.name
            place.write_text(text.replace(_PLACEHOLDER, name), "utf-8")
            shutil.copymode(template, place)
            if text.startswith("#!"):
                place.chmod(0o755)  # a wheel does not keep the mode
            written.append(place)
    except OSError as error:
        raise ParityError(
            "skeleton-folder", f"{folder} cannot be written to: {error}", hint="Name a folder that can be."
        ) from error
    return tuple(written)
