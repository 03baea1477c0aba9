"""Settings of the server: one table, read once at the edge.

A setting comes from the command line, else from the environment, else from the table. `docs/settings.md` is
generated from the table, and a test holds it to that.
"""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit

from runstream.home import default_data_folder
from runstream_server.errors import ConfigError
from runstream_server.roles import SERVICES, UP, Role
from runstream_store import hot, log, tables

_PASSWORD = re.compile(r"//[^/@]*@")


def _folder(text: str) -> Path:
    return Path(text).expanduser().absolute()


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise ValueError("a port is a number from 0 to 65535; 0 picks a free one")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < 1e9:
        raise ValueError("expected a number of seconds, not negative and finite")
    return seconds


def _url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("expected http://host:port or https://host")
    return text.rstrip("/")


def _token(text: str) -> str:
    if len(text) < 32 or not text.isascii() or not text.isprintable():
        raise ValueError("a token has at least 32 characters, printable ASCII")
    return text


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _days(text: str) -> float:
    if text.lower() == "never":
        return math.inf
    try:
        days = float(text)
    except ValueError:
        days = -1.0
    if not 0 <= days < 1e6:
        raise ValueError("expected a number of days, not negative, or `never`")
    return days


def _one_of(*choices: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text.lower() not in choices:
            raise ValueError(f"expected {', '.join(choices[:-1])} or {choices[-1]}")
        return text.lower()

    return parse


def _usual(name: str) -> str:
    """The ports of the roles, in words."""
    first, *others = ((role.name, getattr(role, name)) for role in (UP, *SERVICES))
    return ", ".join([str(first[1]), *(f"of `{role}` {port}" for role, port in others if port)])


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the table."""

    name: str
    """Field of ServerConfig; with dashes the option of `runstream up`."""
    environment: str
    default: str
    """As somebody would type it; empty: see `meaning`."""
    unit: str
    meaning: str
    parse: Callable[[str], object] = str
    option: bool = False
    """Also an option of the commands that start a server."""
    secret: bool = False
    """Never shown."""


SETTINGS = (
    Setting(
        "data",
        "RUNSTREAM_DATA",
        "",
        "path",
        "Folder for the event log, the tables and the keys. Default: `RUNSTREAM_HOME/data` when that is set, "
        "else `runstream` in the XDG data folder (`~/.local/share`).",
        _folder,
        option=True,
    ),
    Setting(
        "host",
        "RUNSTREAM_HOST",
        "127.0.0.1",
        "address",
        "Address to listen on. One that other machines reach needs an API key first: "
        "`runstream keys add NAME`.",
        option=True,
    ),
    Setting(
        "grpc_port",
        "RUNSTREAM_GRPC_PORT",
        "",
        "port",
        f"Port for gRPC; 0 picks a free one. Default: {_usual('grpc_port')}.",
        _port,
        option=True,
    ),
    Setting(
        "http_port",
        "RUNSTREAM_HTTP_PORT",
        "",
        "port",
        "Port for HTTP: pages, Connect, `/healthz`, `/metrics`; 0 picks a free one. "
        f"Default: {_usual('http_port')}.",
        _port,
        option=True,
    ),
    Setting(
        "public_url",
        "RUNSTREAM_PUBLIC_URL",
        "",
        "URL",
        "Base of links to runs, as people's browsers reach the HTTP port. Scripts read it too. "
        "Default: the address it listens on.",
        _url,
        option=True,
    ),
    Setting(
        "hosts",
        "RUNSTREAM_HOSTS",
        "",
        "names",
        "Names, with commas between, by which the HTTP port may be asked for beside this machine's own, "
        "`--host` and that of the public URL. Others are refused, since web pages could use them to read.",
        _names,
    ),
    Setting(
        "log_url",
        "RUNSTREAM_LOG_URL",
        "",
        "URL",
        "Event log. Default: `sqlite:///DATA/log.sqlite`.",
    ),
    Setting(
        "tables_url",
        "RUNSTREAM_TABLES_URL",
        "",
        "URL",
        "Tables. Default: `chdb:///DATA/tables`, ClickHouse's engine in this process.",
    ),
    Setting(
        "objects_url",
        "RUNSTREAM_OBJECTS_URL",
        "",
        "URL",
        "Storage for the content of files: `file:///PATH`, or a bucket as `s3://BUCKET/PREFIX` (`gs`, `az`) "
        "with options such as `?endpoint=…&region=…`. Services of a cluster share it. Default: "
        "`file:///DATA/objects`.",
    ),
    Setting("hot_url", "RUNSTREAM_HOT_URL", "memory://", "URL", "Hot state: leases, applied positions."),
    Setting(
        "keys_file",
        "RUNSTREAM_KEYS_FILE",
        "",
        "path",
        "File with the API keys, hashed; the services of a cluster share it. Default: `DATA/keys.json`.",
        _folder,
        option=True,
    ),
    Setting(
        "token_file",
        "RUNSTREAM_TOKEN_FILE",
        "",
        "path",
        "File with a token that opens the server, made when it is missing. Default of `runstream up`: "
        "`DATA/token`; services of a cluster have none by default.",
        _folder,
    ),
    Setting(
        "token",
        "RUNSTREAM_TOKEN",
        "",
        "",
        "The token itself, in place of the file: at least 32 characters.",
        _token,
        secret=True,
    ),
    Setting(
        "start_s",
        "RUNSTREAM_START_S",
        "60",
        "s",
        "At the start: how long to wait for tables that do not answer yet, or are not in "
        "the form of this version. (For Kafka: `startup_timeout_ms` in its address.)",
        _seconds,
    ),
    Setting(
        "drain_s",
        "RUNSTREAM_DRAIN_S",
        "20",
        "s",
        "At the end: how long to bring what is in the event log into the tables. "
        "What is left is applied at the next start.",
        _seconds,
    ),
    Setting(
        "purge_after_days",
        "RUNSTREAM_PURGE_AFTER_DAYS",
        "7",
        "days",
        "How long after a run was deleted its rows and files are removed for good; `never`: they stay, and "
        "chunks of files that nothing refers to as well. The query services of a cluster do it.",
        _days,
        option=True,
    ),
    Setting(
        "idle_exit_s",
        "RUNSTREAM_IDLE_EXIT_S",
        "1800",
        "s",
        "A server that was started on demand ends when nobody wrote or read for so long; 0: never.",
        _seconds,
    ),
    Setting(
        "log_level",
        "RUNSTREAM_LOG_LEVEL",
        "warning",
        "",
        "What is written to stderr: `debug`, `info`, `warning` or `error`.",
        _one_of("debug", "info", "warning", "error"),
    ),
    Setting(
        "log_format",
        "RUNSTREAM_LOG_FORMAT",
        "text",
        "",
        "`text` for people, `json` (an object a line) for machines.",
        _one_of("text", "json"),
    ),
)


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """Settings of one server process; the table says what each is."""

    role: Role
    data: Path
    host: str
    grpc_port: int | None
    http_port: int
    public_url: str | None
    hosts: tuple[str, ...]
    log_url: str
    tables_url: str
    objects_url: str
    hot_url: str
    keys_file: Path
    token_file: Path | None
    token: str | None
    start_s: float
    drain_s: float
    purge_after_days: float
    """Infinite for never."""
    idle_exit_s: float
    log_level: str
    log_format: str
    autostarted: bool = False
    """Started by a sender, not by a person."""

    @property
    def loopback(self) -> bool:
        """True when only this machine can reach it."""
        return is_loopback(self.host)


def is_loopback(host: str) -> bool:
    """True for addresses that only this machine reaches."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def read_config(
    options: Mapping[str, str | None],
    environment: Mapping[str, str],
    *,
    role: Role = UP,
    autostarted: bool = False,
) -> ServerConfig:
    """Settings from options, environment and the table. Raises ConfigError, naming the setting."""
    values: dict[str, object] = {}
    for setting in SETTINGS:
        source = f"--{setting.name.replace('_', '-')}"
        text = options.get(setting.name)
        if not text:
            source, text = setting.environment, environment.get(setting.environment) or setting.default
        try:
            values[setting.name] = setting.parse(text) if text else None
        except ValueError as error:
            shown = "…" if setting.secret else text
            raise ConfigError(f"{source}={shown}: {error}") from None
    data = values["data"] = values["data"] or default_data_folder()
    assert isinstance(data, Path)
    values["hosts"] = values["hosts"] or ()
    values["keys_file"] = values["keys_file"] or data / "keys.json"
    if role.alone:
        values["token_file"] = values["token_file"] or data / "token"
    values["grpc_port"] = _port_of(values["grpc_port"], role.grpc_port)
    values["http_port"] = _port_of(values["http_port"], role.http_port)
    values["log_url"] = values["log_url"] or f"sqlite://{data}/log.sqlite"
    values["tables_url"] = values["tables_url"] or f"chdb://{data}/tables"
    if not role.alone:
        _check_shared(role, values)
    values["objects_url"] = values["objects_url"] or f"file://{quote(str(data))}/objects"
    return ServerConfig(role=role, **values, autostarted=autostarted)  # type: ignore[arg-type]  # the table has every field


def _port_of(given: object, usual: int | None) -> object:
    return None if usual is None else usual if given is None else given


def _check_shared(role: Role, values: Mapping[str, object]) -> None:
    """Refuses engines that only one process can have, and services are several."""
    if values["objects_url"] is None:
        raise ConfigError(
            f"RUNSTREAM_OBJECTS_URL is not set, and `runstream {role.name}` is one of several processes that "
            "keep files in one place. Set it to s3://<bucket>, or to a folder that all of them have: file:///<path>"
        )
    for name, shared, other in (
        ("log_url", log.shared(str(values["log_url"])), "kafka://<host>:<port>/<prefix>"),
        ("tables_url", tables.shared(str(values["tables_url"])), "clickhouse://<host>:<port>/<database>"),
        ("hot_url", hot.shared(str(values["hot_url"])), "redis://<host>:<port>/0"),
    ):
        if not shared:
            variable = next(setting.environment for setting in SETTINGS if setting.name == name)
            raise ConfigError(
                f"{variable}={_PASSWORD.sub('//…@', str(values[name]))}: only one process at a time has this "
                f"engine, and `runstream {role.name}` is one of several. Set {variable} to one that "
                f"they share, as {other}; or start everything in one process: runstream up"
            )
