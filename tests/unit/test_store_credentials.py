"""Tokens: made once, kept as hashes, compared whole, revoked while the server runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from runstream_store.credentials import Authenticator, KeyFile, Principal, local_token
from runstream_store.errors import ConfigError


def test_the_local_token_is_made_once_and_private(tmp_path: Path) -> None:
    path = tmp_path / "token"
    token = local_token(path)
    assert len(token) >= 32
    assert local_token(path) == token
    assert path.stat().st_mode & 0o777 == 0o600
    assert [p.name for p in tmp_path.iterdir()] == ["token"]
    path.write_text("")
    with pytest.raises(ConfigError, match="no token"):
        local_token(path)


def test_keys_are_kept_as_hashes(tmp_path: Path) -> None:
    keys = KeyFile(tmp_path / "keys.json")
    assert keys.load() == []
    token = keys.add("ci")
    assert keys.path.stat().st_mode & 0o777 == 0o600
    assert token not in keys.path.read_text()
    assert [key.name for key in keys.load()] == ["ci"]
    for name in "ci", "", "local", "a/b", "x" * 101:
        with pytest.raises(ConfigError):
            keys.add(name)
    with pytest.raises(ConfigError, match="no key named"):
        keys.revoke("other")
    keys.revoke("ci")
    assert keys.load() == []


def test_a_token_tells_who_calls(tmp_path: Path) -> None:
    keys = KeyFile(tmp_path / "keys.json")
    token = keys.add("ci")
    auth = Authenticator("the local one", keys)
    assert auth.has_keys()
    assert auth.authenticate(f"Bearer {token}") == Principal("ci")
    assert auth.authenticate("bearer the local one") == Principal("local")
    for wrong in None, "", "Bearer", "Bearer ", f"Basic {token}", token, f"Bearer {token}x", "Bearer \udcff":
        assert auth.authenticate(wrong) is None
    assert Authenticator(None).authenticate("Bearer ") is None


def test_changes_of_the_keys_are_followed(tmp_path: Path) -> None:
    now = 0.0
    keys = KeyFile(tmp_path / "keys.json")
    auth = Authenticator(None, keys, clock=lambda: now)
    token = keys.add("ci")
    assert auth.who(token) is None  # not looked at yet
    now = 2.0
    assert auth.who(token) == Principal("ci")
    keys.revoke("ci")
    now = 4.0
    assert auth.who(token) is None


def test_a_broken_key_file_lets_nobody_in(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    keys = KeyFile(tmp_path / "keys.json")
    token = keys.add("ci")
    auth = Authenticator("local one", keys, clock=lambda: now)
    assert auth.who(token) is not None
    keys.path.write_text("{")
    now = 2.0
    assert auth.who(token) is None
    assert "repaired" in caplog.text
    assert auth.who("local one") == Principal("local")
    with pytest.raises(ConfigError):
        Authenticator(None, keys)


@pytest.mark.parametrize(
    "content",
    ["", "[]", '{"format": 2, "keys": []}', '{"format": 1, "keys": [{}]}', '{"format": 1}'],
)
def test_what_is_no_key_file_is_told(tmp_path: Path, content: str) -> None:
    path = tmp_path / "keys.json"
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(ConfigError):
        KeyFile(path).load()


def test_a_key_file_that_others_may_write_is_refused(tmp_path: Path) -> None:
    keys = KeyFile(tmp_path / "keys.json")
    keys.add("ci")
    keys.path.chmod(0o666)
    with pytest.raises(ConfigError, match="chmod"):
        keys.load()
    content = json.loads(keys.path.read_text())
    content["keys"][0]["sha256"] = "no digest"
    keys.path.write_text(json.dumps(content))
    keys.path.chmod(0o600)
    with pytest.raises(ConfigError, match="hexadecimal"):
        Authenticator(None, keys)
