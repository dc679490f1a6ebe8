"""A driver that parity does not know: its command line, what it says about itself, and what is refused."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import harness.drivers
from harness.drivers.command import ANY, DriverCommand, check_asked, named, spec_of
from harness.drivers.failure import Patience
from harness.drivers.protocol import PROTOCOL, HelloAnswer, SdkInfo
from harness.drivers.scaffold import write_skeleton
from harness.engine.introduce import introduced
from harness.engine.prepare import prepare
from harness.errors import ParityError
from harness.locations import locate
from harness.settings import read_settings

FAKE = Path(__file__).with_name("fake_driver.py")
HELLO = HelloAnswer("1.0", "n", SdkInfo("my-sdk", "1.2.0"), "go", "go 1.22", "tinker-0.15.0", [])


def _code(act):
    with pytest.raises(ParityError) as caught:
        act()
    return caught.value.code


def _skeleton(folder):
    write_skeleton("python", folder, name="my-sdk")
    return folder


def test_a_command_runs_in_its_folder_with_its_users_path(tmp_path, monkeypatch):
    """The program is looked for on the user's PATH; the rest of the environment is built, and may be added to."""
    program = tmp_path / "bin" / "start-it"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/bin")
    monkeypatch.setenv("TINKER_API_KEY", "secret")
    spec = spec_of(DriverCommand("start-it 'two words' $HOME", tmp_path, {"MIX_HOME": "/opt/mix"}))
    assert spec.argv == (str(program), "two words", "$HOME")
    assert (spec.cwd, spec.name, spec.version) == (tmp_path, ANY, ANY)
    assert (spec.env["PATH"], spec.env["MIX_HOME"]) == (f"{program.parent}:/bin", "/opt/mix")
    assert "TINKER_API_KEY" not in spec.env


def test_a_path_is_meant_from_the_folder_of_the_command(tmp_path, monkeypatch):
    """`./driver.sh` is the one beside the parity.toml that says it, wherever parity is started."""
    monkeypatch.chdir("/")
    (tmp_path / "driver.sh").write_text("#!/bin/sh\n")
    (tmp_path / "driver.sh").chmod(0o755)
    assert spec_of(DriverCommand("./driver.sh", tmp_path)).argv == (str(tmp_path / "driver.sh"),)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "driver-malformed"),
        ("node 'driver.mjs", "driver-malformed"),
        ("no-such-program driver.x", "driver-missing"),
        ("./driver.sh", "driver-missing"),
    ],
)
def test_a_command_that_cannot_be_is_refused(tmp_path, text, code):
    """A quote without an end, nothing at all, and a program that is not there, each by its code."""
    assert _code(lambda: spec_of(DriverCommand(text, tmp_path))) == code


def test_a_driver_is_believed_what_it_says():
    """Name, version and contract are those of hello, whether nothing was asked for or the same."""
    spec = spec_of(DriverCommand(sys.executable, Path.cwd()))
    for asked in (None, "my-sdk", "my-sdk==1.2", "my-sdk == 1.2.0"):
        found = named(spec, HELLO, asked=asked)
        assert (found.name, found.version, found.contract) == ("my-sdk", "1.2.0", "tinker-0.15.0")


@pytest.mark.parametrize("asked", ["other", "my-sdk==1.3", "other==1.2.0"])
def test_another_sdk_than_asked_for_is_refused(asked):
    """--sdk beside --driver is a promise about what is driven."""
    spec = spec_of(DriverCommand(sys.executable, Path.cwd()))
    assert _code(lambda: named(spec, HELLO, asked=asked)) == "sdk-mismatch"


@pytest.mark.parametrize(
    ("name", "version"), [("My SDK", "1.0"), ("../../etc/passwd", "1.0"), ("", ""), ("sdk", "newest")]
)
def test_a_driver_without_a_usable_name_is_refused(name, version):
    """Files and specifiers are made of name and version, so that they must be fit for it."""
    spec = spec_of(DriverCommand(sys.executable, Path.cwd()))
    hello = HelloAnswer(
        **{**{key: getattr(HELLO, key) for key in HELLO.__struct_fields__}, "sdk": SdkInfo(name, version)}
    )
    assert _code(lambda: named(spec, hello, asked=None)) == "driver-unnamed"


@pytest.mark.parametrize(("asked", "code"), [("my sdk", "sdk-malformed"), ("sdk==new", "sdk-version-malformed")])
def test_what_is_asked_for_has_to_be_readable(asked, code):
    """A name that is none is refused before anything is started."""
    assert _code(lambda: check_asked(asked)) == code


def test_a_driver_introduces_itself(tmp_path):
    """A real process is started in its folder, asked, and ended."""
    spec = introduced(DriverCommand(f"{sys.executable} driver.py", _skeleton(tmp_path / "new")), sdk=None)
    assert (spec.name, spec.version, spec.contract) == ("my-sdk", "0.1.0", "tinker-0.15.0")


