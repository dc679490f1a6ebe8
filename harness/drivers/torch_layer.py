"""torch of the harness, lent to the environments of SDKs.

torch is large; every SDK release gets an environment of its own, but no torch of its own. The layer is a directory of
symbolic links to the top-level modules of torch and of what torch requires, and to nothing else: an SDK that could
import the harness's other packages would not be judged as its users have it. The environment's own packages come
first on its path.
"""

from __future__ import annotations

import csv
import hashlib
import json
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from harness.drivers.cache import cached
from harness.drivers.interpreters import Interpreter, own_interpreter
from harness.errors import ParityError


@dataclass(frozen=True, slots=True)
class Layer:
    """What a layer links: `links` maps each name in the layer to its target; `key` tells layers apart."""

    key: str
    versions: dict[str, str]
    links: dict[str, Path]


def plan_layer(interpreter: Interpreter | None = None) -> Layer:
    """Find torch and its runtime requirements among the packages of an interpreter, the harness's own unless named.

    An interpreter without torch borrows the harness's, where that was built for its like.

    Raises ParityError `torch-missing` when torch or a requirement of it is not installed there.
    """
    interpreter = interpreter or own_interpreter()
    lender = own_interpreter()
    if not interpreter.mine and _installed("torch", interpreter) is not None:
        lender = interpreter
    elif interpreter.tag != lender.tag:
        torch = _installed("torch", lender)
        raise ParityError(
            "torch-missing",
            f"{interpreter.executable} (Python {interpreter.version}) has no torch, and that of the harness is for "
            f"Python {lender.minor}",
            hint="make an environment of that Python, `pip install "
            f"torch=={torch.version.partition('+')[0] if torch else 'VERSION'}` into it, and name its python",
        )
    closure = _closure("torch", lender)
    links: dict[str, Path] = {}
    for distribution in closure.values():
        for name in sorted(_top_level(distribution)):
            links.setdefault(name, Path(str(distribution.locate_file(name))))
    versions = {name: distribution.version for name, distribution in sorted(closure.items())}
    identity = [lender.minor, lender.tag]
    identity += [f"{name} {version}" for name, version in versions.items()]
    identity += [f"{name} {target}" for name, target in sorted(links.items())]
    digest = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:12]
    return Layer(key=f"torch-{versions['torch']}-{digest}", versions=versions, links=links)


def torch_layer(cache: Path, interpreter: Interpreter | None = None) -> Path:
    """Return the layer's directory, made again when a link of it dangles. Raises ParityError `torch-missing`."""
    layer = plan_layer(interpreter)

    def valid(place: Path) -> bool:
        return place.is_dir() and all((place / name).exists() for name in layer.links)

    def build(site: Path) -> None:
        for name, target in layer.links.items():
            (site / name).symlink_to(target)

    return cached(cache / "layers" / layer.key, valid=valid, build=build)


def _installed(name: str, interpreter: Interpreter) -> metadata.Distribution | None:
    if interpreter.mine:
        try:
            return metadata.distribution(name)
        except metadata.PackageNotFoundError:
            return None
    return next(iter(metadata.distributions(name=name, path=list(interpreter.path))), None)


def _closure(root: str, lender: Interpreter) -> dict[str, metadata.Distribution]:
    found: dict[str, metadata.Distribution] = {}
    wanted = [Requirement(root)]
    surroundings = {"python_version": lender.minor, "python_full_version": lender.version}
    while wanted:
        requirement = wanted.pop()
        name = canonicalize_name(requirement.name)
        if name in found:
            continue
        distribution = _installed(name, lender)
        if distribution is None:
            where = "next to the harness" if lender.mine else f"in {lender.executable}"
            raise ParityError(
                "torch-missing",
                f"{name} is not installed {where}, and torch needs it" if found else "torch is not installed",
                hint="Install the harness with its dependencies; SDK environments borrow their torch from it.",
            )
        found[name] = distribution
        for line in distribution.requires or ():
            further = Requirement(line)
            extras = requirement.extras or {""}
            if further.marker is None or any(
                further.marker.evaluate(surroundings | {"extra": extra}) for extra in extras
            ):
                wanted.append(further)
    return found


def _top_level(distribution: metadata.Distribution) -> set[str]:
    """Return what the distribution has put into its site-packages, apart from path files and byte code."""
    record = distribution.read_text("RECORD")
    if record:
        # What `files` reads, without an object for each of torch's ten thousand files: it takes a tenth of a second.
        names = {row[0].partition("/")[0] for row in csv.reader(record.splitlines()) if row}
    elif distribution.files is None:
        names = set((distribution.read_text("top_level.txt") or distribution.metadata["Name"]).split())
    else:
        names = {file.parts[0] for file in distribution.files}
    return {
        name
        for name in names
        if name not in ("..", "__pycache__") and not name.endswith(".pth") and not name.startswith("/")
    }
