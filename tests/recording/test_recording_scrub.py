"""Secrets are taken out, and nothing else."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.recording.scrub import SCRUBBED, scrub, scrub_folders, scrub_headers, scrub_text

SECRETS = [
    "tml-abcDEF_0123-4567",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
    "eyJhbGciOiJub25lIn0",
    # Put together here, so that no scanner of repositories takes them for somebody's.
    "hf_" + "abcDEFghiJKLmnopQRSTuvwxyz01234567",
    "hf_" + "abcdefghijklmnopqrstuvwxyz",
    "sk-" + "proj-abc_DEF-0123456789",
    "sk-" + "abcdefghijklmnopqrstuvwxyz",
    "ghp_" + "abcdefABCDEF0123456789abcdefABCDEF01",
    "github_pat_" + "11ABCDEFG0abcdefghij_0123456789",
    "AKIA" + "IOSFODNN7EXAMPLE",
    "xoxb-" + "123456789012-abcdefABCDEF",
]
WORDS = st.text(st.characters(codec="ascii", categories=["Lu", "Ll", "Nd", "Zs"]), max_size=12)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | WORDS.filter(lambda w: "eyJ" not in w),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abcdef"), inner, max_size=3),
    max_leaves=12,
)


@given(PLAIN, st.sampled_from(SECRETS), WORDS, WORDS)
def test_no_secret_survives_wherever_it_stands(value, secret, before, after):
    """In a text, in a key, deep inside: the secret is gone, and what has none is unchanged."""
    assert scrub(value) == value
    hidden = {"deep": [value, {"text": f"{before} {secret} {after}", f"{secret}": 1}]}
    left = json.dumps(scrub(hidden))
    assert secret not in left
    assert SCRUBBED in left
    assert json.dumps(value) in left


@pytest.mark.parametrize(
    "text", ["hf_transformers", "hf_hub", "disk-sk-cache", "task-0123456789", "sk-learn", "AKIAN", "ghp", "xox-large"]
)
def test_words_that_begin_like_tokens_stay(text):
    """A short beginning, or one inside a word, is no token."""
    assert scrub_text(f"base {text} end") == f"base {text} end"


@pytest.mark.parametrize("name", ["api_key", "jwt", "access_token", "client_secret", "password", "auth"])
def test_names_that_say_secret_hide_any_text(name):
    """What looks like nothing is a secret under such a name; numbers and null say how bodies are written and stay."""
    assert scrub({name: "plain"}) == {name: SCRUBBED}
    assert scrub({name: None, "max_tokens": 3, "tokenizer_id": "t"}) == {
        name: None,
        "max_tokens": 3,
        "tokenizer_id": "t",
    }


def test_user_metadata_is_replaced_whole():
    """Its keys may tell as much as its values; that there is none, or an empty one, stays visible."""
    told = {"user_metadata": {"team": "red"}, "lora_config": {"rank": 8}}
    assert scrub(told) == {"user_metadata": {SCRUBBED: SCRUBBED}, "lora_config": {"rank": 8}}
    assert scrub({"user_metadata": None}) == {"user_metadata": None}
    assert scrub([{"user_metadata": {}}]) == [{"user_metadata": {}}]


def test_headers_that_hold_secrets_are_dropped():
    """Keys, cookies and tokens go; what checks look at stays, x-idempotency-key with its name too."""
    headers = {
        "x-api-key": "k", "authorization": "Bearer abc", "cookie": "a=b", "set-cookie": "a=b", "x-auth-token": "t",
        "proxy-authorization": "Basic x", "cf-access-client-secret": "s", "x-note": "tml-abc and more",
        "x-idempotency-key": "i", "x-tinker-request-type": "T", "content-type": "application/json",
    }  # fmt: skip
    assert scrub_headers(headers) == {
        "x-note": f"{SCRUBBED} and more",
        "x-idempotency-key": "i",
        "x-tinker-request-type": "T",
        "content-type": "application/json",
    }


def test_passwords_in_urls_and_bearer_tokens_are_texts_too():
    """Neither has a form of its own to be known by."""
    assert scrub_text("https://me:pw@host/x and Bearer abc.def") == f"https://{SCRUBBED}@host/x and {SCRUBBED}"


def test_folders_of_source_files_are_about_one_machine():
    """A stack keeps file and folder; paths of the API, of checkpoints and URLs stay."""
    stack = 'File "/home/alice/x.y/site-packages/tinker/lib/client.py", line 3\\n  (/opt/elixir/lib/tinkex/run.ex:12)'
    assert scrub_folders(stack) == 'File ".../lib/client.py", line 3\\n  (.../tinkex/run.ex:12)'
    for kept in (
        "/api/v1/forward_backward",
        "tinker://model-1/weights/ck",
        "http://127.0.0.1:1/a/b/c.py",
        "a/b/c/d.py",
    ):
        assert scrub_folders(kept) == kept
