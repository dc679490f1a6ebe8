"""The interpreter of an SDK's environment: found by path, name or version, or refused with what there is."""

from __future__ import annotations

import sys
import venv
from pathlib import Path

import pytest

from harness.drivers.interpreters import find_interpreter, own_interpreter
from harness.drivers.torch_layer import plan_layer
from harness.errors import ParityError


@pytest.fixture(scope="module")
def bare(tmp_path_factory) -> Path:
    """Return an environment of this Python without any package."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, with_pip=False)
    return folder


def test_without_a_name_it_is_the_harness_own():
    """Nothing is started for that."""
    assert find_interpreter(None, {}).executable == sys.executable
    assert find_interpreter(None, {}).mine


def test_a_path_a_name_and_a_version_are_found(bare):
    """Each leads to a Python that says what it is."""
    version = own_interpreter().minor
    for told, variables in (
        (str(bare / "bin/python"), {}),
        ("python", {"PATH": str(bare / "bin")}),
    ):
        found = find_interpreter(told, variables)
        assert (found.executable, found.minor, found.mine) == (str(bare / "bin/python"), version, False)
        assert found.tag == sys.implementation.cache_tag
        assert found.path == (str(bare / f"lib/python{version}/site-packages"),)
    kept = bare / "pyenv/versions/3.99.1/bin"
    kept.mkdir(parents=True)
    (kept / "python").symlink_to(bare / "bin/python")
    for told in ("3.99", "python3.99", "3.99.1", "3"):
        assert find_interpreter(told, {"PYENV_ROOT": str(bare / "pyenv")}).executable == str(kept / "python")


@pytest.mark.parametrize("told", ["/nowhere/python", "no-such-python", "3.2"])
def test_a_python_that_is_not_here_is_refused(told, tmp_path):
    """The hint lists those that are found; nothing is downloaded."""
    with pytest.raises(ParityError) as caught:
        find_interpreter(told, {"PATH": str(tmp_path), "HOME": str(tmp_path)})
    assert caught.value.code == "python-missing"
    assert told in caught.value.message


def test_what_is_no_python_is_refused(tmp_path):
    """A program that answers otherwise, or cannot be run, is named."""
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\necho hello\n", "utf-8")
    for mode in (0o755, 0o644):
        program.chmod(mode)
        with pytest.raises(ParityError) as caught:
            find_interpreter(str(program), {"PATH": "/bin:/usr/bin"})
        assert caught.value.code == "python-missing"
        assert str(program) in caught.value.message


def test_a_python_of_the_same_kind_borrows_torch_and_another_needs_its_own(bare):
    """Compiled modules are for one kind of Python: what has no torch and cannot borrow it is told what to install."""
    import dataclasses

    found = find_interpreter(str(bare / "bin/python"), {})
    assert plan_layer(found).links == plan_layer().links
    with pytest.raises(ParityError) as caught:
        plan_layer(dataclasses.replace(found, tag="cpython-399", minor="3.99"))
    assert caught.value.code == "torch-missing"
    assert "pip install torch==" in caught.value.hint


def test_a_python_with_torch_lends_its_own(bare):
    """What that environment's users have is what is judged."""
    for distribution in ("torch", "sympy"):
        folder = bare / f"lib/python{own_interpreter().minor}/site-packages/{distribution}-9.9.dist-info"
        folder.mkdir()
        requires = "Requires-Dist: sympy\n" if distribution == "torch" else ""
        (folder / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 9.9\n{requires}", "utf-8"
        )
        (folder / "RECORD").write_text(f"{distribution}/__init__.py,,\n", "utf-8")
    layer = plan_layer(find_interpreter(str(bare / "bin/python"), {}))
    assert layer.versions == {"torch": "9.9", "sympy": "9.9"}
    assert layer.links["torch"] == bare / f"lib/python{own_interpreter().minor}/site-packages/torch"
