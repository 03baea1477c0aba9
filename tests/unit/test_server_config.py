"""Settings, their page, and the variables that the code reads."""

import math
import re
from pathlib import Path

import pytest

from runstream.sender.settings import SETTINGS as SENDER_SETTINGS
from runstream.settings import SETTINGS as CLIENT_SETTINGS
from runstream_server.config import SETTINGS, is_loopback, read_config
from runstream_server.errors import ConfigError
from runstream_server.roles import SERVICES, Role
from runstream_server.settings_page import render

ROOT = Path(__file__).parents[2]
PACKAGES = ("sdk/runstream", "ingest", "store", "query", "server")


def test_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNSTREAM_HOME", str(tmp_path))
    monkeypatch.delenv("RUNSTREAM_DATA", raising=False)
    config = read_config({}, {})
    assert config.data == tmp_path / "data"
    assert config.log_url == f"sqlite://{tmp_path}/data/log.sqlite"
    assert (config.host, config.grpc_port, config.http_port) == ("127.0.0.1", 7300, 7301)
    assert config.loopback
    assert config.idle_exit_s == 1800


def test_days_until_what_was_deleted_is_removed() -> None:
    assert read_config({}, {}).purge_after_days == 7
    assert read_config({"purge_after_days": "0.5"}, {}).purge_after_days == 0.5
    assert read_config({"purge_after_days": "Never"}, {}).purge_after_days == math.inf
    for wrong in "-1", "inf", "nan", "week":
        with pytest.raises(ConfigError):
            read_config({"purge_after_days": wrong}, {})


def test_an_option_wins_over_the_environment() -> None:
    config = read_config(
        {"grpc_port": "1", "data": None}, {"RUNSTREAM_GRPC_PORT": "2", "RUNSTREAM_HTTP_PORT": "3"}
    )
    assert (config.grpc_port, config.http_port) == (1, 3)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("grpc_port", "x"),
        ("http_port", "65536"),
        ("public_url", "example.org"),
        ("drain_s", "-1"),
        ("drain_s", "nan"),
        ("log_level", "loud"),
    ],
)
def test_nonsense_names_the_setting(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=rf"--{name.replace('_', '-')}={value}: "):
        read_config({name: value}, {})
    variable = next(setting.environment for setting in SETTINGS if setting.name == name)
    with pytest.raises(ConfigError, match=rf"{variable}={value}: "):
        read_config({}, {variable: value})


SHARED = {
    "RUNSTREAM_LOG_URL": "kafka://h:9092/p",
    "RUNSTREAM_TABLES_URL": "clickhouse://h:8123/d",
    "RUNSTREAM_HOT_URL": "redis://h:6379/0",
    "RUNSTREAM_OBJECTS_URL": "s3://bucket",
}


def test_services_fit_on_one_machine() -> None:
    configs = [read_config({}, SHARED, role=role) for role in SERVICES]
    ports = [port for c in configs for port in (c.grpc_port, c.http_port) if port is not None]
    assert len(set(ports)) == len(ports) == 5
    by_name = {c.role.name: c for c in configs}
    # What scripts look for when they know one address only.
    assert (by_name["ingest"].grpc_port, by_name["query"].http_port) == (7300, 7301)
    assert all(config.token_file is None for config in configs)


@pytest.mark.parametrize("variable", SHARED)
@pytest.mark.parametrize("role", SERVICES, ids=lambda role: role.name)
def test_engines_of_one_process_are_refused_for_services(variable: str, role: Role) -> None:
    engines = {name: url for name, url in SHARED.items() if name != variable}
    with pytest.raises(ConfigError, match=rf"^{variable}\W.*runstream {role.name}\W.*Set (it|{variable}) to"):
        read_config({}, engines, role=role)


def test_a_token_is_not_shown() -> None:
    with pytest.raises(ConfigError, match=r"^RUNSTREAM_TOKEN=…: a token has at least 32"):
        read_config({}, {"RUNSTREAM_TOKEN": "secret"})


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", True),
        ("127.0.0.2", True),
        ("::1", True),
        ("[::1]", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("a.example", False),
    ],
)
def test_loopback(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


def test_the_page_is_current() -> None:
    page = (ROOT / "docs" / "settings.md").read_text()
    assert page == render(), "run: python -m runstream_server.settings_page > docs/settings.md"


def test_every_variable_is_in_a_table() -> None:
    known = {s.name for s in CLIENT_SETTINGS} | {s.environment for s in SETTINGS}
    known |= {s.variable for s in SENDER_SETTINGS}
    read: dict[str, Path] = {}
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            if "_pb2" not in path.name:
                for name in re.findall(r"""["'](RUNSTREAM_[A-Z_]+)["']""", path.read_text()):
                    read[name] = path.relative_to(ROOT)
    assert {name: str(path) for name, path in read.items() if name not in known} == {}
