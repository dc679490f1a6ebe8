"""How the driver of Tinkex is started, and what keeps it from being: everything that needs no Elixir to be known.

`elixir` and `mix` are programs of the test's own here. What the driver does with a real Tinkex is judged from
recordings.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest

from harness.drivers import hex as hex_project
from harness.drivers import registry
from harness.drivers.elixir import CompiledTinkex, Elixir, compiled_tinkex, find_elixir
from harness.drivers.hex import installation_error, tinkex_release
from harness.drivers.protocol import PROTOCOL, ErrorKind
from harness.drivers.registry import Surroundings, resolve
from harness.drivers.spec import base_environment
from harness.errors import ParityError
from harness.locations import locate
from harness.suite import rules
from harness.suite.composition import Returns
from harness.suite.losses.operations import OPERATIONS
from harness.suite.scenario import Step

DRIVER = Path(hex_project.__file__).with_name("tinkex")


def error(call: Callable[[], object]) -> ParityError:
    """Return the error that a call ends in."""
    with pytest.raises(ParityError) as caught:
        call()
    return caught.value


def program(file: Path, text: str) -> Path:
    """Write a shell script that can be executed."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)
    return file


def installed(root: Path, *, version: str = "1.18.4", sdk: str = "0.4.0", parity: str = "0.15.0") -> Path:
    """Install an Elixir that says it is `version`, and of any compiled code that it is Tinkex `sdk`."""
    programs = root / "elixir" / "bin"
    (root / "elixir" / "lib" / "elixir").mkdir(parents=True)
    of_itself = "".join(
        f"echo 'parity:{value}'\n" for value in (version, "25", root / "otp", root / "elixir" / "lib" / "elixir")
    )
    of_sdk = f"echo 'a warning'\necho 'parity:{sdk}'\necho 'parity:{parity}'"
    program(programs / "elixir", f'if [ "$1" = -pa ]; then\n{of_sdk}\nelse\n{of_itself}fi')
    program(programs / "mix", "exit 0")
    return programs


def compiled(root: Path, *below: str) -> Path:
    """Make a folder that looks like a compiled checkout; `below` are its builds."""
    for build in below:
        (root / build / "lib" / "tinkex" / "ebin").mkdir(parents=True)
        (root / build / "lib" / "tinkex" / "ebin" / "tinkex.app").write_text("")
    return root


@pytest.fixture
def elixir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put an Elixir on PATH; return the folder of its programs."""
    programs = installed(tmp_path / "installed")
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    return programs


def test_a_compiled_checkout_is_driven(elixir: Path, tmp_path: Path) -> None:
    """Version and contract are those the compiled code says; its code path is that of the build."""
    tree = compiled(tmp_path / "tinkex", "_build/dev")
    spec = resolve("tinkex", sdk_path=tree)
    assert (spec.name, spec.version, spec.contract) == ("tinkex", "0.4.0", "tinker-0.15.0")
    assert spec.source_dir == tree.resolve()
    assert spec.argv[0] == "/bin/sh"
    assert str(tree.resolve() / "_build/dev/lib/*/ebin") in spec.argv
    assert Path(spec.argv[-1]).is_file()
    assert spec.argv[3] == str(elixir / "elixir")


def test_the_environment_has_nothing_of_the_users(
    elixir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the places of Erlang and Elixir come from the user's machine."""
    tree = compiled(tmp_path / "tinkex", "_build/dev")
    for name in ("TINKER_API_KEY", "ELIXIR_ERL_OPTIONS", "ERL_FLAGS", "MIX_ENV", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "hostile")
    env = resolve("tinkex", sdk_path=tree).env
    assert set(env) - set(base_environment()) == {"ERL_CRASH_DUMP_SECONDS", "TINKER_TELEMETRY"}
    assert "hostile" not in env.values()
    assert env["PATH"] == f"{tmp_path}/installed/otp/bin:{elixir}:{base_environment()['PATH']}"


@pytest.mark.usefixtures("elixir")
@pytest.mark.parametrize("below", ["_build/dev", "_build/prod", "."])
def test_a_build_may_lie_in_several_places(tmp_path: Path, below: str) -> None:
    """Any Mix environment of a checkout, and a build on its own."""
    tree = compiled(tmp_path / "tinkex", below)
    assert compiled_tinkex(tree, find_elixir()).libraries == tree / below / "lib"


