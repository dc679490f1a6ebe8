"""Environments of releases: what is in them, what is lent to them, and what can keep them from being built."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

from harness.drivers import torch_layer as layers
from harness.drivers.constraints import read_constraints
from harness.drivers.environments import NOT_INSTALLED, Environment, environment_for
from harness.drivers.interpreters import own_interpreter
from harness.drivers.torch_layer import plan_layer, torch_layer
from harness.errors import ParityError


def wheel(folder: Path, name: str, version: str, *, requires: tuple[str, ...] = (), module: str = "") -> None:
    """Write a wheel of one module."""
    information = f"{name}-{version}.dist-info"
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    lines += [f"Requires-Dist: {requirement}" for requirement in requires]
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        archive.writestr(f"{name}/__init__.py", module or f"VERSION = {version!r}\n")
        archive.writestr(f"{information}/METADATA", "\n".join(lines) + "\n")
        archive.writestr(f"{information}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{information}/RECORD", "")


@pytest.fixture(scope="module")
def offline(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return variables with which uv knows nothing but a folder of two releases of an SDK and of typing_extensions."""
    folder = tmp_path_factory.mktemp("wheels")
    for version in ("1.0.0", "3.0.0"):
        wheel(folder, "tinker", version, requires=("typing_extensions", *NOT_INSTALLED))
    wheel(folder, "tinker", "4.0.0", requires=("no-such-package",))
    wheel(folder, "typing_extensions", "99.0")
    return {
        **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
        "UV_NO_INDEX": "1",
        "UV_FIND_LINKS": str(folder),
        "UV_CACHE_DIR": str(tmp_path_factory.mktemp("uv")),
    }


