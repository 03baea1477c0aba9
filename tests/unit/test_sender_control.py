"""The sender's socket, its start, and `sync`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from runstream.home import Target
from runstream.sender.ask import NoSenderError, ask
from runstream.sender.connection import Connection
from runstream.sender.control import Control
from runstream.sender.settings import SETTINGS, SenderSettings
from runstream.sender.sync import SyncError, sync
from runstream.sender.tail import WriterTail
from tests import spools
from tests.publish import IngestServer
from tests.sending import Sending, assert_holds, expected
from tests.spoolmaker import SpoolMaker, block, doubles


@pytest.fixture
def sending(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sending]:
    made = Sending(tmp_path, monkeypatch)
    yield made
    made.close()


def asked(sending: Sending, request: dict[str, Any]) -> dict[str, Any]:
    """Ask the sender in this test."""
    future: Future[dict[str, Any]] = Future()
    sending.sender.ask(request, future)
    sending.until(future.done)
    return future.result()


def flush(sending: Sending, made: SpoolMaker, seq_end: int, timeout_ms: int) -> dict[str, Any]:
    request = {"op": "flush", "writer": made.writer.hex(), "seq_end": seq_end, "timeout_ms": timeout_ms}
    return asked(sending, request)


def living(sending: Sending, **more: Any) -> SpoolMaker:
    made = SpoolMaker(sending.spool, **{"server": sending.server.address, **more})
    made.live()
    made.run()
    made.series()
    return made


# ------------------------------------------------------------------------------------- flush


def test_flush_answers_with_the_positions_of_all_that_returned(sending: Sending) -> None:
    made = living(sending)
    try:
        for seq in range(100):
            made.scalar(seq, float(seq))
        answer = asked(
            sending, {"op": "flush", "writer": made.writer.hex(), "seq_end": 100, "timeout_ms": 30000}
        )
        assert answer["ok"]
        assert len(sending.log.elements) == 100
        assert {position["topic"] for position in answer["positions"]} == {"points", "runs"}
        assert all(position["epoch"] == sending.log.epoch.hex() for position in answer["positions"])
        assert answer["http"] == "http://127.0.0.1:1"
        # A call of another thread that has not returned is not waited for, nor is one claimed beyond the end.
        made.scalar(101, 1.0)
        answer = asked(
            sending, {"op": "flush", "writer": made.writer.hex(), "seq_end": 103, "timeout_ms": 30000}
        )
        assert answer["ok"]
        assert len(sending.log.elements) == 101
    finally:
        made.die()


def test_flush_after_goodbye_waits_for_what_is_said_of_the_end(sending: Sending) -> None:
    made = living(sending, drain=True)
    try:
        made.scalar(0, 1.0)
        made.exit(1)
        answer = asked(
            sending, {"op": "flush", "writer": made.writer.hex(), "seq_end": 2, "timeout_ms": 30000}
        )
        assert answer["ok"]
        assert sending.log.of_kind("writer_ended")
        assert sending.log.of_kind("writer_drained")
    finally:
        made.die()


def test_flush_says_at_once_that_nobody_is_there(sending: Sending) -> None:
    sending.server.stop()
    made = living(sending)
    try:
        made.scalar(0, 1.0)
        began = time.monotonic()
        answer = asked(
            sending, {"op": "flush", "writer": made.writer.hex(), "seq_end": 1, "timeout_ms": 50000}
        )
        assert (answer["ok"], answer["error"], answer["undelivered"]) == (False, "unreachable", 1)
        assert time.monotonic() - began < 25
        sending.server.start()  # the next one is not put off by the last attempt
        answer = asked(
            sending, {"op": "flush", "writer": made.writer.hex(), "seq_end": 1, "timeout_ms": 50000}
        )
        assert answer["ok"]
    finally:
        made.die()


def test_arrival_of_what_all_writers_have_logged(sending: Sending) -> None:
    first, second = living(sending), living(sending)
    elsewhere = living(sending, server="127.0.0.1:9")
    try:
        for made in first, second, elsewhere:
            made.scalar(0, 1.0)
        answer = asked(sending, {"op": "arrive", "server": sending.server.address, "timeout_ms": 30000})
        assert answer["ok"]  # what goes to another server is not waited for
        arrived = {element.writer for element in sending.log.elements}
        assert arrived == {first.writer.hex(), second.writer.hex()}
        sending.server.stop()
        second.scalar(1, 2.0)
        answer = asked(sending, {"op": "arrive", "server": sending.server.address, "timeout_ms": 300000})
        assert (answer["ok"], answer["error"]) == (False, "unreachable")
    finally:
        for made in first, second, elsewhere:
            made.die()


def test_what_can_t_be_delivered_costs_no_looks_and_no_dials(
    sending: Sending, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[WriterTail] = []
    dials: list[Connection] = []
    look, begin = WriterTail.look, Connection.__init__

    def looking(tail: WriterTail, thoroughly: bool) -> None:
        looks.append(tail)
        look(tail, thoroughly)

    def dialling(connection: Connection, *arguments: Any) -> None:
        dials.append(connection)
        begin(connection, *arguments)

    monkeypatch.setattr(WriterTail, "look", looking)
    monkeypatch.setattr(Connection, "__init__", dialling)
    sending.server.stop()
    writers = [living(sending) for _ in range(20)]
    for made in writers:
        made.scalar(0, 1.0)
        made.die()
    served = sending.sender._found
    sending.until(
        lambda: len(served) == 20 and all(tail.dead for tail, *_ in served.values()), "their deaths"
    )
    looks.clear()
    dials.clear()
    sending.steps(1.0)
    assert (looks, dials) == ([], [])
    sending.server.start()
    sending.drain()
    assert len(sending.log.elements) == 20


def test_flush_without_any_server(sending: Sending) -> None:
    made = living(sending, server=None)
    try:
        made.scalar(0, 1.0)
        answer = asked(
            sending, {"op": "flush", "writer": made.writer.hex(), "seq_end": 1, "timeout_ms": 50000}
        )
        assert (answer["ok"], answer["error"]) == (False, "unreachable")
        assert "no server" in answer["detail"]
    finally:
        made.die()


def test_flush_that_takes_too_long(sending: Sending) -> None:
    made = living(sending)
    try:
        sending.until(lambda: sending.log.of_kind("writer_started"))
        sending.server.service.hold.clear()
        made.scalar(0, 1.0)
        answer = flush(sending, made, 1, 200)
        assert (answer["ok"], answer["error"], answer["undelivered"]) == (False, "timeout", 1)
    finally:
        sending.server.service.hold.set()
        made.die()


def test_other_requests(sending: Sending) -> None:
    unknown = asked(sending, {"op": "flush", "writer": "00" * 16, "seq_end": 1, "timeout_ms": 1000})
    assert unknown["error"] == "unknown_writer"
    assert asked(sending, {"op": "flush"})["error"] == "malformed"
    assert asked(sending, {"op": "dance"})["error"] == "malformed"
    info = asked(sending, {"op": "info"})
    assert (info["ok"], info["pid"], info["server"]) == (True, os.getpid(), None)


def test_the_socket(sending: Sending) -> None:
    from runstream import home

    control = Control(home.sender_socket(sending.spool), sending.sender.ask)
    thread = threading.Thread(target=sending.sender.run)
    thread.start()
    try:
        assert ask(str(sending.spool), {"op": "info"}, 30)["ok"]
        assert os.stat(home.sender_socket(sending.spool)).st_mode & 0o077 == 0
        assert ask(str(sending.spool), {"op": "handover", "version": "9"}, 30)["ok"]
    finally:
        thread.join()
        control.close()
    with pytest.raises(NoSenderError):
        ask(str(sending.spool), {"op": "info"}, 1)


# ------------------------------------------------------------------------------- discovery file


def test_the_server_of_the_discovery_file_is_found_when_it_comes(sending: Sending) -> None:
    from runstream import home

    with IngestServer(sending.log, token="secret") as guarded:
        made = living(sending, server=None)
        try:
            made.scalar(0, 1.0)
            sending.steps(0.2)
            home.write_discovery(
                home.Discovery(
                    guarded.address, "http://127.0.0.1:1", os.getpid(), "secret", 0, "", "", "", False
                )
            )
            sending.until(lambda: sending.log.elements)
        finally:
            made.die()
        sending.drain()


def test_a_credential_beside_the_spool_is_shown(sending: Sending) -> None:
    with IngestServer(sending.log, token="key") as guarded:
        made = SpoolMaker(sending.spool, server=guarded.address, credential="credential")
        (made.path / "credential").write_text("key\n")
        made.run()
        made.series()
        made.scalar(0, 1.0)
        sending.drain()
        assert len(sending.log.elements) == 1


def test_a_wrong_credential_keeps_everything(sending: Sending) -> None:
    with IngestServer(token="key") as guarded:
        made = SpoolMaker(sending.spool, server=guarded.address)
        made.run()
        made.series()
        made.scalar(0, 1.0)
        sending.until(lambda: any(p.problem for p in sending.sender._publishers.values()))
        (publisher,) = sending.sender._publishers.values()
        assert publisher.problem is not None
        assert "UNAUTHENTICATED" in publisher.problem
        assert made.path.exists()
        guarded.service.token = None
        sending.drain()
        assert len(guarded.log.elements) == 1


# -------------------------------------------------------------------------------------- sync


def target(server: IngestServer) -> Target:
    return Target(server.address, "http://127.0.0.1:1", None, "explicit", None)


def filled(root: Path, **more: Any) -> SpoolMaker:
    made = SpoolMaker(root, **more)
    made.run()
    made.series()
    for seq in range(3000):
        if seq != 77:
            made.scalar(seq, float(seq), step=seq)
    made.call(3000, 3, block((0, 1, 50, doubles(*range(50)))))
    made.call(3001, 3, block((0, 5, 0, b"")))
    made.event(3002, 17, status="Completed", error_message="", error_code="", time_ns=1)
    return made


@pytest.mark.parametrize("engine", ["mmap", "append"])
def test_syncing_twice_is_syncing_once(sending: Sending, tmp_path: Path, engine: str) -> None:
    made = filled(tmp_path / "elsewhere", engine=engine, boot_id="another", server="nowhere:1")
    copy = tmp_path / "copy" / "host-boot" / made.path.name
    copy.mkdir(parents=True)
    for file in [*made.path.glob("0*"), *made.path.glob("names.records"), made.path / "writer.json"]:
        shutil.copy(file, copy)
    before = {file.name: file.read_bytes() for file in copy.iterdir()}
    wanted = expected(spools.read(made.path))
    for _ in range(2):
        result = sync(tmp_path / "copy", target(sending.server))
        assert result.complete
        assert (result.writers, result.logged, result.runs) == (1, 2999 + 50, {"run"})
        assert_holds(sending.log, wanted)
    assert {f.name: f.read_bytes() for f in copy.iterdir() if f.name != "sender.lock"} == before
    (ended,) = sending.log.of_kind("writer_ended")
    assert not ended.writer_ended.observed
    (drained,) = sending.log.of_kind("writer_drained")
    assert (drained.writer_drained.logged, drained.writer_drained.lost) == (3049, 0)
    copies = [event for _, event in sending.log.arrivals if event.WhichOneof("event") == "writer_ended"]
    assert len(copies) == 2
    assert copies[0] == copies[1]


def test_sync_removes_what_is_delivered_when_asked(sending: Sending, tmp_path: Path) -> None:
    made = filled(tmp_path / "elsewhere")
    assert sync(made.path, target(sending.server), delete=True).complete
    assert not made.path.exists()


def test_sync_of_a_living_writer_says_nothing_of_its_end(sending: Sending, tmp_path: Path) -> None:
    made = filled(tmp_path / "elsewhere")
    made.live()
    try:
        result = sync(tmp_path / "elsewhere", target(sending.server), delete=True)
    finally:
        made.die()
    assert (result.writers, result.living, result.complete) == (0, 1, True)
    assert made.path.exists()
    assert len(sending.log.elements) == 3050
    assert not sending.log.of_kind("writer_ended")


def test_sync_without_a_server_says_so(sending: Sending, tmp_path: Path) -> None:
    made = filled(tmp_path / "elsewhere")
    sending.server.stop()
    result = sync(made.path, target(sending.server), timeout_s=0.5)
    assert not result.complete
    assert result.undelivered == 3003
    assert "nothing listens" in result.problems[0]


def test_sync_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(SyncError):
        sync(tmp_path)


def test_sync_leaves_a_folder_to_the_sender_that_serves_it(sending: Sending, tmp_path: Path) -> None:
    from tests.spoolmaker import hold_lock, release_lock

    made = filled(tmp_path / "elsewhere")
    other = hold_lock(made.path / "sender.lock")
    try:
        result = sync(made.path, target(sending.server))
    finally:
        release_lock(other)
    assert not result.complete
    assert "running sender" in result.problems[0]


# ---------------------------------------------------------------------------------- the process


def test_starting_imports_nothing_heavy() -> None:
    code = (
        "import sys; import runstream.sender.start, runstream.sender.ask\n"
        "heavy = {'numpy', 'grpc', 'google.protobuf', 'subprocess', 'asyncio'} & sys.modules.keys()\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def test_settings_come_from_the_environment() -> None:
    assert SenderSettings.read({}) == SenderSettings()
    read = SenderSettings.read({"RUNSTREAM_SENDER_POLL_IDLE_MS": "7.5", "RUNSTREAM_AUTOSTART": "0"})
    assert (read.poll_idle_ms, read.autostart) == (7.5, False)
    assert {setting.name for setting in SETTINGS} == set(SenderSettings.__dataclass_fields__)
    for bad in ({"RUNSTREAM_SENDER_COMPRESS": "maybe"}, {"RUNSTREAM_SENDER_WINDOW_KIB": "0"}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            SenderSettings.read(bad)


def test_a_server_is_started_only_where_it_is_of_use(
    sending: Sending, monkeypatch: pytest.MonkeyPatch
) -> None:
    from runstream.sender import autostart
    from runstream.sender.service import Sender

    started: list[int] = []
    monkeypatch.setattr(autostart, "_start", lambda: started.append(1))
    for name in ("SLURM_JOB_ID", "KUBERNETES_SERVICE_HOST", "CI"):
        monkeypatch.delenv(name, raising=False)
    cases: tuple[tuple[dict[str, Any], dict[str, str], bool, int], ...] = (
        ({"server": "127.0.0.1:1"}, {}, True, 0),  # one is configured, but down
        ({"server": None, "world_size": 4}, {}, True, 0),
        ({"server": None}, {"CI": "true"}, True, 0),
        ({"server": None}, {}, False, 0),
        ({"server": None, "world_size": 1}, {}, True, 1),
    )
    for header, environment, enabled, expected_starts in cases:
        with monkeypatch.context() as changed:
            for name, value in environment.items():
                changed.setenv(name, value)
            sending.sender._close()
            sending.sender = Sender(sending.spool, SenderSettings(autostart=enabled, observe=False))
            made = living(sending, **header)
            try:
                made.scalar(0, 1.0)
                sending.until(lambda: any(p.attempts for p in sending.sender._publishers.values()))
                sending.steps(0.1)
            finally:
                made.die()
            assert len(started) == expected_starts, header
            shutil.rmtree(made.path)


def test_leftovers_are_removed(sending: Sending, monkeypatch: pytest.MonkeyPatch) -> None:
    made = SpoolMaker(sending.spool)
    boot = made.path.parent
    shutil.rmtree(made.path)
    removed = boot / f".removed-{made.writer.hex()}"
    removed.mkdir()
    (removed / "lock").touch()
    unborn, young = boot / ("a" * 32), boot / ("b" * 32)
    for folder in (unborn, young):
        folder.mkdir()
        (folder / "lock").touch()
    old = time.time() - 100
    os.utime(unborn, (old, old))
    sending.until(lambda: not removed.exists() and not unborn.exists())
    assert young.exists()
