"""The wheel: whole, usable from an empty folder, never written to; judging needs no torch."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
import uv
from recording.traffic import traffic

from harness.recording.journal import Journal

ROOT = Path(__file__).parents[2]
BUNDLED = {"fixtures": "harness/bundled/fixtures", "golden": "harness/bundled/golden"}


def _files(folder):
    """Return the digest of every file below a folder, by its path."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def _build(hook, folder):
    """Call a build hook as pip does, in a process of its own; return the wheel."""
    program = f"from hatchling.build import {hook}; import sys; print({hook}(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", program, str(folder)], cwd=ROOT, capture_output=True, text=True, check=True, timeout=240
    )
    return folder / done.stdout.split()[-1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Return the wheel of this checkout."""
    return _build("build_wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def python(wheel, tmp_path_factory):
    """Return an interpreter that has the wheel installed, and the dependencies of this one but not its parity."""
    site = tmp_path_factory.mktemp("installed") / "venv"
    tool = [uv.find_uv_bin(), "--quiet"]
    subprocess.run([*tool, "venv", "--no-project", "--python", sys.executable, str(site)], check=True, timeout=120)
    place = site / "bin" / "python"
    subprocess.run(
        [*tool, "pip", "install", "--python", str(place), "--no-deps", "--offline", "--compile-bytecode", str(wheel)],
        check=True,
        timeout=240,
    )
    # A path in a .pth file is searched last, and .pth files in it are not read: an editable parity stays out.
    borrowed = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    packages = subprocess.run(
        [str(place), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    (Path(packages) / "borrowed.pth").write_text("".join(f"{path}\n" for path in sorted(borrowed)), "utf-8")
    return place


@pytest.fixture
def empty(tmp_path):
    """Return an empty folder to work in."""
    folder = tmp_path / "empty"
    folder.mkdir()
    return folder


def _installed(python, *arguments, folder):
    """Run the installed `parity` in `folder`."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run(
        [str(python.parent / "parity"), *arguments],
        cwd=folder,
        env=inherited,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )


def _package(python):
    return next(python.parents[1].glob("lib/python*/site-packages/harness"))


def test_the_wheel_holds_the_packages_the_fixtures_and_the_golden_traces(wheel):
    """Every file of the four folders but the plugin is in it, and two documents; nothing else but what describes it."""
    with zipfile.ZipFile(wheel) as archive:
        inside = {
            name: hashlib.sha256(archive.read(name)).hexdigest()
            for name in archive.namelist()
            if ".dist-info/" not in name
        }
    expected = {}
    for folder in ("harness", "mock_server", *BUNDLED):
        for name, digest in _files(ROOT / folder).items():
            plugin = folder == "harness" and name.startswith("pytest_plugin/")  # a distribution of its own
            if "__pycache__" not in name and not plugin:
                expected[f"{BUNDLED.get(folder, folder)}/{name}"] = digest
    for name in ("checks.md", "errors.md"):  # `parity explain` reads them
        expected[f"harness/bundled/docs/{name}"] = hashlib.sha256((ROOT / "docs" / name).read_bytes()).hexdigest()
    assert inside == expected
    assert any(name.startswith("harness/bundled/golden/arrays/") for name in inside)


def test_an_editable_install_copies_nothing(tmp_path):
    """An editable install is a path to the checkout; fixtures and golden traces are not copied beside it."""
    with zipfile.ZipFile(_build("build_editable", tmp_path)) as archive:
        names = [name for name in archive.namelist() if ".dist-info/" not in name]
        assert len(names) == 1
        assert archive.read(names[0]).decode().split() == [str(ROOT)]


