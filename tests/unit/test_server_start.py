"""What a start claims: the data folder, the ports; and how it logs."""

import io
import json
import logging
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from runstream import home
from runstream_server import listen, telemetry
from runstream_server.config import read_config
from runstream_server.data_folder import DataFolder
from runstream_server.errors import AddressTaken, ConfigError, DataFolderInUse
from runstream_server.identity import credentials
from runstream_server.roles import INGEST, QUERY, WRITER
from runstream_store.credentials import KeyFile


def test_a_second_server_is_told_who_has_the_data(tmp_path: Path) -> None:
    first = DataFolder(tmp_path / "data")
    with pytest.raises(DataFolderInUse, match=rf"pid {os.getpid()}, still starting"):
        DataFolder(tmp_path / "data")
    first.describe({"http": "http://h:1", "grpc": "h:2"})
    with pytest.raises(DataFolderInUse, match=rf"pid {os.getpid()} at http://h:1 \(gRPC h:2\)"):
        DataFolder(tmp_path / "data")
    first.release()
    DataFolder(tmp_path / "data").release()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="Choose another with --data DIR"):
        DataFolder(tmp_path / "file")


def test_who_would_be_let_in(tmp_path: Path) -> None:
    engines = {
        "RUNSTREAM_LOG_URL": "kafka://h:1/p",
        "RUNSTREAM_TABLES_URL": "clickhouse://h:1/d",
        "RUNSTREAM_HOT_URL": "redis://h:1/0",
        "RUNSTREAM_OBJECTS_URL": "s3://bucket",
        "RUNSTREAM_DATA": str(tmp_path),
    }
    with pytest.raises(ConfigError, match=r"nobody could sign in.*RUNSTREAM_KEYS_FILE"):
        credentials(read_config({}, engines, role=INGEST))
    assert not credentials(read_config({}, engines, role=WRITER))[0].has_keys()  # nobody calls it
    with pytest.raises(ConfigError, match="lets other machines in"):
        credentials(read_config({"host": "0.0.0.0"}, engines))
    # The token in a file is made once, for all who share it.
    shared = {**engines, "RUNSTREAM_TOKEN_FILE": str(tmp_path / "shared")}
    (first, token), (second, again) = (credentials(read_config({}, shared, role=r)) for r in (INGEST, QUERY))
    assert token == again
    assert token is not None
    assert first.who(token) == second.who(token) is not None
    given = credentials(
        read_config({"host": "0.0.0.0"}, {**engines, "RUNSTREAM_TOKEN": "x" * 32}, role=QUERY)
    )
    assert given[0].who("x" * 32) is not None
    key = KeyFile(tmp_path / "keys.json").add("somebody")
    assert credentials(read_config({"host": "0.0.0.0"}, engines, role=INGEST))[0].who(key) is not None


def test_a_taken_port_is_told_with_its_option() -> None:
    with listen.bind("127.0.0.1", 0, "--x") as taken:
        port = listen.port_of(taken)
        with pytest.raises(AddressTaken, match=rf"port {port} on 127.0.0.1 is taken.*--http-port 0"):
            listen.reserve("127.0.0.1", 0, port)
        with pytest.raises(AddressTaken, match=rf"port {port} on 127.0.0.1 is taken.*--grpc-port 0"):
            listen.reserve("127.0.0.1", port, 0)


def test_addresses_that_are_not_ours() -> None:
    with pytest.raises(AddressTaken, match="not an address of this machine"):
        listen.bind("192.0.2.1", 0, "--x")
    with pytest.raises(ConfigError, match="both 7300"):
        listen.reserve("127.0.0.1", 7300, 7300)


def test_kept_ports_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNSTREAM_HOME", str(tmp_path))
    free = []
    for _ in range(2):
        with listen.bind("127.0.0.1", 0, "--x") as probe:
            free.append(listen.port_of(probe))
    home.write_ports(*free)
    grpc_port, http = listen.reserve_kept("127.0.0.1")
    with http:
        assert [grpc_port, listen.port_of(http)] == free
        # Taken meanwhile: others, and those are kept from now on.
        other_grpc, other_http = listen.reserve_kept("127.0.0.1")
        with other_http:
            assert listen.port_of(other_http) != free[1]
            assert home.read_ports() == (other_grpc, listen.port_of(other_http))


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
def test_ipv6_is_written_as_addresses_want_it() -> None:
    assert listen.authority("::1", 5) == "[::1]:5"
    assert listen.authority("[::1]", 5) == "[::1]:5"
    assert listen.authority("h", 5) == "h:5"


@pytest.mark.parametrize("format", ["json", "text"])
def test_log_lines_carry_their_fields(
    format: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level

    def restore() -> None:
        root.handlers[:] = before
        root.setLevel(level)

    request.addfinalizer(restore)
    out = io.StringIO()
    monkeypatch.setattr(sys, "stderr", out)
    telemetry.configure_logging("info", format)
    logging.captureWarnings(False)
    logging.getLogger("a.b").info("what %s", "happened", extra={"topic": "points", "n": 3})
    logging.getLogger("a.b").debug("not this")
    (line,) = out.getvalue().splitlines()
    if format == "json":
        found = json.loads(line)
        assert found.pop("time")
        assert found == {
            "level": "info",
            "logger": "a.b",
            "message": "what happened",
            "topic": "points",
            "n": 3,
        }
    else:
        assert line.endswith(" info a.b: what happened topic=points n=3")


def test_a_writer_loads_neither_grpc_nor_the_pages() -> None:
    """It is to be back soon after it was killed."""
    code = """
import sys
import runstream_server.parts.writer, runstream_server.process
print(*sorted(sys.modules.keys() & {"grpc", "runstream_query.http", "runstream_ingest.service", "numpy"}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "numpy\n"
