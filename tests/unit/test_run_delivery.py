"""What a script waits for, and what it is told: with a sender that answers as the test wants."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from runstream import Experiment, Run, Workspace, home
from runstream.core import delivery, exit, notices
from runstream.errors import DeadlineError, RunstreamError, ServiceUnavailableError
from runstream.spool import process


class Sender:
    """Answers flushes, and notes how long they would have waited."""

    def __init__(self) -> None:
        self.answer: dict[str, Any] = {"ok": True, "positions": [], "http": None}
        self.takes_s = 0.01
        self.clock = 1000.0
        self.asked: list[float] = []

    def ask(self, root: str, request: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        assert request["op"] == "flush"
        self.asked.append(request["timeout_ms"] / 1000)
        self.clock += self.takes_s
        return self.answer

    def monotonic(self) -> float:
        return self.clock

    def sleep(self, seconds: float) -> None:
        self.clock += seconds


@pytest.fixture
def sender(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sender:
    made = Sender()
    for name in ("RUNSTREAM_SERVER", "RUNSTREAM_DRAIN", "SLURM_JOB_ID", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RUNSTREAM_SPOOL", str(tmp_path / "spool"))
    monkeypatch.setenv("RUNSTREAM_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(process, "_writers", {})
    monkeypatch.setattr(process, "_all", [])
    monkeypatch.setattr(delivery, "nudge_sender", lambda **_: None)
    monkeypatch.setattr("runstream.sender.ask.ask", made.ask)
    monkeypatch.setattr(delivery, "_no_wait_before", float("-inf"))
    monkeypatch.setattr(delivery, "time", made)
    monkeypatch.setattr(exit, "install", lambda: None)
    monkeypatch.setattr(notices, "_said", set())
    return made


def start() -> Run:
    return Experiment(Workspace(workspace_name="test"), "exp").start_logging(outputs=False)


UNREACHABLE = {"ok": False, "error": "unreachable", "detail": "refused", "undelivered": 7}
LATE = {"ok": False, "error": "timeout", "detail": "", "undelivered": 7}


def test_flush(sender: Sender, capsys: pytest.CaptureFixture[str]) -> None:
    run = start()
    run.flush()
    assert sender.asked == [pytest.approx(300, abs=1)]
    assert capsys.readouterr().err == ""
    sender.answer = LATE
    with pytest.raises(DeadlineError):
        run.flush(timeout_seconds=1)
    with pytest.raises(RunstreamError):
        run.flush(1)
    sender.answer = UNREACHABLE
    run.flush()
    run.flush()
    (line,) = capsys.readouterr().err.splitlines()
    assert "7 records kept in" in line
    assert "runstream up" in line


def test_a_sender_that_does_not_come_is_not_waited_for_without_end(sender: Sender) -> None:
    run = start()
    sender.answer = {"ok": False, "error": "unknown_writer", "undelivered": 0}
    begin = sender.clock
    run.flush()
    assert sender.clock - begin < 20


def test_a_sweep_does_not_wait_for_each_run(sender: Sender) -> None:
    for _ in range(500):
        with start() as run:
            run.log("x", 1)
        sender.clock += 0.001
    assert len(sender.asked) == 1
    sender.clock += 1
    start().complete()
    assert len(sender.asked) == 2
    assert sender.asked[-1] == pytest.approx(2, abs=0.1)


def test_a_slow_delivery_is_waited_for_more_seldom(sender: Sender) -> None:
    sender.takes_s = 2
    sender.answer = LATE
    begin = sender.clock
    for _ in range(1000):
        start().complete()
        sender.clock += 0.1
    assert 2 * len(sender.asked) < 0.15 * (sender.clock - begin)


def test_one_line_at_the_end_of_a_script(sender: Sender, capsys: pytest.CaptureFixture[str]) -> None:
    sender.answer = UNREACHABLE
    for _ in range(5):
        start().complete()
        sender.clock += 10
    assert capsys.readouterr().err == ""
    delivery.drain_at_exit()
    delivery.drain_at_exit()
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_nobody_is_told_to_start_what_is_starting(
    sender: Sender, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    start()
    for error, told in (
        ("no_sender", "the sender is only starting"),
        ("unknown_writer", "the sender is only starting"),
        ("starting", "a server is being started: "),
        ("unreachable", "start a server with `runstream up`"),
    ):
        monkeypatch.setattr(notices, "_said", set())
        delivery.tell_undelivered({"ok": False, "error": error, "undelivered": 7})
        assert told in capsys.readouterr().err
    home.write_ports(7310, 7311)
    monkeypatch.setattr(notices, "_said", set())
    delivery.tell_undelivered({"ok": False, "error": "starting", "undelivered": 7})
    assert "a server is being started at http://127.0.0.1:7311: 7 records" in capsys.readouterr().err


def test_where_nothing_outlives_the_job(sender: Sender, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is waited for longer, and for a server that may only be restarting."""
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    monkeypatch.setenv("RUNSTREAM_SERVER", "example:7300")
    run = start()
    sender.answer = UNREACHABLE
    begin = sender.clock
    run.complete()
    assert 55 < sender.clock - begin < 65
    assert sender.asked[0] == pytest.approx(60, abs=1)


def test_without_a_server_that_is_known_it_ends_at_once(
    sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNSTREAM_DRAIN", "1")
    run = start()
    sender.answer = UNREACHABLE
    begin = sender.clock
    run.complete()
    assert sender.clock - begin < 1


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, False),
        ({"SLURM_JOB_ID": "3"}, True),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, True),
        ({"RUNSTREAM_DRAIN": "1"}, True),
        ({"SLURM_JOB_ID": "3", "RUNSTREAM_DRAIN": "0"}, False),
    ],
)
def test_drain_policy(
    sender: Sender, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], expected: bool
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert delivery.drains() is expected
    start()
    assert process.writers()[0].origin.drain is expected


def test_reads_never_give_old_for_new(sender: Sender) -> None:
    run = start()
    run.log("x", 1)
    sender.answer = UNREACHABLE
    with pytest.raises(ServiceUnavailableError):
        run.get_metrics()
    sender.answer = LATE
    with pytest.raises(DeadlineError):
        run.get_metrics()
    assert run.get_status() == "Running"
    run.complete()
    assert run.get_status() == "Completed"


def test_an_attached_run_without_a_server(sender: Sender) -> None:
    run = Run(Experiment(Workspace(workspace_name="test"), "exp"), "somebody's")
    for read in (run.get_metrics, run.get_status):
        with pytest.raises(ServiceUnavailableError):
            read()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", 8 << 30),
        ("1000000", 1_000_000),
        ("2G", 2 << 30),
        ("1.5M", 3 << 19),
        ("64KiB", 64 << 10),
        ("nonsense", 8 << 30),
        ("-1", 8 << 30),
    ],
)
def test_cap(sender: Sender, monkeypatch: pytest.MonkeyPatch, text: str, expected: int) -> None:
    monkeypatch.setenv("RUNSTREAM_SPOOL_CAP", text)
    assert Workspace().target.cap_bytes == expected


def test_the_key_is_in_a_file_that_only_this_user_reads(
    sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNSTREAM_API_KEY", "secret")
    monkeypatch.setenv("RUNSTREAM_SERVER", "localhost:9")
    start()
    folder = Path(process.writers()[0].folder.path)
    assert (folder / "credential").read_text() == "secret\n"
    assert (folder / "credential").stat().st_mode & 0o777 == 0o600
    header = (folder / "writer.json").read_text()
    assert "secret" not in header
    assert '"server":"127.0.0.1:9"' in header