@pytest.mark.parametrize("mode", ["deaf", "stale"])
def test_a_driver_that_does_not_say_hello_is_an_error(mode):
    """Silence and a wrong answer are errors of asking, with what came instead."""
    command = DriverCommand(f"{sys.executable} {FAKE} {mode}", FAKE.parent)
    patience = Patience(hello=0.3 if mode == "deaf" else 60.0, end=1.0, last_words=1.0)
    with pytest.raises(ParityError) as caught:
        introduced(command, sdk=None, patience=patience)
    assert caught.value.code == "driver-failed"
    assert "check-driver" in caught.value.hint


def test_a_plan_is_made_of_what_the_driver_says(tmp_path):
    """The contract is the one it claims or the one that is named, and the arguments run the same again."""
    command = DriverCommand(f"{sys.executable} driver.py", _skeleton(tmp_path / "new"))
    plan = prepare(locate(), sdk=None, driver=command, expression="session/lifecycle")
    assert (plan.spec.name, plan.contract.id, plan.own_contract) == ("my-sdk", "tinker-0.15.0", True)
    assert plan.arguments == ("--driver", command.text)
    other = prepare(
        locate(),
        sdk="my-sdk",
        driver=replace(command, typed=False),
        contract="tinker-0.7.0",
        expression="session/lifecycle",
    )
    assert (other.contract.id, other.own_contract) == ("tinker-0.7.0", False)
    assert other.arguments == ("--sdk", "my-sdk", "--contract", "tinker-0.7.0")


def test_nothing_to_drive_is_an_error():
    """Neither --sdk nor --driver: it says so; and a driver finds its SDK itself."""
    assert _code(lambda: prepare(locate(), sdk=None)) == "sdk-missing"
    command = DriverCommand(sys.executable, Path.cwd())
    assert _code(lambda: prepare(locate(), sdk=None, driver=command, sdk_path=Path.cwd())) == "sdk-path-unsupported"


def test_parity_toml_has_a_driver(tmp_path):
    """Its command is meant from the file's folder, and its environment is text."""
    (tmp_path / "parity.toml").write_text('[driver]\ncommand = "node driver.mjs"\nenvironment = { A = "b" }\n')
    (tmp_path / "below").mkdir()
    driver = read_settings(tmp_path / "below").driver
    assert driver is not None
    assert (driver.command, driver.folder, dict(driver.environment)) == ("node driver.mjs", tmp_path, {"A": "b"})


@pytest.mark.parametrize(
    "text",
    [
        'driver = "node driver.mjs"',
        "[driver]",
        '[driver]\ncommand = ""',
        '[driver]\ncommand = "x"\nfolder = "y"',
        '[driver]\ncommand = "x"\nenvironment = { A = 1 }',
        '[driver]\ncommand = "x"\nenvironment = ["A=1"]',
    ],
)
def test_a_driver_that_parity_toml_misspells_is_an_error(tmp_path, text):
    """No key and no value is passed over."""
    (tmp_path / "parity.toml").write_text(text)
    assert _code(lambda: read_settings(tmp_path)) == "settings-malformed"


@pytest.mark.parametrize("language", ["python", "javascript", "elixir"])
def test_a_skeleton_is_written_once(tmp_path, language):
    """Every file is there with the SDK's name, what is to be started can be, and nothing is ever written over."""
    files = write_skeleton(language, tmp_path / "new", name="my-sdk")
    assert tmp_path / "new" / "README.md" in files
    texts = [file.read_text("utf-8") for file in files]
    assert any("my-sdk" in text for text in texts)
    assert not any("SDK_NAME" in text for text in texts)
    assert all(os.access(file, os.X_OK) for file in files if file.suffix == ".sh")
    assert _code(lambda: write_skeleton(language, tmp_path / "new", name="my-sdk")) == "skeleton-folder"


def test_skeletons_and_the_example_speak_this_protocol():
    """What is written for a user today speaks the version that is documented today."""
    root = Path(harness.drivers.__file__).parent
    files = [root / "templates/python/driver.py", root / "templates/javascript/driver.mjs"]
    files += [root / "templates/elixir/driver.exs", Path(__file__).parents[2] / "examples/node/driver.mjs"]
    for file in files:
        assert f'"{PROTOCOL}"' in file.read_text("utf-8"), file
    # The example began as a skeleton: their line is the same.
    line = (root / "templates/javascript/line.mjs").read_text("utf-8")
    assert (Path(__file__).parents[2] / "examples/node/line.mjs").read_text("utf-8") == line


def test_a_skeleton_that_cannot_be_is_refused(tmp_path):
    """Another language, a name that is none, a file in the way."""
    assert _code(lambda: write_skeleton("cobol", tmp_path / "new", name="my-sdk")) == "skeleton-unknown"
    assert _code(lambda: write_skeleton("python", tmp_path / "new", name="My SDK")) == "sdk-malformed"
    (tmp_path / "file").touch()
    assert _code(lambda: write_skeleton("python", tmp_path / "file", name="my-sdk")) == "skeleton-folder"
    assert _code(lambda: write_skeleton("python", tmp_path / "file" / "new", name="my-sdk")) == "skeleton-folder"