def test_the_installed_package_runs_and_is_not_written_to(python, empty):
    """From an empty folder: list, show and run use what is inside the wheel, and leave the package as it was."""
    before = _files(_package(python))
    listed = _installed(python, "list", folder=empty)
    assert listed.returncode == 0, listed.stderr
    assert "custom/sum-literal" in listed.stdout
    shown = _installed(python, "show", "custom/sum-literal", folder=empty)
    assert shown.returncode == 0, shown.stderr
    done = _installed(
        python, "run", "--sdk", "reference==0.15.0", "-k", "custom/sum-literal or session/lifecycle",
        "--json", "report.json", folder=empty,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((empty / "report.json").read_text("utf-8"))
    assert report["totals"]["pass"] == sum(report["totals"].values()) > 0
    assert [path.name for path in empty.iterdir()] == ["report.json"]
    assert _files(_package(python)) == before


@pytest.mark.parametrize(
    "arguments", [("golden", "emit"), ("golden", "emit", "-k", "custom"), ("certify", "--contract", "tinker-0.38.0")]
)
def test_golden_traces_of_the_installed_package_are_never_written(python, empty, arguments):
    """What would write into the package is refused, whether or not the file system would let it."""
    before = _files(_package(python))
    for root in ((), ("--root", str(_package(python) / "bundled"))):
        done = _installed(python, *root, *arguments, folder=empty)
        assert done.returncode == 2
        assert "error [root-read-only] " in done.stderr
        assert "--root" in done.stderr
    assert _files(_package(python)) == before


def test_the_installed_package_writes_skeletons(python, empty):
    """The templates are inside, and a skeleton that is started by name can be: a wheel keeps no modes."""
    for language, start in (("python", "driver.py"), ("javascript", "driver.mjs"), ("elixir", "driver.sh")):
        done = _installed(python, "new-driver", language, language, folder=empty)
        assert done.returncode == 0, done.stderr
        assert (empty / language / start).is_file()
    assert os.access(empty / "elixir" / "driver.sh", os.X_OK)


def test_judging_needs_no_torch(python, empty):
    """A plan is made and a trace judged by every check where torch cannot be imported."""
    program = """
import sys
sys.modules["torch"] = None
from harness.checks.registry import judge
from harness.checks.verdict import Case
from harness.engine import run as _run
from harness.engine.prepare import prepare
from harness.locations import locate
from harness.suite.losses.parts import compositions
plan = prepare(locate(), sdk="reference==0.15.0", expression="custom")
judged = 0
for planned in plan.scenarios:
    case = Case(
        golden=planned.golden,
        observed=planned.golden,
        contract=plan.contract,
        tolerance=planned.scenario.judge.tolerance,
        script=planned.scenario.stimulus.server,
        compositions=compositions(planned.scenario, plan.losses),
    )
    for check in planned.checks:
        verdict = judge(check, case)
        assert verdict.outcome == "pass", (planned.scenario.id, check, verdict)
        judged += 1
print(judged)
"""
    done = subprocess.run(
        [str(python), "-P", "-c", program], cwd=empty, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 100


def test_recorded_traces_and_own_scenarios_are_judged_without_torch(python, empty):
    """An unfinished recording is judged, own scenarios are emitted and run by parity.toml; the package is untouched.

    For what only judges, torch cannot be imported at all.
    """
    before = _files(_package(python))
    taken = empty / "taken"
    journal = Journal(taken)
    for exchange in traffic(("custom/sum-literal",), "tinker-0.38.0")["custom/sum-literal"]:
        journal.append(exchange)
    journal.close()
    program = "import sys; sys.modules['torch'] = None; from harness.cli import main; main(sys.argv[1:])"
    check = ("check", "taken", "--scenario", "custom/sum-literal", "--contract")
    for contract, status in (("tinker-0.38.0", 0), ("tinker-0.7.0", 1)):
        done = subprocess.run(
            [str(python), "-P", "-c", program, *check, contract, "--json", f"{contract}.json"],
            cwd=empty, capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        assert done.returncode == status, done.stdout + done.stderr
        verdicts = json.loads((empty / f"{contract}.json").read_text("utf-8"))
        assert len(verdicts["results"]) > 20
    scenario = (ROOT / "fixtures/scenarios/custom/sum-literal.toml").read_text("utf-8")
    (empty / "mine/scenarios/own").mkdir(parents=True)
    (empty / "mine/scenarios/own/sum.toml").write_text(scenario.replace("custom/sum-literal", "own/sum"), "utf-8")
    (empty / "parity.toml").write_text('fixtures = "mine"\nsdk = "reference"\n', "utf-8")
    for arguments in (("golden", "emit"), ("golden", "verify"), ("run", "-k", "own/sum")):
        done = _installed(python, *arguments, folder=empty)
        assert done.returncode == 0, done.stdout + done.stderr
    assert (empty / "mine/golden/index.json").is_file()
    assert _files(_package(python)) == before
