"""The guard's rules, without a server."""

from __future__ import annotations

import pytest
from swin_umamba.errors import InputError

from monailabel_app.security import Rules, is_loopback, token_of

TOKEN = "0123456789abcdef"


def test_rules_of_the_environment(tmp_path):
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    rules = Rules.from_environment(
        {
            "SWIN_UMAMBA_TOKEN_FILE": str(file),
            "SWIN_UMAMBA_CORS_ORIGINS": "https://a.example, http://b:81/",
            "SWIN_UMAMBA_UPLOAD_LIMIT_MB": "3",
        }
    )
    assert rules == Rules(token=TOKEN, origins=("https://a.example", "http://b:81"), upload_limit=3 * 2**20)
    assert Rules.from_environment({}) == Rules()


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("SWIN_UMAMBA_TOKEN", "short", "16 or more"),
        ("SWIN_UMAMBA_TOKEN", "with space in the middle", "without spaces"),
        ("SWIN_UMAMBA_TOKEN_FILE", "/nowhere", "cannot be read"),
        ("SWIN_UMAMBA_UPLOAD_LIMIT_MB", "-1", "legal"),
        ("SWIN_UMAMBA_CORS_ORIGINS", "*", "legal"),
        ("SWIN_UMAMBA_CORS_ORIGINS", "viewer.example.org", "legal"),
    ],
)
def test_illegal_rules(name, value, words):
    with pytest.raises(InputError, match=words):
        Rules.from_environment({name: value})


def test_an_empty_token_file_is_no_token(tmp_path):
    (tmp_path / "token").write_text("\n")
    with pytest.raises(InputError, match="empty"):
        Rules.from_environment({"SWIN_UMAMBA_TOKEN_FILE": str(tmp_path / "token")})


def test_tokens():
    assert Rules(token=TOKEN).accepts(TOKEN)
    for other in (None, "", TOKEN[:-1], TOKEN + "0", "ä"):
        assert not Rules(token=TOKEN).accepts(other)
    assert not Rules().accepts(None)


def test_where_tokens_come_from():
    assert token_of({"authorization": f"Bearer {TOKEN}"}) == TOKEN
    assert token_of({"cookie": f"a=1; swin_umamba_token={TOKEN}"}) == TOKEN
    assert token_of({"authorization": "Basic abc", "cookie": "a=1"}) is None
    assert token_of({}) is None


@pytest.mark.parametrize(("host", "own"), [("127.0.0.1", True), ("::1", True), ("10.0.0.1", False), ("0.0.0.0", False)])
def test_loopback(host, own):
    assert is_loopback(host) is own
