"""The index of the golden traces: the SHA-256 of every file, and of the index itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from harness.errors import ParityError
from harness.golden.placing import finish
from harness.golden.text import digest_of

INDEX = "index.json"
ARRAYS = "arrays"
_SCHEMA = 1
_HINT = "parity golden emit writes the golden traces anew; git shows what changed"


def corrupt(file: str, why: str) -> NoReturn:
    """Raise ParityError `golden-corrupt`, naming the file."""
    raise ParityError("golden-corrupt", f"golden file {file} {why}", hint=_HINT)


def array_path(digest: str) -> str:
    """Return where the array of a digest is, below the golden folder."""
    return f"{ARRAYS}/{digest}.bin"


def read_index(root: Path) -> dict[str, str]:
    """Return the SHA-256 of every golden file by its path below `root`; empty where there are no golden files.

    Finishes an emit that was killed first.
    Raises ParityError `golden-corrupt` where the index is not what `index_text` wrote.
    """
    try:
        finish(root)
    except OSError as error:
        corrupt(INDEX, f"is not the last one, and the emit that was cut off cannot be finished: {error}")
    path = root / INDEX
    if not path.exists():
        if any((root / ARRAYS).glob("*.bin")) or any(root.glob("[0-9]*/**/*.json")):
            corrupt(INDEX, "is missing")
        return {}
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        files = {str(name): str(digest) for name, digest in document["files"].items()}
        schema, claimed = document["schema"], document["digest"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        corrupt(INDEX, f"cannot be read: {error}")
    if schema != _SCHEMA or claimed != files_digest(files):
        corrupt(INDEX, "does not match its own digest")
    return files


def index_text(files: Mapping[str, str]) -> str:
    """Return the text of the index of these files."""
    document = {"schema": _SCHEMA, "digest": files_digest(files), "files": dict(sorted(files.items()))}
    return json.dumps(document, indent=1) + "\n"


def files_digest(files: Mapping[str, str]) -> str:
    """Return one SHA-256 over the paths and digests of files."""
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(files.items()))
    return digest_of(lines.encode())


def read_checked(root: Path, name: str, digest: str) -> bytes:
    """Return a file's bytes. Raises ParityError `golden-corrupt` where it is missing or has another digest."""
    try:
        content = (root / name).read_bytes()
    except OSError:
        corrupt(name, "is missing")
    if digest_of(content) != digest:
        corrupt(name, "was truncated or edited: its SHA-256 is not that of the index")
    return content
