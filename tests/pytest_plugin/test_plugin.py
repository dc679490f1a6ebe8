"""`pytest --parity`: checks as tests, in processes of pytest of their own; mostly against a made-up `parity`."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

FAKE = """
import json, os, sys
log = open(LOG, "a")
def say(text):
    log.write(f"{os.getpid()} {text}\\n"); log.flush()
say("args " + " ".join(sys.argv[1:]))
if "unknown" in sys.argv:
    sys.exit("error [sdk-unknown] there is no such SDK")
verdicts = {
    "a/one": {"order.seq": ("pass", ""), "weights.values": ("fail", "twice")},
    "b/two": {"order.seq": ("known", "late (known bug: r)"), "weights.values": ("fixed", "it holds")},
    "c/three": {"order.seq": ("unsupported", "not declared"), "weights.values": ("not_run", "nothing to look at")},
    "d/four": {"order.seq": ("pass", ""), "weights.values": ("fail", "later than the revision")},
}
def tell(**event):
    print(json.dumps(event), flush=True)
planned = [{"scenario": s, "check": c} for s, checks in verdicts.items() for c in checks]
tell(type="RunStarted", planned=planned, arguments=["--sdk", "made up"])
for line in sys.stdin:
    say("want " + line.strip())
    for scenario in line.split():
        if scenario == "d/four" and os.environ.get("FAKE") == "dies":
            sys.exit("it died")
        tell(type="ScenarioStarted", scenario=scenario)
        for check, (outcome, message) in verdicts[scenario].items():
            more = {"unscored": True} if message.startswith("later") else {}
            more |= {"expected": "[1]", "observed": "[2]", "cause": "scaled"} if outcome == "fail" else {}
            tell(type="CheckJudged", scenario=scenario, check=check, outcome=outcome, message=message, **more)
say("end")
"""


@pytest.fixture
def project(tmp_path: Path):
    """Return a repository whose folders are called like ours, with one test of its own."""
    for name in ("harness", "mock_server", "tests"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('the wrong one')\n", "utf-8")
    (tmp_path / "test_own.py").write_text("def test_own():\n    pass\n", "utf-8")
    return tmp_path


@pytest.fixture
def made_up(project: Path):
    """Let the repository's pytest talk to a made-up `parity`; return how pytest is run."""
    (project / "fake.py").write_text(FAKE.replace("LOG", repr(str(project / "log"))), "utf-8")
    (project / "conftest.py").write_text(
        "import sys\nfrom pathlib import Path\nimport parity_pytest.process\n"
        "fake = str(Path(__file__).with_name('fake.py'))\n"
        "parity_pytest.process.command = lambda: [sys.executable, fake]\n",
        "utf-8",
    )

    def run(*arguments: str, driven=("--parity-sdk=made==1.0",), own=("test_own.py",), **variables: str):
        return _pytest(project, *driven, *arguments, own=own, **variables)

    return run


