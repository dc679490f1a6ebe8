"""Where packages come from: pip's settings, said in uv's words.

uv reads neither pip.conf nor PIP_* variables. Who has told pip where the packages are (a mirror, a folder of wheels)
expects the harness to know. uv's own variables win: when one of them names a source, nothing of pip's is used.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

_SOURCES_OF_UV = (
    "UV_CONFIG_FILE",
    "UV_DEFAULT_INDEX",
    "UV_EXTRA_INDEX_URL",
    "UV_FIND_LINKS",
    "UV_INDEX",
    "UV_INDEX_URL",
    "UV_NO_INDEX",
    "UV_OFFLINE",
)


def pip_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """Return pip's settings by option name (`index-url`): its variables, and `pip config list` where pip is here."""
    listed = _run_pip_config(environment)
    settings: dict[str, str] = {}
    # From weak to strong: files, their section for the command, variables.
    for section in ("global", "install", ":env:"):
        for line in listed.splitlines():
            name, separator, value = line.partition("=")
            if separator and name.rpartition(".")[0] == section:
                settings[name.rpartition(".")[2]] = _unquote(value)
    for name, value in environment.items():
        if name.startswith("PIP_"):
            settings[name.removeprefix("PIP_").lower().replace("_", "-")] = value
    return settings


def uv_settings(environment: Mapping[str, str], pip: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that make uv look where pip would; empty where uv has its own.

    Local sources that do not exist are left out: pip warns of them, uv fails.
    """
    settings: dict[str, str] = {}
    if pip.get("cert") and "SSL_CERT_FILE" not in environment:
        settings["SSL_CERT_FILE"] = pip["cert"]
    if any(environment.get(name) for name in _SOURCES_OF_UV):
        return settings
    if pip.get("index-url"):
        settings["UV_DEFAULT_INDEX"] = pip["index-url"]
    extra = [url for url in pip.get("extra-index-url", "").split() if _may_exist(url)]
    if extra:
        settings["UV_INDEX"] = " ".join(extra)
        # pip takes the best version over all indexes; uv by default asks the first index that knows the name.
        settings["UV_INDEX_STRATEGY"] = environment.get("UV_INDEX_STRATEGY", "unsafe-best-match")
    links = [place for place in pip.get("find-links", "").split() if _may_exist(place)]
    if links:
        settings["UV_FIND_LINKS"] = ",".join(links)
    if pip.get("no-index", "").lower() in ("1", "true", "yes", "on"):
        settings["UV_NO_INDEX"] = "1"
    if pip.get("trusted-host"):
        settings["UV_INSECURE_HOST"] = " ".join(pip["trusted-host"].split())
    return settings


def _may_exist(source: str) -> bool:
    """Whether a source is remote, or a local path that is there."""
    parts = urlsplit(source)
    if parts.scheme == "file":
        return Path(unquote(parts.path)).exists()
    return parts.scheme in ("http", "https") or Path(source).expanduser().exists()


def _run_pip_config(environment: Mapping[str, str]) -> str:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "config", "list"]
    done = subprocess.run(command, env=dict(environment), capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else ""


def _unquote(value: str) -> str:
    try:
        text = ast.literal_eval(value)
    except (SyntaxError, ValueError):
        return value
    return text if isinstance(text, str) else value
