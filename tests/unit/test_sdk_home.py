"""Places, discovery, and which server is meant."""

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from runstream import home as module
from runstream.home import Discovery, resolve_server


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in list(os.environ):
        if name.startswith("RUNSTREAM_"):
            monkeypatch.delenv(name)
    folder = tmp_path / "state"
    monkeypatch.setenv("RUNSTREAM_HOME", str(folder))
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return folder


def discovery(**changes: Any) -> Discovery:
    found = Discovery(
        grpc="127.0.0.1:7400",
        http="http://127.0.0.1:7999",
        pid=os.getpid(),
        token="secret",
        started_ns=1,
        data="/data",
        version="1",
        epoch="00",
        autostarted=False,
    )
    return found._replace(**changes)


def write_config(folder: Path, content: object, name: str = ".runstream") -> Path:
    path = folder / name / "config.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_home_is_private_also_when_it_was_not(home: Path) -> None:
    home.mkdir(mode=0o755)
    assert module.home() == home
    assert stat.S_IMODE(home.stat().st_mode) == 0o700


def test_home_follows_xdg(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RUNSTREAM_HOME")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    assert module.home() == tmp_path / "xdg" / "runstream"


def test_home_of_another_user_is_refused(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home.mkdir()
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    with pytest.raises(PermissionError, match="belongs to another user"):
        module.home()


def test_data_is_beside_an_explicit_home(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert module.default_data_folder() == home / "data"
    monkeypatch.setenv("RUNSTREAM_DATA", str(tmp_path / "elsewhere"))
    assert module.default_data_folder() == tmp_path / "elsewhere"
    monkeypatch.delenv("RUNSTREAM_DATA")
    monkeypatch.delenv("RUNSTREAM_HOME")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))
    assert module.default_data_folder() == tmp_path / "share" / "runstream"


def test_a_spool_root_has_one_socket_however_it_is_written(home: Path, tmp_path: Path) -> None:
    spool = tmp_path / ("long" * 60)
    spool.mkdir()
    link = tmp_path / "link"
    link.symlink_to(spool)
    assert module.sender_socket(spool) == module.sender_socket(str(link))
    assert module.sender_lock(spool) == module.sender_lock(link)
    assert len(module.sender_socket(spool)) < 100
    assert module.sender_socket(spool) != module.sender_socket(tmp_path)


def test_discovery_comes_back_and_is_private(home: Path) -> None:
    assert module.read_discovery() is None
    module.write_discovery(discovery())
    assert module.read_discovery() == discovery()
    assert stat.S_IMODE(module.discovery_path().stat().st_mode) == 0o600
    assert [p.name for p in home.iterdir()] == ["server.json"]


def test_discovery_is_removed_by_its_server_only(home: Path) -> None:
    module.write_discovery(discovery(pid=77))
    module.remove_discovery(78)
    assert module.read_discovery() is not None
    module.remove_discovery(77)
    assert module.read_discovery() is None


@pytest.mark.parametrize(
    "content", ["", "[]", "{", '{"grpc": "a:1"}', '{"grpc": 1, "http": 2, "pid": "x", "token": 3}']
)
def test_a_damaged_discovery_file_is_none(home: Path, content: str) -> None:
    module.home()
    module.discovery_path().write_text(content)
    assert module.read_discovery() is None


def test_a_leftover_is_told(home: Path) -> None:
    pid = os.spawnlp(os.P_NOWAIT, "true", "true")
    os.waitpid(pid, 0)
    assert not discovery(pid=pid).alive()
    assert discovery().alive()


def test_nothing_known_is_no_server(home: Path) -> None:
    assert resolve_server() is None


def test_discovery_gives_address_and_token(home: Path) -> None:
    module.write_discovery(discovery())
    assert resolve_server() == ("127.0.0.1:7400", "http://127.0.0.1:7999", "secret", "discovery", "discovery")


def test_environment_before_config_before_discovery(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module.write_discovery(discovery())
    write_config(
        Path.cwd(), {"server": "config:1", "http_server": "https://config/x/", "api_key_file": "key"}
    )
    (Path.cwd() / "key").write_text("from file\n")
    assert resolve_server() == ("config:1", "https://config/x", "from file", "config", "file")
    monkeypatch.setenv("RUNSTREAM_SERVER", "env:5")
    monkeypatch.setenv("RUNSTREAM_API_KEY", "from env")
    assert resolve_server() == ("env:5", "http://env:6", "from env", "environment", "environment")
    found = resolve_server("given")
    assert found is not None
    assert (found.grpc, found.source) == ("given:7300", "explicit")


def test_another_server_never_gets_the_token(home: Path) -> None:
    module.write_discovery(discovery())
    found = resolve_server("elsewhere:7400")
    assert found is not None
    assert found.token is None
    same = resolve_server("localhost:7400")
    assert same is not None
    assert (same.token, same.http) == ("secret", "http://127.0.0.1:7999")


def test_a_sender_ignores_the_environment_of_who_started_it(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNSTREAM_SERVER", "env:5")
    monkeypatch.setenv("RUNSTREAM_API_KEY", "from env")
    write_config(Path.cwd(), {"server": "config:1"})
    assert resolve_server(use_environment=False) is None
    key = Path.cwd() / "credential"
    key.write_text("its own")
    found = resolve_server("a:1", credential=key, use_environment=False)
    assert found is not None
    assert (found.grpc, found.token) == ("a:1", "its own")


def test_http_as_the_sender_learned_it(home: Path) -> None:
    module.learn_http("far:7300", "https://far.example")
    module.learn_http("near:7300", "http://near:1")
    found = resolve_server("far")
    assert found is not None
    assert found.http == "https://far.example"


def test_the_nearest_config_wins(home: Path, tmp_path: Path) -> None:
    inner = tmp_path / "work" / "a" / "b"
    inner.mkdir(parents=True)
    assert module.find_config(inner) is None
    upper = write_config(tmp_path / "work", {}, ".runstream")
    assert module.find_config(inner) == upper
    old = write_config(tmp_path / "work" / "a", {}, ".azureml")
    assert module.find_config(inner) == old
    new = write_config(tmp_path / "work" / "a", {}, ".runstream")
    assert module.find_config(inner) == new


@pytest.mark.parametrize("content", ["{", "[]", '{"server": 7300}'])
def test_a_config_that_is_none(home: Path, content: str) -> None:
    path = write_config(Path.cwd(), content)
    with pytest.raises(ValueError, match=r"config\.json"):
        module.load_config(path)
    assert resolve_server() is None  # logging goes on without


@pytest.mark.parametrize(
    ("address", "normal"),
    [
        ("localhost", "127.0.0.1:7300"),
        ("localhost:1", "127.0.0.1:1"),
        (" host:8/ ", "host:8"),
        ("https://host:8/x", "host:8"),
        ("[::1]:5", "[::1]:5"),
        ("::1", "[::1]:7300"),
        ("2001:db8::7", "[2001:db8::7]:7300"),
        ("[2001:db8::7]:9", "[2001:db8::7]:9"),
    ],
)
def test_addresses_have_one_form(address: str, normal: str) -> None:
    assert module.normal_address(address) == normal
