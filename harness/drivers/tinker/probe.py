"""What the installed SDK is and can do, found by looking at it: no release is named here."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
from pathlib import Path
from typing import Any

_CALLS = (
    "forward",
    "forward_backward",
    "forward_backward_custom",
    "optim_step",
    "save_state",
    "load_state",
    "load_state_with_optimizer",
    "save_weights_for_sampler",
    "get_info",
)
_STYLED = tuple(name for name in _CALLS if name != "get_info")


def capabilities(sdk: Any) -> list[str]:
    """Return the names of what scenarios may ask for.

    `cancel` goes for tasks of concurrent calls and for most futures of plain ones. What some calls of some releases
    return shows no standard future; the result of the step says so then.
    """
    client = importlib.import_module("tinker.lib.public_interfaces.training_client").TrainingClient
    found = [name for name in _CALLS if hasattr(client, name)]
    if hasattr(sdk.ServiceClient, "create_lora_training_client"):
        found.append("create_model")
    if all(hasattr(client, f"{name}_async") for name in _STYLED if name in found):
        found.append("concurrent")
    if hasattr(sdk.ServiceClient, "close"):
        found.append("close")
    if importlib.util.find_spec("tinker.lib.telemetry"):
        found.append("telemetry")
    # Of the language, not the SDK: a callback can wait, and it gets the caller's own list of datums; programs idle and
    # end, have threads, and cancel what they have started.
    found += ["loss_delay", "loss_mutates", "cancel", "exit", "idle", "thread"]
    return sorted(found)


def digest_of_package(directory: Path) -> str:
    """SHA-256 over the names and contents of all files below a package, byte code aside."""
    total = hashlib.sha256()
    for file in sorted(directory.rglob("*")):
        if file.is_file() and "__pycache__" not in file.parts:
            name = file.relative_to(directory).as_posix().encode()
            total.update(hashlib.sha256(name).digest() + hashlib.sha256(file.read_bytes()).digest())
    return total.hexdigest()