def _pytest(folder: Path, *arguments: str, own: tuple[str, ...] = ("test_own.py",), **variables: str):
    import os

    # These tests may be run by a worker of pytest-xdist themselves; what they run is not.
    outside = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-ra", *arguments, *own],
        cwd=folder,
        env={**outside, "PYTHONPATH": str(folder), **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def _log(project: Path) -> list[list[str]]:
    return [line.split() for line in (project / "log").read_text("utf-8").splitlines()]


def test_every_outcome_is_an_outcome_of_pytest(project, made_up):
    """Passing, failing with both sides, expected to fail, skipped; what is unscored is skipped with its reason."""
    done = made_up("--junitxml", "junit.xml")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "3 failed, 3 passed, 2 skipped, 1 xfailed" in done.stdout
    for line in (
        "FAILED parity::a/one::weights.values - fail: twice",
        "FAILED parity::b/two::weights.values - fixed: it holds",
        "FAILED parity::c/three::weights.values - not-run: nothing to look at",
        "XFAIL parity::b/two::order.seq - late (known bug: r)",
        "again     parity run --sdk 'made up' -k a/one:weights.values",
        "observed  [2]",
        "meaning   parity explain scaled",
    ):
        assert line in done.stdout
    assert "unscored: fail: later than the revision" in done.stdout
    cases = ET.parse(project / "junit.xml").getroot().iter("testcase")
    names = {(case.get("classname"), case.get("name")) for case in cases}
    assert ("parity.a/one", "weights.values") in names
    assert len(names) == 9


def test_all_scenarios_are_asked_for_together_and_once(project, made_up):
    """One process, one line with what is left after selection, in good order to the end; options are passed on."""
    made_up("--parity-sdk-path=x", "--parity-args=--slow -k 'a or b'", "-k", "a/one or b/two")
    log = _log(project)
    assert [line[1:] for line in log] == [
        ["args", "work", "--sdk", "made==1.0", "--sdk-path", "x", "--slow", "-k", "a", "or", "b"],
        ["want", "a/one", "b/two"],
        ["end"],
    ]


@pytest.mark.parametrize(
    ("driven", "told"),
    [
        (("--parity",), []),
        (("--parity-driver=node driver.mjs",), ["--driver", "node", "driver.mjs"]),
        (("--parity-driver", "node driver.mjs", "--parity-sdk", "x"), ["--sdk", "x", "--driver", "node", "driver.mjs"]),
    ],
)
def test_what_is_driven_is_said_only_where_it_was_said(project, made_up, driven, told):
    """--parity alone leaves it to parity.toml: a typed --sdk would switch the project's own driver off."""
    done = made_up("--collect-only", driven=driven)
    assert "9 tests collected" in done.stdout, done.stdout + done.stderr
    assert _log(project)[0][1:] == ["args", "work", *told]


def test_counts_are_those_of_what_is_collected_and_selected(made_up):
    """The checks are collected like tests of a file: what -k leaves out is deselected of all there are."""
    assert "collected 9 items\n" in made_up("--collect-only").stdout
    assert "collected 9 items / 7 deselected / 2 selected" in made_up("-k", "a/one").stdout
    assert "8/9 tests collected (1 deselected)" in made_up("--collect-only", "-q", "-m", "parity").stdout


@pytest.mark.parametrize(
    ("ids", "named"),
    [
        (["parity::b/two::order.seq"], ["parity::b/two::order.seq"]),
        (["parity::b/two"], ["parity::b/two::order.seq", "parity::b/two::weights.values"]),
        (
            ["parity::b/two::order.seq", "parity::a/one::order.seq"],
            ["parity::a/one::order.seq", "parity::b/two::order.seq"],
        ),
    ],
)
def test_an_id_that_was_printed_can_be_given_back(project, made_up, ids, named):
    """It selects its check, or the checks of its scenario, and nothing else; in workers of xdist too."""
    done = made_up("--collect-only", "-q", own=ids)
    assert [line for line in done.stdout.splitlines() if "::" in line] == named, done.stdout + done.stderr
    (project / "log").unlink()
    done = made_up("-n", "2", "-v", own=ids)
    assert f"[{len(named)} item" in done.stdout, done.stdout + done.stderr
    wanted = {name for line in _log(project) if line[1] == "want" for name in line[2:]}
    assert wanted == {name.split("::")[1] for name in named}


def test_an_id_stands_beside_files(made_up):
    """Tests of files that are given too are collected."""
    done = made_up("--collect-only", "-q", own=["test_own.py", "parity::d/four::order.seq"])
    assert [line for line in done.stdout.splitlines() if "::" in line] == [
        "test_own.py::test_own",
        "parity::d/four::order.seq",
    ]


def test_an_id_that_names_nothing_is_an_error_of_usage(made_up):
    """Nothing is run instead."""
    done = made_up(own=["parity::a/one::order"])
    assert done.returncode == 4
    assert "not found: parity::a/one::order" in done.stderr


@pytest.mark.parametrize("early", ["arguments", "variable"])
def test_a_path_that_pytest_takes_for_tests_is_refused(project, made_up, early):
    """A checkout given apart would be where pytest looks for its settings: the error names the form that works."""
    sdk = project / "sdk"
    sdk.mkdir()
    (sdk / "pytest.ini").write_text("[pytest]\n", "utf-8")
    (project / "pytest.ini").write_text("[pytest]\n", "utf-8")
    given = ["--parity-sdk-path", "sdk"]
    done = made_up(*given, own=()) if early == "arguments" else made_up(own=(), PYTEST_ADDOPTS=" ".join(given))
    assert done.returncode == 4, done.stdout
    assert "write --parity-sdk-path=sdk" in done.stderr
    assert not (sdk / ".pytest_cache").exists()
    done = made_up("--collect-only", "--parity-sdk-path=sdk", own=())
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"rootdir: {project}\n" in done.stdout
    assert _log(project)[0][-2:] == ["--sdk-path", "sdk"]
    assert not (sdk / ".pytest_cache").exists()


def test_a_worker_runs_a_scenario_once(project, made_up):
    """With -n each worker has a process; whatever tests it gets, it asks for a scenario at most once."""
    done = made_up("-n", "2")
    assert "3 failed, 3 passed, 2 skipped, 1 xfailed" in done.stdout, done.stdout + done.stderr
    log = _log(project)
    workers = {line[0] for line in log}
    assert len(workers) == 2
    for worker in workers:
        wanted = [name for line in log if line[0] == worker and line[1] == "want" for name in line[2:]]
        assert len(wanted) == len(set(wanted))
    assert all("--jobs 1" in " ".join(line) for line in log if line[1] == "args")


def test_what_failed_last_is_run_alone(project, made_up):
    """--lf selects checks, and only their scenarios are asked for."""
    made_up()
    (project / "log").unlink()
    done = made_up("--lf")
    assert "3 failed" in done.stdout
    assert [line[1:] for line in _log(project) if line[1] == "want"] == [["want", "a/one", "b/two", "c/three"]]


def test_selecting_by_marker_and_listing_asks_for_nothing(project, made_up):
    """-m parity leaves the repository's own tests out; --collect-only runs no scenario."""
    done = made_up("--collect-only", "-q", "-m", "parity")
    assert "parity::d/four::order.seq" in done.stdout
    assert "test_own" not in done.stdout
    assert [line[1] for line in _log(project)] == ["args", "end"]


def test_a_process_that_dies_fails_what_it_owes(made_up):
    """Its last words are the failure of every check without a verdict; the others keep theirs."""
    done = made_up(FAKE="dies")
    assert "5 failed, 2 passed, 1 skipped, 1 xfailed" in done.stdout, done.stdout
    assert "FAILED parity::d/four::order.seq - it died" in done.stdout


def test_a_run_that_stops_early_leaves_no_process(project, made_up):
    """With -x the process is ended, whatever it still has to do."""
    done = made_up("-x")
    assert "1 failed" in done.stdout
    pids = {int(line[0]) for line in _log(project)}
    assert pids
    assert [pid for pid in pids if Path(f"/proc/{pid}").exists()] == []


def test_what_parity_refuses_is_an_error_of_usage(made_up):
    """Its code and sentence are shown, and nothing is collected."""
    done = made_up("--parity-args=unknown")
    assert done.returncode == 4
    assert "error [sdk-unknown] there is no such SDK" in done.stderr


def test_unused_it_loads_nothing(project):
    """Without one of its switches neither the rest of the plugin nor anything of parity is imported."""
    (project / "test_own.py").write_text(
        "import sys\n\ndef test_own():\n    assert 'parity_pytest' in sys.modules\n"
        "    loaded = [name for name in sys.modules if name.startswith(('parity_pytest.', 'harness', 'mock_server'))]\n"
        "    assert loaded == []\n",
        "utf-8",
    )
    done = _pytest(project)
    assert done.returncode == 0, done.stdout


def test_the_real_parity_judges_the_reference(project):
    """End to end, among folders that are called like ours: the installed parity runs, every check passes."""
    chosen = "--parity-args=-k 'custom/sum-literal and (weights or chunks)'"
    done = _pytest(project, "--parity-sdk", "reference", chosen, "-p", "no:cacheprovider")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "11 passed" in done.stdout, done.stdout


def test_the_real_parity_drives_what_parity_toml_names(project):
    """End to end with a driver of the project's own: --parity alone finds it, an id alone is run."""
    written = subprocess.run(
        [sys.executable, "-P", "-m", "harness", "new-driver", "python", "driver", "--name", "my-sdk"],
        cwd=project, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert written.returncode == 0, written.stderr
    command = f"'{sys.executable}' driver/driver.py"
    (project / "parity.toml").write_text(f'[driver]\ncommand = "{command}"\n', "utf-8")
    done = _pytest(project, "--parity", own=("parity::session/lifecycle",))
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
    assert "test_own" not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--parity-sdk=",), "--parity-sdk is empty; is a variable not set?"),
        (("--parity-driver=",), "--parity-driver is empty"),
        (("--parity", "--parity-sdk-path="), "--parity-sdk-path is empty"),
        (("--parity-args=-k x",), "nothing says what is driven"),
        (("--parity-sdk-path=sdk",), "nothing says what is driven"),
        (("--parity-sdk=made==1.0", "--parity-args=-k 'x"), "--parity-args -k 'x: No closing quotation"),
    ],
    ids=lambda each: each if isinstance(each, str) else " ".join(each),
)
def test_what_says_nothing_is_not_taken_for_nothing(made_up, arguments, said):
    """An empty value, or options without what is driven, are errors of usage: a gate must not pass by an unset name."""
    done = made_up(*arguments, driven=())
    assert done.returncode == 4, done.stdout
    assert said in done.stdout + done.stderr
    assert "INTERNALERROR" not in done.stdout + done.stderr