@pytest.mark.usefixtures("elixir")
def test_the_newest_build_is_driven(tmp_path: Path) -> None:
    """Of several Mix environments the one compiled last is what its owner works on."""
    tree = compiled(tmp_path / "tinkex", "_build/dev", "_build/test")
    os.utime(tree / "_build/dev/lib/tinkex/ebin/tinkex.app", (1, 1))
    assert compiled_tinkex(tree, find_elixir()).libraries == tree / "_build/test/lib"


def test_code_that_claims_no_contract_is_driven_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the user has to name one."""
    monkeypatch.setenv("PATH", f"{installed(tmp_path / 'installed', parity='')}:{os.environ['PATH']}")
    assert resolve("tinkex", sdk_path=compiled(tmp_path / "tinkex", "_build/dev")).contract == ""


@pytest.mark.usefixtures("elixir")
def test_a_checkout_that_was_not_compiled_is_refused(tmp_path: Path) -> None:
    """The hint is the command that mends it."""
    (tmp_path / "tinkex" / "lib").mkdir(parents=True)
    (tmp_path / "tinkex" / "lib" / "tinkex.ex").write_text("")
    found = error(lambda: resolve("tinkex", sdk_path=tmp_path / "tinkex"))
    assert found.code == "sdk-not-compiled"
    assert f"`mix compile` in {(tmp_path / 'tinkex').resolve()}" in found.hint


@pytest.mark.usefixtures("elixir")
def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    """It holds neither source nor build."""
    assert error(lambda: resolve("tinkex", sdk_path=tmp_path)).code == "sdk-path-empty"


def test_compiled_code_that_does_not_load_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What Elixir says about it is told."""
    programs = installed(tmp_path / "installed")
    program(programs / "elixir", 'if [ "$1" = -pa ]; then echo "bad beam" >&2; exit 1; fi\n' + _itself(programs))
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    found = error(lambda: resolve("tinkex", sdk_path=compiled(tmp_path / "tinkex", "_build/dev")))
    assert found.code == "sdk-not-compiled"
    assert "bad beam" in found.message


def _itself(programs: Path) -> str:
    values = ("1.18.4", "25", "/otp", programs.parent / "lib" / "elixir")
    return "\n".join(f"echo 'parity:{value}'" for value in values)


def test_without_elixir_it_is_said_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No elixir on PATH: status 2 with a hint, before anything is fetched."""
    monkeypatch.setenv("PATH", str(tmp_path))
    for call in (lambda: resolve("tinkex==0.4.0"), lambda: resolve("tinkex", sdk_path=tmp_path)):
        found = error(call)
        assert found.code == "elixir-missing"
        assert "elixir-lang.org/install" in found.hint


@pytest.mark.parametrize("script", ["echo broken >&2; exit 127", "echo 'parity:1.17.3'"])
def test_an_elixir_that_does_not_run_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """A shim without a version behind it, or something else of that name."""
    program(tmp_path / "elixir", script)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert error(find_elixir).code == "elixir-missing"


def test_an_elixir_without_mix_is_refused(elixir: Path) -> None:
    """The release from Hex needs it, and every installation has it."""
    (elixir / "mix").unlink()
    found = error(find_elixir)
    assert found.code == "elixir-missing"
    assert "mix" in found.message


def test_an_old_elixir_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """1.18 is what Tinkex asks for."""
    monkeypatch.setenv("PATH", f"{installed(tmp_path, version='1.17.3')}:{os.environ['PATH']}")
    assert error(find_elixir).code == "elixir-too-old"


def test_a_development_version_of_elixir_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its version is no version to compare."""
    monkeypatch.setenv("PATH", f"{installed(tmp_path, version='1.20.0-dev')}:{os.environ['PATH']}")
    assert find_elixir().version == "1.20.0-dev"


@pytest.mark.usefixtures("elixir")
def test_the_name_alone_drives_the_checkout_in_this_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In the SDK's own repository nothing has to be said."""
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib/tinkex.ex").touch()
    (tmp_path / "mix.exs").touch()
    monkeypatch.chdir(tmp_path)
    found = error(lambda: resolve("tinkex"))
    assert (found.code, str(tmp_path) in found.message) == ("sdk-not-compiled", True)


