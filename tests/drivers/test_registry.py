"""From what a user types after --sdk to how a driver is started."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType

import pytest

from harness.drivers import registry
from harness.drivers.environments import Environment
from harness.drivers.registry import DRIVERS, Surroundings, resolve
from harness.drivers.spec import base_environment
from harness.errors import ParityError


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Give an environment without building one; return which were asked for."""
    seen: list[tuple[str, str]] = []

    def environment(name: str, version: str, **_made_of: object) -> Environment:
        seen.append((name, version))
        return Environment(Path("/cache"), Path("/cache/bin/python"), MappingProxyType({}))

    monkeypatch.setattr(registry, "environment_for", environment)
    return seen


def error(call: Callable[[], object]) -> ParityError:
    """Return the error that a call ends in."""
    with pytest.raises(ParityError) as caught:
        call()
    return caught.value


def test_a_release_is_driven_by_its_own_interpreter(asked: list[tuple[str, str]]) -> None:
    """The driver is a script of the harness, run isolated by the interpreter of the release's environment."""
    spec = resolve("tinker==0.38.0")
    assert asked == [("tinker", "0.38.0")]
    *command, script = spec.argv
    assert command == ["/cache/bin/python", "-s", "-B", "-P"]
    assert Path(script).name == "driver.py"
    assert Path(script).is_file()
    assert (spec.name, spec.version, spec.source_dir, spec.cwd) == ("tinker", "0.38.0", None, None)


def test_the_environment_has_nothing_of_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the user's environment holds, the driver's is the same."""
    before = resolve("tinker==0.38.0").env
    for name in ("TINKER_API_KEY", "TINKER_BASE_URL", "HTTPS_PROXY", "PYTHONPATH", "PATH", "LD_LIBRARY_PATH"):
        monkeypatch.setenv(name, "hostile")
    assert resolve("tinker==0.38.0").env == before
    assert set(before) - set(base_environment()) == {
        "PYTHONDONTWRITEBYTECODE",
        "PYTHONHASHSEED",
        "PYTHONNOUSERSITE",
        "TINKER_TELEMETRY",
    }


@pytest.mark.parametrize("below", ["src", "."])
def test_a_directory_goes_first_on_the_path(tmp_path: Path, below: str) -> None:
    """A checkout keeps its package in src or at its root; that directory is passed to the driver and must be used."""
    root = (tmp_path / below).resolve()
    (root / "tinker").mkdir(parents=True)
    (root / "tinker" / "__init__.py").write_text("")
    spec = resolve("tinker==0.38.0", sdk_path=tmp_path)
    assert spec.argv[-2:] == ("--source", str(root))
    assert spec.source_dir == root


def test_a_directory_without_the_package_is_refused(tmp_path: Path, asked: list[tuple[str, str]]) -> None:
    """It is found out before an environment is built."""
    assert error(lambda: resolve("tinker==0.38.0", sdk_path=tmp_path)).code == "sdk-path-empty"
    assert asked == []


@pytest.mark.parametrize("typed", ["reference==0.15.0", "reference"])
def test_the_reference_is_told_which_release_to_be(typed: str) -> None:
    """Its release comes from its name, else from the contract; it needs no environment."""
    spec = resolve(typed, contract="tinker-0.15.0")
    assert spec.argv[0] == sys.executable
    assert spec.argv[-4:] == ("-m", "harness.drivers.reference", "--contract", "tinker-0.15.0")
    assert (spec.name, spec.version) == ("reference", "0.15.0")


@pytest.mark.parametrize(
    ("typed", "code", "hint"),
    [
        ("tinkr==0.38.0", "sdk-unknown", "Did you mean tinker?"),
        ("refernce", "sdk-unknown", "Did you mean reference?"),
        ("elixir", "sdk-unknown", f"Known: {', '.join(DRIVERS)}."),
        ("", "sdk-unknown", "Known"),
        ("tinker", "sdk-version-missing", "--sdk tinker==0.38.0"),
        ("tinker==", "sdk-version-missing", "--sdk tinker==0.38.0"),
        ("tinker==newest", "sdk-version-malformed", "0.38.0"),
        ("reference", "sdk-version-missing", "--contract tinker-0.38.0"),
    ],
)
def test_what_cannot_be_driven_is_refused(typed: str, code: str, hint: str) -> None:
    """Each mistake has its code and a hint that mends it."""
    found = error(lambda: resolve(typed))
    assert found.code == code
    assert hint in found.hint


def test_the_reference_has_no_other_code(tmp_path: Path) -> None:
    """A directory for the reference is a mistake."""
    found = error(lambda: resolve("reference", sdk_path=tmp_path, contract="tinker-0.38.0"))
    assert found.code == "sdk-path-unsupported"


def test_versions_are_written_in_one_way(asked: list[tuple[str, str]]) -> None:
    """Spaces and leading zeros make no second environment."""
    assert resolve(" tinker == 0.38.00 ").version == "0.38.0"
    assert asked == [("tinker", "0.38.0")]


@pytest.mark.parametrize("made_of", [Surroundings(python="3.12"), Surroundings(constraints=Path("c.txt"))])
def test_what_an_environment_is_made_of_is_not_asked_for_the_reference(made_of: Surroundings) -> None:
    """There is no environment to make for the reference; what is asked for is not ignored."""
    raised = error(lambda: resolve("reference==0.38.0", surroundings=made_of))
    assert raised.code == "surroundings-unsupported"


def test_tinkex_has_no_interpreter_to_choose() -> None:
    """Elixir is the one on PATH; that is said before anything is looked for."""
    raised = error(lambda: resolve("tinkex==0.4.0", surroundings=Surroundings(python="3.12")))
    assert raised.code == "surroundings-unsupported"


def test_a_python_and_constraints_that_are_not_there_are_refused(tmp_path: Path) -> None:
    """Both are looked at before anything is built."""
    for made_of, code in (
        (Surroundings(python=str(tmp_path / "none")), "python-missing"),
        (Surroundings(constraints=tmp_path / "none.txt"), "constraints-missing"),
    ):
        assert error(lambda made_of=made_of: resolve("tinker==0.38.0", surroundings=made_of)).code == code