@pytest.fixture(scope="module")
def built(offline: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """Build the environment of the first release."""
    return environment_for("tinker", "1.0.0", cache=tmp_path_factory.mktemp("cache"), variables=offline)


def ask(environment: Environment, expression: str) -> object:
    """Evaluate an expression of imported names with the environment's interpreter."""
    script = f"import json, sys, importlib, importlib.util; print(json.dumps({expression}))"
    command = [str(environment.python), "-s", "-P", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={}, cwd="/")
    return json.loads(done.stdout)


def test_what_the_sdk_requires_is_installed_and_stamped(built: Environment) -> None:
    """The stamp names every installed package; dependencies that are left out are not among them."""
    assert dict(built.libraries) == {"tinker": "1.0.0", "typing-extensions": "99.0"}
    assert ask(built, "importlib.import_module('tinker').VERSION") == "1.0.0"


def test_torch_is_lent_and_nothing_else(built: Environment) -> None:
    """What torch requires can be found, what else the harness has cannot; the SDK's own packages come first."""
    names = ["torch", "sympy", "harness", "click", "numpy", "hypothesis", "pip"]
    found = ask(built, f"[name for name in {names} if importlib.util.find_spec(name)]")
    assert found == ["torch", "sympy"]
    assert ask(built, "importlib.import_module('typing_extensions').VERSION") == "99.0"
    path = ask(built, "sys.path")
    assert isinstance(path, list)
    assert Path(path[-1]).name == plan_layer().key
    assert Path(path[-2]).name == "site-packages"


def test_the_layer_is_the_closure_of_torch() -> None:
    """Every link belongs to a distribution that torch requires, itself included."""
    layer = plan_layer()
    assert layer.versions["torch"] == metadata.version("torch")
    assert {"torch", "sympy", "jinja2"} <= set(layer.versions)
    assert not {"click", "msgspec", "uv", "pytest", "parity"} & set(layer.versions)
    assert {"torch", "sympy", "typing_extensions.py"} <= set(layer.links)
    assert not [name for name in layer.links if name.endswith(".pth") or name in ("..", "__pycache__")]


def test_a_dangling_layer_is_made_again(tmp_path: Path) -> None:
    """When a link leads nowhere, the layer is replaced by one that leads somewhere."""
    place = torch_layer(tmp_path)
    (place / "torch").unlink()
    (place / "torch").symlink_to(tmp_path / "gone")
    assert torch_layer(tmp_path) == place
    assert (place / "torch" / "__init__.py").is_file()


def test_another_torch_is_another_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The key follows the versions and the places of what is lent."""
    before = plan_layer().key
    closure = layers._closure("torch", own_interpreter())
    without = {name: found for name, found in closure.items() if name != "sympy"}
    monkeypatch.setattr(layers, "_closure", lambda *_: without)
    assert plan_layer().key != before


def test_without_torch_there_is_no_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names what is missing."""

    def nothing(name: str) -> metadata.Distribution:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", nothing)
    with pytest.raises(ParityError, match="torch is not installed") as caught:
        plan_layer()
    assert caught.value.code == "torch-missing"


def test_an_environment_is_built_once(built: Environment, offline: dict[str, str]) -> None:
    """The second time neither uv nor an index is needed."""
    nothing = {**offline, "UV_FIND_LINKS": "/nonexistent", "PATH": "/nonexistent"}
    again = environment_for("tinker", "1.0.0", cache=built.root.parent.parent, variables=nothing)
    assert again == built


@pytest.mark.parametrize("damage", ["stamp", "python"])
def test_a_damaged_environment_is_built_again(offline: dict[str, str], tmp_path: Path, damage: str) -> None:
    """Without its stamp, or without an interpreter, an environment does not count."""
    environment = environment_for("tinker", "1.0.0", cache=tmp_path, variables=offline)
    if damage == "stamp":
        (environment.root / "parity.json").write_text("{")
    else:
        environment.python.unlink()
    assert environment_for("tinker", "1.0.0", cache=tmp_path, variables=offline) == environment
    assert ask(environment, "importlib.import_module('tinker').VERSION") == "1.0.0"


def test_a_version_that_is_not_there_names_its_neighbours(offline: dict[str, str], tmp_path: Path) -> None:
    """The hint has the nearest versions below and above, and nothing is left in the cache."""
    with pytest.raises(ParityError) as caught:
        environment_for("tinker", "2.0.0", cache=tmp_path, variables=offline)
    assert caught.value.code == "sdk-version-unavailable"
    assert caught.value.hint == "Nearest: 1.0.0, 3.0.0."
    assert [entry.name for entry in (tmp_path / "resolutions").iterdir()] == ["locks"]
    assert not (tmp_path / "environments").exists()


def test_an_index_that_cannot_be_reached_is_said_so(tmp_path: Path, offline: dict[str, str]) -> None:
    """The address and the cause are named."""
    variables = {name: value for name, value in offline.items() if name not in ("UV_NO_INDEX", "UV_FIND_LINKS")}
    unreachable = {**variables, "UV_DEFAULT_INDEX": "http://127.0.0.1:9/simple", "UV_HTTP_RETRIES": "0"}
    with pytest.raises(ParityError) as caught:
        environment_for("tinker", "1.0.0", cache=tmp_path, variables=unreachable)
    assert caught.value.code == "index-unreachable"
    assert "http://127.0.0.1:9/simple/tinker/" in caught.value.message


def test_a_release_whose_dependencies_are_missing_is_broken(offline: dict[str, str], tmp_path: Path) -> None:
    """What uv says about it is passed on."""
    with pytest.raises(ParityError) as caught:
        environment_for("tinker", "4.0.0", cache=tmp_path, variables=offline)
    assert caught.value.code == "environment-broken"
    assert "no-such-package" in caught.value.message


def test_environments_of_other_interpreters_are_others(
    offline: dict[str, str], built: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An environment built by another installation of Python is not used."""
    monkeypatch.setattr(sys, "base_prefix", "/elsewhere")
    other = environment_for("tinker", "1.0.0", cache=built.root.parent.parent, variables=offline)
    assert other.root != built.root


def dependency_wheels(folder: Path) -> dict[str, str]:
    """Write two versions of a dependency and an SDK that takes either."""
    for version in ("1.0", "2.0"):
        wheel(folder, "leaf", version)
    wheel(folder, "tinker", "1.0.0", requires=("leaf>=1.0", *NOT_INSTALLED))
    return {"UV_NO_INDEX": "1", "UV_FIND_LINKS": str(folder)}


def test_constraints_choose_dependencies_and_environments(
    offline: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The newest is taken without constraints, what they say with them; the same resolution is the same environment."""
    cache, folder = tmp_path_factory.mktemp("cache"), tmp_path_factory.mktemp("leaves")
    variables = {**offline, **dependency_wheels(folder)}

    def environment(text: str | None) -> Environment:
        file = folder / "constraints.txt"
        file.write_text(text or "", "utf-8")
        constraints = None if text is None else read_constraints(file)
        return environment_for("tinker", "1.0.0", constraints=constraints, cache=cache, variables=variables)

    free, old = environment(None), environment("# ours\nleaf<2  # the old one\n\n")
    assert (free.libraries["leaf"], old.libraries["leaf"]) == ("2.0", "1.0")
    assert free.root != old.root
    assert environment("leaf==1.0").root == old.root
    assert environment("leaf>1").root == free.root
    assert ask(old, "importlib.import_module('leaf').VERSION") == "1.0"
    for text, code in (("leaf==3.0", "constraints-unmet"), ("torch==0.1", "constraints-unmet")):
        with pytest.raises(ParityError) as caught:
            environment(text)
        assert caught.value.code == code
        assert text.partition("=")[0] in caught.value.message


@pytest.mark.parametrize(
    "text", ["-r other.txt", "leaf ==", "leaf @ https://example.invalid/leaf.whl", "leaf[more]==1"]
)
def test_what_is_no_constraint_is_refused(tmp_path: Path, text: str) -> None:
    """The line is named; options, addresses and extras are none."""
    file = tmp_path / "constraints.txt"
    file.write_text(f"httpx==0.28.1\n{text}\n", "utf-8")
    with pytest.raises(ParityError) as caught:
        read_constraints(file)
    assert caught.value.code == "constraints-malformed"
    assert "line 2" in caught.value.message
    with pytest.raises(ParityError) as caught:
        read_constraints(tmp_path / "none.txt")
    assert caught.value.code == "constraints-missing"


def test_what_was_resolved_is_what_is_installed(built: Environment) -> None:
    """The resolution is kept, and the environment has it."""
    locks = list((built.root.parent.parent / "resolutions").glob("tinker-1.0.0-*/requirements.txt"))
    assert locks
    for lock in (*locks, built.root / "requirements.txt"):
        assert dict(line.split("==") for line in lock.read_text("utf-8").splitlines()) == dict(built.libraries)