@pytest.mark.usefixtures("elixir")
def test_the_name_alone_drives_the_known_release_elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Which release is newest changes; the one that is driven is the one that the ledger is about."""
    asked: list[str] = []

    def release(version: str, _elixir: object, *, lock: Path | None) -> CompiledTinkex:
        assert lock is None
        asked.append(version)
        return CompiledTinkex(libraries=tmp_path, version=version, parity="0.15.0", applications={})

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registry, "tinkex_release", release)
    spec = resolve("tinkex")
    assert (asked, spec.version, spec.contract) == ([registry.TINKEX], registry.TINKEX, "tinker-0.15.0")
    assert (locate().fixtures / "recorded" / f"tinkex-{registry.TINKEX}").is_dir()


MIX = """
echo "$@" >> {log}
case "$1" in
  {failing}) echo "{says}"; exit 1 ;;
  deps.compile) mkdir -p _build/prod/lib/tinkex/ebin ;;
esac
"""


def mix_that(elixir: Path, log: Path, *, failing: str = "never", says: str = "") -> Elixir:
    """Let `mix` note what it is asked, and fail at one task."""
    program(elixir / "mix", MIX.format(log=log, failing=failing, says=says))
    return find_elixir()


def test_a_release_is_fetched_and_compiled_once(elixir: Path, tmp_path: Path) -> None:
    """An ordinary Mix project that depends on exactly that release; the second time it is there."""
    log = tmp_path / "log"
    found = mix_that(elixir, log)
    for _ in range(2):
        release = tinkex_release("0.4.0", found, cache=tmp_path / "cache")
    assert (release.version, release.parity) == ("0.4.0", "0.15.0")
    assert log.read_text().splitlines() == [
        "local.hex --if-missing --force",
        "local.rebar --if-missing --force",
        "deps.get",
        "deps.compile",
    ]
    project = release.libraries.parents[2]
    assert '{:tinkex, "== 0.4.0"}' in (project / "mix.exs").read_text()
    for name in ("exla", "tokenizers"):
        assert f'{{:{name}, path: "unused/{name}", override: true}}' in (project / "mix.exs").read_text()
        assert f"app: :{name}" in (project / "unused" / name / "mix.exs").read_text()


LOCK = '%{\n  "nx": {:hex, :nx, "0.11.0", "ab12", [:mix], [], "hexpm", "cd34"},\n}\n'
APP = '{application, %s,\n [{description, "x"},\n  {vsn, "%s"},\n  {modules, []}]}.\n'


def test_a_lock_file_is_where_mix_starts_from(elixir: Path, tmp_path: Path) -> None:
    """The lock lies beside the project before anything is fetched, and another lock is another environment."""
    log = tmp_path / "log"
    found = mix_that(elixir, log)
    lock = tmp_path / "mine.lock"
    places = set()
    for text in (LOCK, LOCK.replace("0.11.0", "0.10.0"), LOCK):
        lock.write_text(text)
        release = tinkex_release("0.4.0", found, lock=lock, cache=tmp_path / "cache")
        project = release.libraries.parents[2]
        assert (project / "mix.lock").read_text() == text
        places.add(project)
    assert len(places) == 2
    assert log.read_text().splitlines().count("deps.get") == 2
    assert tinkex_release("0.4.0", found, cache=tmp_path / "cache").libraries.parents[2] not in places


@pytest.mark.parametrize("text", ["httpx==0.28.1\n", "%{}\n", "", "\udcff"])
def test_what_is_no_lock_file_is_refused(elixir: Path, tmp_path: Path, text: str) -> None:
    """A file of another kind is named, and Mix is not asked at all."""
    log = tmp_path / "log"
    found = mix_that(elixir, log)
    lock = tmp_path / "mine.lock"
    lock.write_bytes(text.encode("utf-8", "surrogateescape"))
    raised = error(lambda: tinkex_release("0.4.0", found, lock=lock, cache=tmp_path / "cache"))
    assert (raised.code, str(lock) in raised.message, "mix.lock" in raised.hint) == (
        "constraints-malformed",
        True,
        True,
    )
    missing = error(lambda: tinkex_release("0.4.0", found, lock=tmp_path / "none", cache=tmp_path / "cache"))
    assert missing.code == "constraints-missing"
    assert not log.exists()


@pytest.mark.usefixtures("elixir")
def test_the_versions_of_compiled_applications_are_known(tmp_path: Path) -> None:
    """What lies beside Tinkex is read from resource files; one without a version is left out."""
    tree = compiled(tmp_path / "tree", "_build/dev")
    for name, version in (("nx", "0.11.0"), ("finch", "0.21.0")):
        ebin = tree / "_build" / "dev" / "lib" / name / "ebin"
        ebin.mkdir(parents=True)
        (ebin / f"{name}.app").write_text(APP % (name, version))
    assert resolve("tinkex", sdk_path=tree).dependencies == {"finch": "0.21.0", "nx": "0.11.0"}


@pytest.mark.usefixtures("elixir")
@pytest.mark.parametrize("chosen", [Surroundings(python="3.11"), Surroundings(constraints=Path("mix.lock"))])
def test_a_compiled_tree_has_no_choices(tmp_path: Path, chosen: Surroundings) -> None:
    """What a checkout was compiled with is its own: an option that could change nothing is refused."""
    tree = compiled(tmp_path / "tree", "_build/dev")
    raised = error(lambda: resolve("tinkex", sdk_path=tree, surroundings=chosen))
    assert raised.code == "surroundings-unsupported"


@pytest.mark.parametrize(
    ("task", "says", "code"),
    [
        ("local.hex", "** (Mix) httpc request failed with: {:failed_connect, []}", "index-unreachable"),
        ("deps.get", "Failed to fetch record for tinkex from registry", "index-unreachable"),
        ("deps.get", "your app depends on tinkex == 9.0.0 which doesn't match any versions", "sdk-version-unavailable"),
        ("deps.compile", "** (CompileError) lib/a.ex", "environment-broken"),
    ],
)
def test_what_mix_cannot_do_is_told_and_nothing_is_kept(
    elixir: Path, tmp_path: Path, task: str, says: str, code: str
) -> None:
    """Each failure has its code; a project that is not finished is not taken for one that is."""
    found = mix_that(elixir, tmp_path / "log", failing=task, says=says)
    assert error(lambda: tinkex_release("0.4.0", found, cache=tmp_path / "cache")).code == code
    assert [place.name for place in (tmp_path / "cache" / "environments").iterdir()] == ["locks"]


def test_the_complaint_of_mix_is_told() -> None:
    """Its line with two stars, else its last."""
    assert "** (Mix) no" in installation_error("0.4.0", "deps.get", "warning\n** (Mix) no\nmore").message
    assert "last" in installation_error("0.4.0", "deps.get", "first\nlast\n").message


@pytest.mark.usefixtures("elixir")
def test_versions_are_written_as_hex_writes_them(tmp_path: Path) -> None:
    """Three numbers, however few the user typed."""
    assert resolve("tinkex==0.4", sdk_path=compiled(tmp_path / "tinkex", "_build/dev")).version == "0.4.0"


# --- what can be read from the driver's source without running it ----------------------------------------------------


def source(name: str) -> str:
    """Return one module of the driver."""
    return (DRIVER / name).read_text("utf-8")


def test_the_driver_has_every_operation() -> None:
    """A loss format that grows must grow in Elixir too."""
    handled = set(re.findall(r'(?:node|unary|binary)\("(\w+)"', source("graph.ex")))
    assert handled == set(OPERATIONS)


def test_the_driver_knows_only_kinds_there_are() -> None:
    """Error kinds are a closed list."""
    named = set(re.findall(r'"([a-z]+_[a-z]+|timeout|transport|cancelled)"', source("error_kinds.ex")))
    assert named
    assert named <= set(get_args(ErrorKind)) | {"invalid_logprobs"}


def test_the_driver_speaks_the_documented_version() -> None:
    """The same as the harness."""
    assert f'@protocol "{PROTOCOL}"' in source("service.ex")


def test_all_modules_of_the_driver_are_started() -> None:
    """A module that is not named in driver.exs does not exist when it runs."""
    named = set(re.findall(r'"(\w+)"', source("driver.exs")))
    assert {file.stem for file in DRIVER.glob("*.ex")} <= named


def test_the_driver_knows_every_step() -> None:
    """A step that the protocol gains must be known in Elixir too, or the driver fails in place of the SDK."""
    known = re.search(r"@steps ~w\(([^)]*)\)", source("run.ex"))
    assert known is not None
    assert set(known[1].split()) == {str(step.__struct_config__.tag) for step in get_args(Step)}


def test_the_driver_declares_only_capabilities_there_are() -> None:
    """A name that the protocol does not have would declare nothing."""
    named = set(re.findall(r'"(regularizers\.\w+)"', source("probe.ex")))
    assert named == {rules.TRAIN, rules.COMPUTE, rules.TIMEOUT, rules.ADAPTERS}


def test_the_driver_returns_what_a_part_can_return() -> None:
    """Of everything that a part may return instead of loss and metrics, the pair being the rest."""
    handled = set(re.findall(r'returned\("(\w+)"', source("callback.ex")))
    assert handled == set(get_args(Returns)) - {"pair"}
