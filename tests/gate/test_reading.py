"""Reports are read back strictly: what is none, is older or newer, or contradicts itself, is refused with a code."""

from __future__ import annotations

import pytest
from made_up import reported, told, write

from harness.errors import ParityError
from harness.gate.reading import read_report

__all__ = ["write"]
RESULTS = [("a/one", "order.seq", "pass", "", ""), ("a/one", "weights.values", "fail", "scaled", "twice")]


def test_a_report_is_read_as_it_was_written(write):
    """The document comes back equal, with the digest of its file."""
    document = reported(told(RESULTS))
    read, digest = read_report(write(document))
    assert read == document
    assert len(digest) == 64


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"schema": 1}, "report-older"),
        ({"schema": 3}, "report-newer"),
        ({"schema": "2"}, "report-foreign"),
        ({"results": 5}, "report-malformed"),
        ({"totals": {"pass": 7}}, "report-malformed"),
        ({"run": None}, "report-malformed"),
    ],
)
def test_what_is_no_report_of_this_schema_is_refused(write, changes, code):
    """Older, newer, damaged: each has its code."""
    with pytest.raises(ParityError) as caught:
        read_report(write(reported(told(RESULTS)), **changes))
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("content", "code"),
    [(b"", "report-malformed"), (b"{", "report-malformed"), (b"[]", "report-foreign"), (b"{}", "report-foreign"),
     (b'{"schema": 1, "recording": "x", "results": []}', "report-older"), (b"\xff\xfe", "report-malformed")],
)  # fmt: skip
def test_other_files_are_refused(tmp_path, content, code):
    """Empty, cut, another JSON, no text at all."""
    (tmp_path / "r.json").write_bytes(content)
    with pytest.raises(ParityError) as caught:
        read_report(tmp_path / "r.json")
    assert caught.value.code == code


def test_a_missing_file_and_a_folder_are_no_reports(tmp_path):
    """Both are named."""
    for path in (tmp_path / "none.json", tmp_path):
        with pytest.raises(ParityError) as caught:
            read_report(path)
        assert caught.value.code == "report-not-found"


def test_a_report_put_together_by_hand_is_refused(write):
    """A check that is there twice, or a remark about a scenario without a result, does not pass for a report."""
    document = reported(told(RESULTS))
    import msgspec

    content = msgspec.to_builtins(document)
    doubled = [*content["results"], content["results"][0]]
    stray = [*content["remarks"], {"scenario": "z", "check": "c", "certainty": "", "detail": "", "required": False}]
    for changes in ({"results": doubled}, {"remarks": stray}):
        with pytest.raises(ParityError) as caught:
            read_report(write(document, **changes))
        assert caught.value.code == "report-malformed"
