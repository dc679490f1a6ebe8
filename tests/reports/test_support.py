"""The table of what is supported, in the README of an SDK."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from harness.engine.events import RunFinished
from harness.errors import ParityError
from harness.reports.support import BEGIN, END, SupportReport, check_marks, placed, support_table


def test_a_run_with_every_outcome(events, play, same_as_snapshot):
    """The table of the small run."""
    same_as_snapshot("support.md", support_table(play(events)))


def test_stands_between_its_marks(events, play, tmp_path):
    """The rest of a README stays as it is, and writing again changes nothing."""
    readme = tmp_path / "README.md"
    readme.write_text(f"# SDK\n\n{BEGIN}\nstale words\n{END}\n\nthe rest\n", encoding="utf-8")
    for _ in range(2):
        play(events, lambda tally: [SupportReport(readme, tally)])
        text = readme.read_text(encoding="utf-8")
        assert text.startswith(f"# SDK\n\n{BEGIN}\n\n| tinker 0.38.0 | holds |")
        assert text.endswith(f"\n{END}\n\nthe rest\n")
        assert "stale words" not in text


def test_a_new_file_has_the_marks(events, play, tmp_path):
    """What was written once can be written again."""
    file = tmp_path / "SUPPORT.md"
    play(events, lambda tally: [SupportReport(file, tally)])
    check_marks(file)
    assert file.read_text(encoding="utf-8").startswith(BEGIN)


def test_a_readme_without_marks_is_refused(tmp_path):
    """A file that was not made for a table is never written over."""
    readme = tmp_path / "README.md"
    readme.write_text("# SDK\n", encoding="utf-8")
    with pytest.raises(ParityError) as caught:
        check_marks(readme)
    assert caught.value.code == "support-unmarked"


def test_an_interrupted_run_changes_nothing(events, play, tmp_path):
    """What was not judged to the end says nothing about support."""
    file = tmp_path / "SUPPORT.md"
    cut = [replace(e, interrupted=True) if isinstance(e, RunFinished) else e for e in events]
    play(cut, lambda tally: [SupportReport(file, tally)])
    assert not file.exists()


@given(st.text(), st.text(), st.text())
def test_what_is_around_the_marks_stays(before, old, after):
    """Whatever stands before and after is kept to the letter."""
    text = f"{before}{BEGIN}{old}{END}{after}"
    head, _, rest = text.partition(BEGIN)
    tail = rest.partition(END)[2]
    assert placed(text, "table\n") == f"{head}{BEGIN}\n\ntable\n\n{END}{tail}"
