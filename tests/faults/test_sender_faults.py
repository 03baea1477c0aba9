"""Real sender processes under real scripts: killed, stopped, cut off, and the same arrives as was logged."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from runstream import home
from runstream.sender.ask import NoSenderError, ask
from runstream.sender.start import ensure_sender
from runstream.v1 import run_pb2
from tests import spools
from tests.publish import IngestServer, Log
from tests.sending import assert_holds, expected
from tests.spoolmaker import SpoolMaker

pytestmark = pytest.mark.faults
PATIENCE_S = 90.0


class Place:
    """A user with a spool, a sender on demand, and a server in the test."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.spool = root / "spool"
        self.spool.mkdir(mode=0o700)
        self.server = IngestServer()
        self.scripts: list[subprocess.Popen[str]] = []

    @property
    def log(self) -> Log:
        return self.server.log

    def script(self, code: str) -> subprocess.Popen[str]:
        """Run a script that logs; `say(text)` prints a line."""
        preamble = (
            "import os, signal, sys, threading, time\n"
            "from runstream import Experiment, Workspace\n"
            "def say(text): print(text, flush=True)\n"
            "run = Experiment(Workspace(workspace_name='ws'), 'exp').start_logging()\n"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", preamble + code],
            # what the sender observes would be a writer of its own, and never drained while it lives
            env={**os.environ, "RUNSTREAM_SERVER": self.server.address, "RUNSTREAM_SENDER_OBSERVE": "0"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.scripts.append(process)
        return process

    def info(self) -> dict[str, Any] | None:
        try:
            return ask(str(self.spool), {"op": "info"}, 30)
        except NoSenderError:
            return None

    def sender(self) -> int:
        """Process id of the sender, once there is one."""
        return int(self.until(self.info, "a sender")["pid"])

    def until(self, condition: Callable[[], Any], what: str) -> Any:
        deadline = time.monotonic() + PATIENCE_S
        while not (found := condition()):
            assert time.monotonic() < deadline, f"waited {PATIENCE_S:.0f} s for {what}\n{self.output()}"
            time.sleep(0.02)
        return found

    def drained(self) -> None:
        self.until(lambda: not list(self.spool.glob("*/*/writer.json")), "everything delivered")

    def output(self) -> str:
        return "\n".join(path.read_text() for path in (self.root / "home").glob("sender-*.log"))

    def close(self) -> None:
        for script in self.scripts:
            script.kill()
            script.communicate()
        info = self.info()
        if info is not None:
            os.kill(info["pid"], signal.SIGTERM)
            self.until(lambda: self.info() is None, "the sender's end")
        self.server.service.hold.set()
        self.server.stop()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    for name in [name for name in os.environ if name.startswith(("RUNSTREAM_", "SLURM_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("RUNSTREAM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("RUNSTREAM_SPOOL", str(tmp_path / "spool"))
    monkeypatch.setenv("RUNSTREAM_AUTOSTART", "0")
    monkeypatch.setenv("RUNSTREAM_SENDER_ANSWER_TIMEOUT_S", "1")
    made = Place(tmp_path)
    yield made
    made.close()


MIXED = """
for i in range({count}):
    run.log("loss", float(i), step=i)
    if i % 50 == 0:
        run.log("text", f"at {{i}}")
        run.log_list("list", list(range(i % 7)))
        run.log_row("row", a=i, b="x")
    if i % 500 == 0:
        say(i)
        time.sleep(0.02)
say("done")
sys.stdin.read()
"""


def check_mixed(log: Log, count: int) -> None:
    assert log.values("loss") == [float(i) for i in range(count)]
    assert log.values("text") == [f"at {i}" for i in range(0, count, 50)]
    assert log.values("row", column="b") == ["x"] * len(range(0, count, 50))
    numbers = [value for value in log.values("list") if value != "DECLARATION"]
    assert numbers == [j for i in range(0, count, 50) for j in range(i % 7)]


def test_a_killed_sender_is_started_again_and_nothing_is_lost_or_doubled(place: Place) -> None:
    script = place.script(MIXED.format(count=20_000))
    assert script.stdout is not None
    for line in script.stdout:
        if line == "done\n":
            break
        if int(line) in (2000, 2500, 9000, 16_000):
            os.kill(place.sender(), signal.SIGKILL)
    os.kill(place.sender(), signal.SIGKILL)
    script.communicate()
    place.drained()
    check_mixed(place.log, 20_000)
    (drained,) = place.log.of_kind("writer_drained")
    assert drained.writer_drained.logged == sum(v.kind < 7 for v in place.log.elements.values())
    assert drained.writer_drained.lost == 0


def test_lost_acknowledgements_are_asked_for_again(place: Place) -> None:
    lost: set[int] = set()

    def answer(number: int) -> bool:
        if number % 3 != 1 or number in lost:  # a busy machine may send it all with one request
            return True
        lost.add(number)
        return False

    place.server.service.answer = answer
    script = place.script(MIXED.format(count=5_000))
    script.communicate()
    place.drained()
    check_mixed(place.log, 5_000)
    assert lost
    assert place.server.service.streams > 1  # it asked on another


def test_a_server_that_goes_and_comes_back(place: Place) -> None:
    script = place.script(MIXED.format(count=20_000))
    assert script.stdout is not None
    for line in script.stdout:
        if line == "done\n":
            break
        if int(line) % 4000 == 0:
            place.server.stop()
        elif int(line) % 4000 == 2000:
            place.server.start()
    place.server.stop()
    place.server.start()
    script.communicate()
    place.drained()
    check_mixed(place.log, 20_000)


def test_a_server_that_hangs_is_dialled_anew(place: Place) -> None:
    script = place.script("run.log('a', 1.0)\nsay('x')\nsys.stdin.read()\n")
    assert script.stdout is not None
    script.stdout.readline()
    place.until(lambda: place.log.elements, "the first point")
    place.server.service.hold.clear()
    script2 = place.script("run.log('a', 2.0)\nsay('x')\nsys.stdin.read()\n")
    assert script2.stdout is not None
    script2.stdout.readline()
    streams = place.server.service.streams
    place.until(lambda: place.server.service.streams > streams, "another stream")
    place.server.service.hold.set()
    place.until(lambda: len(place.log.elements) == 2, "the second point")


def test_a_stopped_writer_is_not_dead_and_loses_nothing(place: Place) -> None:
    script = place.script(
        "def log():\n"
        "    for i in range(3000): run.log('a', float(i))\n"
        "threads = [threading.Thread(target=log) for _ in range(4)]\n"
        "say('x')\n"
        "for t in threads: t.start()\n"
        "for t in threads: t.join()\n"
        "say('done')\n"
        "sys.stdin.read()\n"
    )
    assert script.stdout is not None
    script.stdout.readline()
    for _ in range(5):
        os.kill(script.pid, signal.SIGSTOP)
        time.sleep(0.3)  # longer than the sender waits before it looks whether the writer lives
        os.kill(script.pid, signal.SIGCONT)
        time.sleep(0.01)
    os.kill(script.pid, signal.SIGSTOP)
    time.sleep(1)
    assert not place.log.of_kind("writer_ended")
    os.kill(script.pid, signal.SIGCONT)
    assert script.stdout.readline() == "done\n"
    script.kill()
    script.communicate()
    place.drained()
    assert sorted(place.log.values("a")) == sorted([float(i) for i in range(3000)] * 4)
    (ended,) = place.log.of_kind("writer_ended")
    assert ended.writer_ended.outcome == run_pb2.WRITER_OUTCOME_KILLED


def test_the_server_is_down_from_before_the_first_point_until_after_the_end(place: Place) -> None:
    place.server.stop()
    script = place.script("for i in range(1000): run.log('a', float(i))\nrun.complete()\n")
    script.communicate()
    assert script.returncode == 0
    assert place.info() is not None
    place.server.start()
    place.drained()
    assert place.log.values("a") == [float(i) for i in range(1000)]
    (ended,) = place.log.of_kind("run_ended")
    assert ended.run_ended.status == run_pb2.RUN_STATUS_COMPLETED


def test_the_same_arrives_as_the_plain_reader_finds(place: Place) -> None:
    """The server is away until the script is over; then the spool is read by other code, too."""
    place.server.stop()
    script = place.script(MIXED.format(count=3_000))
    assert script.stdout is not None
    while script.stdout.readline() != "done\n":
        pass
    script.kill()
    script.communicate()
    copy = place.root / "copy"
    shutil.copytree(place.spool, copy)
    place.server.start()
    place.drained()
    assert_holds(place.log, expected(*spools.spools(copy)))


# ------------------------------------------------------------------------------- the processes


def status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def test_one_sender_under_a_small_supervisor(place: Place) -> None:
    keep = os.open(place.root, os.O_RDONLY)  # what is inheritable is not to be inherited
    os.set_inheritable(keep, True)
    try:
        for _ in range(5):
            assert ensure_sender(place.spool)
        pid = place.sender()
    finally:
        os.close(keep)
    for _ in range(5):
        assert ensure_sender(place.spool)
    time.sleep(0.3)
    assert place.sender() == pid
    supervisor = int(status(pid)["PPid"])
    assert int(status(supervisor)["PPid"]) != os.getpid()
    assert os.getsid(pid) == os.getsid(supervisor) != os.getsid(0)
    assert os.readlink(f"/proc/{pid}/cwd") == os.readlink(f"/proc/{supervisor}/cwd") == "/"
    for process in (pid, supervisor):
        open_files = {os.readlink(f"/proc/{process}/fd/{fd}") for fd in os.listdir(f"/proc/{process}/fd")}
        assert str(place.root) not in open_files
        assert int(status(process)["Umask"], 8) == 0o077
    used = sum(int(status(process)["RssAnon"].split()[0]) for process in (pid, supervisor))
    assert used < 70_000
    # It is nobody's child: a script that waits for its own does not see it.
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    assert str(supervisor) not in children


def test_a_sender_without_its_supervisor_is_found_and_a_new_one_started_after_it(place: Place) -> None:
    ensure_sender(place.spool)
    pid = place.sender()
    os.kill(int(status(pid)["PPid"]), signal.SIGKILL)
    ensure_sender(place.spool)
    time.sleep(0.3)
    assert place.sender() == pid
    os.kill(pid, signal.SIGKILL)
    place.until(lambda: place.info() is None, "its end")
    ensure_sender(place.spool)
    assert place.sender() != pid


def test_a_sender_whose_home_was_removed_ends_and_another_delivers(place: Place) -> None:
    script = place.script("run.log('a', 1); say('logged'); sys.stdin.readline(); run.log('a', 2)\n")
    assert script.stdout is not None
    assert script.stdout.readline() == "logged\n"
    pid = place.sender()
    home.sender_lock(place.spool).unlink()
    place.until(lambda: not Path(f"/proc/{pid}").exists(), "its end")
    script.communicate("\n", timeout=PATIENCE_S)  # which needs a sender for its last words
    place.drained()
    assert place.log.values("a") == [1, 2]
    assert place.sender() != pid


def test_it_makes_room_for_another_and_ends_well(place: Place) -> None:
    ensure_sender(place.spool)
    pid = place.sender()
    supervisor = int(status(pid)["PPid"])
    assert ask(str(place.spool), {"op": "handover", "version": "99"}, 30)["ok"]
    place.until(lambda: not Path(f"/proc/{supervisor}").exists(), "the end of sender and supervisor")
    ensure_sender(place.spool)
    assert place.sender() != pid


def test_a_newer_client_gets_a_newer_sender(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    ensure_sender(place.spool)
    pid = place.sender()
    monkeypatch.setattr("runstream.sender.start.__version__", "999.1")
    ensure_sender(place.spool)
    other = place.until(
        lambda: (info := place.info()) and info["pid"] != pid and info["pid"], "another sender"
    )
    ensure_sender(place.spool)  # that one is no newer, and is not asked again
    time.sleep(0.3)
    assert place.sender() == other


def test_an_older_client_leaves_the_sender_alone(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    ensure_sender(place.spool)
    pid = place.sender()
    monkeypatch.setattr("runstream.sender.start.__version__", "0.0.9")
    ensure_sender(place.spool)
    time.sleep(0.3)
    assert place.sender() == pid


def test_a_full_disk_becomes_free_by_delivery(place: Place) -> None:
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=0700", "none", str(place.spool)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False).returncode != 0:
        pytest.skip("a small file system can't be mounted here")
    try:
        made = SpoolMaker(place.spool, server=place.server.address)
        made.live()
        made.run()
        made.series()
        for seq in range(14336):  # the first three segments are full
            made.scalar(seq, float(seq))
        filler = place.spool / "filler"
        file = os.open(filler, os.O_WRONLY | os.O_CREAT)
        with pytest.raises(OSError, match="No space"):
            os.posix_fallocate(file, 0, 2 << 20)
        while True:
            try:
                os.write(file, bytes(4096))
            except OSError:
                break
        os.close(file)
        ensure_sender(place.spool)
        place.until(lambda: len(place.log.elements) == 14336, "the points")
        place.until(lambda: not list(made.path.glob("*.slots")), "the segments' space")
        made.die()
        place.drained()
        (drained,) = place.log.of_kind("writer_drained")
        assert drained.writer_drained.logged == 14336
    finally:
        place.close()
        subprocess.run(["umount", "-l", str(place.spool)], check=True)


def test_it_ends_when_nobody_needs_it(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNSTREAM_SENDER_IDLE_EXIT_S", "0.5")
    made = SpoolMaker(place.spool, server=place.server.address)
    made.live()
    try:
        made.run()
        made.series()
        made.scalar(0, 1.0)
        ensure_sender(place.spool)
        pid = place.sender()
        place.until(lambda: place.log.elements, "the point")
        time.sleep(1.5)
        assert place.sender() == pid  # its writer lives
    finally:
        made.die()
    place.until(lambda: place.info() is None, "the sender's end")
    assert not made.path.exists()
    assert not Path(home.sender_socket(place.spool)).exists()
