"""Output and logs of scripts, through their spools and a sender to a server that keeps everything."""

from __future__ import annotations

import mmap
import os
import random
import re
import signal
import struct
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from runstream.sender import log_folder, logs
from runstream.v1 import error_pb2, ingest_service_pb2
from tests import spools
from tests.sending import PATIENCE_S, Sending

PATH = "logs/user_log.txt"
SEED = 20261126


@pytest.fixture
def sending(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sending]:
    made = Sending(tmp_path, monkeypatch)
    (tmp_path / "work").mkdir()
    yield made
    made.close()


def script(sending: Sending, code: str, **more: str) -> str:
    """A script to its end, in a working directory of its own. What it printed."""
    environment = {"RUNSTREAM_SERVER": sending.server.address, **more}
    return spools.run(sending.root, "mmap", begin(sending) + code, environment=environment)


def reads(sending: Sending, path: str, wanted: bytes) -> bool:
    return sending.log.text("r", path) == wanted


def begin(sending: Sending) -> str:
    return f"os.chdir({str(sending.root / 'work')!r})\n"


def ended_when_everything_was_there(sending: Sending) -> None:
    """Deliver all; the run was said to be drained only after its logs had come."""
    sending.drain()
    assert sending.log.of_kind("writer_drained")


def test_what_is_printed_arrives_and_goes_on_to_its_stream(sending: Sending) -> None:
    printed = script(
        sending,
        """
import logging
logging.basicConfig(stream=sys.stdout, format="%(message)s")   # holds the stream from before
print("before")
run = experiment.start_logging(run_id="r")
print("one", 2, sep="-")
print("error", file=sys.stderr)
logging.warning("logged")
sys.stdout.writelines(["three\\n", "fo", "ur\\n"])
print("unfinished", end="")
run.complete()
print("after")
assert sys.stdout.write.__self__ is sys.stdout, "uncovered"
""",
    )
    ended_when_everything_was_there(sending)
    kept = sending.log.text("r", PATH).decode()
    assert kept == "one-2\nerror\nlogged\nthree\nfour\nunfinished"
    assert printed.replace("error\n", "") == "before\none-2\nlogged\nthree\nfour\nunfinishedafter\n"


def test_the_newest_block_owns_what_is_printed(sending: Sending) -> None:
    script(
        sending,
        """
outer = experiment.start_logging(run_id="outer")
print("o1")
with experiment.start_logging(run_id="inner"):
    print("i1")
    outer.log("x", 1)
    with outer:
        print("o2")
    print("i2")
print("nobody's")
children = []
run = experiment.start_logging(run_id="parent")
child = run.child_run("c")
print("p1")
with child:
    print("c1")
print("p2")
run.complete()
open("child", "w").write(child.id)
""",
    )
    sending.drain()
    child = (sending.root / "work" / "child").read_text()
    found = {run: sending.log.text(run, PATH) for run in ("outer", "inner", "parent", child)}
    assert found == {"outer": b"o1\no2\n", "inner": b"i1\ni2\n", "parent": b"p1\np2\n", child: b"c1\n"}


def test_threads_forks_and_signal_handlers_print(sending: Sending) -> None:
    script(
        sending,
        """
run = experiment.start_logging(run_id="r")
def handler(*_):
    try: sys.stdout.write("signal\\n")
    except RuntimeError: pass     # Python's own streams are not reentrant
signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
def work(name):
    for n in range(500):
        print(f"{name} {n}\\n", end="")
threads = [threading.Thread(target=work, args=(f"t{i}",)) for i in range(4)]
for thread in threads: thread.start()
for i in range(3):
    pid = os.fork()
    if not pid:
        signal.setitimer(signal.ITIMER_REAL, 0)
        work(f"f{i}")
        os._exit(0)
    os.waitpid(pid, 0)
for thread in threads: thread.join()
signal.setitimer(signal.ITIMER_REAL, 0)
run.complete()
""",
    )
    sending.drain()
    lines = sending.log.text("r", PATH).decode().splitlines()
    for name in ("t0", "t1", "t2", "t3", "f0", "f1", "f2"):
        numbers = [int(line.split()[1]) for line in lines if line.startswith(f"{name} ")]
        assert numbers == list(range(500)), name


def test_anything_can_be_printed(sending: Sending) -> None:
    script(
        sending,
        r"""
sys.stdout = open(os.devnull, "w", errors="surrogateescape", encoding="utf-8")
run = experiment.start_logging(run_id="r")
print(bytes(range(128, 256)).decode("utf-8", "surrogateescape"))
print("\x1b[31mred\x1b[0m \0 größe")
sys.stdout.write("x" * 1_000_000 + "\n")
try: print("\ud800")
except UnicodeEncodeError: pass
try: sys.stdout.write(b"bytes")
except TypeError: pass
print("last")
run.complete()
sys.stdout.close()
""",
    )
    sending.drain()
    kept = sending.log.text("r", PATH)
    wanted = bytes(range(128, 256)) + "\n\x1b[31mred\x1b[0m \0 größe\n".encode() + b"x" * 1_000_000 + b"\n"
    assert kept.startswith(wanted)
    assert kept.endswith(b"last\n")


@pytest.mark.parametrize("setting", [{"RUNSTREAM_CAPTURE_CONSOLE": "0"}, {"RUNSTREAM_MODE": "disabled"}])
def test_capture_can_be_switched_off(sending: Sending, setting: dict[str, str]) -> None:
    script(sending, "with experiment.start_logging(run_id='r'): print('line')\n", **setting)
    sending.until(lambda: not list(sending.spool.glob("*/*/writer.json")), "everything delivered")
    assert not sending.log.logs


@pytest.mark.faults
@pytest.mark.parametrize("seed", range(SEED, SEED + 4))
def test_every_line_that_was_printed_survives_kill_9(sending: Sending, seed: int) -> None:
    chance = random.Random(seed)
    page = sending.root / "page"
    page.write_bytes(bytes(8))
    code = f"""
import mmap, struct
page = mmap.mmap(os.open({str(page)!r}, os.O_RDWR), 8)
run = experiment.start_logging(run_id="r")
n = 0
while True:
    print(n, "x" * (n % 200))
    n += 1
    page[:8] = struct.pack("<q", n)
"""
    environment = {"RUNSTREAM_SERVER": sending.server.address}
    process = spools.start(sending.root, "mmap", begin(sending) + code, environment=environment)
    assert process.stdout is not None
    with open(page, "r+b") as file, mmap.mmap(file.fileno(), 8) as shared:

        def returned() -> int:
            return int(struct.unpack("<q", shared[:8])[0])

        stop_at = chance.randrange(1, 40_000)
        restart_at = chance.randrange(0, stop_at)
        restarted = False
        deadline = time.monotonic() + 120
        while returned() < stop_at:
            os.read(process.stdout.fileno(), 1 << 20)
            sending.sender.step(time.monotonic())
            if not restarted and returned() >= restart_at:
                sending.restart()  # the sender too dies at any moment
                restarted = True
            assert time.monotonic() < deadline
            assert process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.communicate()
        count = returned()
    sending.drain()
    lines = sending.log.text("r", PATH).decode().split("\n")
    wanted = [f"{n} {'x' * (n % 200)}" for n in range(count)]
    assert lines[:count] == wanted, f"seed {seed}"
    assert len(lines) <= count + 2, f"seed {seed}: one more may have been written"


def test_output_is_bounded_while_no_server_takes_it(sending: Sending) -> None:
    script(
        sending,
        """
run = experiment.start_logging(run_id="r")
for n in range(20_000):
    print(f"{n:06d} " + "y" * 1000)
    if n % 100 == 0:
        run.log("n", n)
spool = run._state.channel.writer.folder.path
used = sum(os.stat(os.path.join(spool, name)).st_size for name in os.listdir(spool) if "console" in name)
assert used < 13_000_000, used
""",
        RUNSTREAM_SPOOL_CAP="64M",
        RUNSTREAM_SERVER="127.0.0.1:9",
    )
    for header in sending.spool.glob("*/*/writer.json"):  # now there is a server
        header.write_text(header.read_text().replace("127.0.0.1:9", sending.server.address))
    sending.drain()
    kept = sending.log.text("r", PATH).decode()
    assert "[runstream: what follows is left out" in kept
    lines = [line for line in kept.splitlines() if not line.startswith("[runstream:")]
    numbers = [int(line.split()[0]) for line in lines]
    assert numbers == sorted(set(numbers))
    assert numbers[0] == 0
    left_out = sum(int(size.replace(",", "")) for size in re.findall(r"\[runstream: ([\d,]+) bytes", kept))
    assert sum(len(line) + 1 for line in lines) + left_out == 20_000 * 1008
    assert sending.log.values("n") == list(range(0, 20_000, 100))


def test_a_server_that_refuses_logs_gets_the_rest(sending: Sending) -> None:
    def refuse(record: ingest_service_pb2.PublishRecord) -> error_pb2.RecordError | None:
        if record.HasField("logs"):
            return error_pb2.RecordError(code=error_pb2.ERROR_CODE_UNSUPPORTED, reason="an old server")
        return None

    sending.server.service.refuse = refuse
    script(sending, "with experiment.start_logging(run_id='r') as run: print('x'); run.log('a', 1)\n")
    sending.drain()
    assert sending.log.values("a") == [1]
    assert not sending.log.text("r", PATH)


# ---------------------------------------------------------------------------------- folder of logs


def test_files_in_the_folder_of_logs_are_followed(sending: Sending) -> None:
    code = """
os.makedirs("logs/sub")
open("logs/old.txt", "w").write("from before\\n")
run = experiment.start_logging(run_id="r")
first = open("logs/a.txt", "w"); first.write("one\\n"); first.flush()
open("logs/old.txt", "a").write("added\\n")
open("logs/sub/b.bin", "wb").write(bytes(range(256)) * 2000)
open("logs/.hidden", "w").write("not this")
os.symlink("/etc/passwd", "logs/link")
input()
first.write("two\\n"); first.flush()
input()
run.complete()
open("logs/a.txt", "a").write("the run is over\\n")
with experiment.start_logging(run_id="next"):
    open("logs/a.txt", "a").write("of the next\\n")
"""
    environment = {"RUNSTREAM_SERVER": sending.server.address, "RUNSTREAM_CAPTURE_CONSOLE": "0"}
    process = spools.start(sending.root, "mmap", begin(sending) + code, environment=environment)
    assert process.stdin is not None
    try:
        sending.until(lambda: sending.log.text("r", "logs/a.txt") == b"one\n", "the first line")
        process.stdin.write("\n")
        process.stdin.flush()
        sending.until(
            lambda: sending.log.text("r", "logs/a.txt") == b"one\ntwo\n", "the second, while it runs"
        )
        sending.restart()
        process.stdin.write("\n")
        process.stdin.close()
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        process.stderr.close()
    sending.drain()
    assert sending.log.text("r", "logs/a.txt") == b"one\ntwo\n"
    assert sending.log.text("r", "logs/old.txt") == b"added\n"
    assert sending.log.text("r", "logs/sub/b.bin") == bytes(range(256)) * 2000
    assert sending.log.text("next", "logs/a.txt") == b"of the next\n"
    assert {path for run, path in sending.log.logs if run == "r"} == {
        "logs/a.txt",
        "logs/old.txt",
        "logs/sub/b.bin",
    }


def test_a_script_that_is_about_to_exit_does_not_wait_for_its_own_end(sending: Sending) -> None:
    code = """
from runstream.spool import process
os.mkdir("logs")
run = experiment.start_logging(run_id="r")
run.log("a", 1)
open("logs/a.txt", "w").write("the last line\\n")
(writer,) = process.writers()
writer.exit({"outcome": "clean", "exit_code": 0, "error_message": ""})
input()
open("logs/a.txt", "a").write("after all\\n")
"""
    environment = {"RUNSTREAM_SERVER": sending.server.address, "RUNSTREAM_CAPTURE_CONSOLE": "0"}
    process = spools.start(sending.root, "mmap", begin(sending) + code, environment=environment)
    assert process.stdin is not None
    try:
        sending.until(lambda: sending.log.of_kind("writer_ended"), "its word that it ends")
        ((tail, *_),) = sending.sender._found.values()
        below = tail.lifecycle._end()[0]  # type: ignore[index]
        sending.until(lambda: tail.delivered(below) and tail.logs_delivered(), "delivery while it lives")
        assert not tail.dead
        assert sending.log.text("r", "logs/a.txt") == b"the last line\n"
        assert not sending.log.of_kind("writer_drained")
        process.communicate("\n", timeout=60)
    finally:
        process.kill()
        process.wait()
    ended_when_everything_was_there(sending)
    assert sending.log.text("r", "logs/a.txt") == b"the last line\nafter all\n"


def test_rotated_and_truncated_files_go_on(sending: Sending) -> None:
    code = """
os.makedirs("logs")
run = experiment.start_logging(run_id="r")
file = open("logs/a.txt", "w")
def write(text): file.write(text); file.flush()
write("1\\n"); input()
write("2\\n")
os.rename("logs/a.txt", "logs/a.txt.1"); file = open("logs/a.txt", "w"); write("3\\n"); input()
file.truncate(0); file.seek(0); write("4"); input()
write("5\\n")
os.kill(os.getpid(), signal.SIGKILL)
"""
    environment = {"RUNSTREAM_SERVER": sending.server.address, "RUNSTREAM_CAPTURE_CONSOLE": "0"}
    process = spools.start(sending.root, "mmap", begin(sending) + code, environment=environment)
    assert process.stdin is not None
    wanted = b""
    try:
        for more in (b"1\n", b"2\n3\n", b"4"):
            wanted += more
            sending.until(partial(reads, sending, "logs/a.txt", wanted), repr(wanted))
            process.stdin.write("\n")
            process.stdin.flush()
        process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    sending.drain()
    assert sending.log.text("r", "logs/a.txt") == b"1\n2\n3\n45\n"
    assert {path for _, path in sending.log.logs} == {"logs/a.txt"}


def test_the_folder_can_be_left_alone(sending: Sending) -> None:
    script(
        sending,
        "os.mkdir('logs')\nwith experiment.start_logging(): open('logs/a.txt', 'w').write('x')\n",
        RUNSTREAM_CAPTURE_LOGS="0",
        RUNSTREAM_CAPTURE_CONSOLE="0",
    )
    sending.drain()
    assert not sending.log.logs


def test_a_launcher_has_files_followed(sending: Sending) -> None:
    script(
        sending,
        """
from runstream.capture import folders
run = experiment.start_logging(run_id="r")
folder = os.path.abspath("launcher")
os.mkdir(folder)
folders.follow(run._state, folder, "user_logs/")
file = os.open(folder + "/std_log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
pid = os.posix_spawn("/bin/sh", ["sh", "-c", "echo out; echo err >&2"], os.environ,
                     file_actions=[(os.POSIX_SPAWN_DUP2, file, 1), (os.POSIX_SPAWN_DUP2, file, 2)])
os.waitpid(pid, 0)
folders.leave(run._state, folder, "user_logs/")
os.write(file, b"too late\\n")
run.complete()
""",
    )
    ended_when_everything_was_there(sending)
    assert sending.log.text("r", "user_logs/std_log.txt") == b"out\nerr\n"


def test_a_folder_that_hangs_holds_up_nothing_but_itself(
    sending: Sending, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one on a network file system whose server is gone."""
    answers = threading.Event()
    files = log_folder.files_of

    def hanging(folder: str) -> Iterator[tuple[str, os.stat_result]]:
        assert answers.wait(PATIENCE_S)
        return files(folder)

    monkeypatch.setattr(log_folder, "files_of", hanging)
    script(
        sending,
        """
os.makedirs("logs")
run = experiment.start_logging(run_id="r")
print("printed")
with open("logs/mine.txt", "w") as file: file.write("mine")
run.log("a", 1.0)
run.complete()
""",
    )
    sending.until(lambda: reads(sending, PATH, b"printed\n"), "what was printed")
    sending.until(lambda: sending.log.elements, "what was logged")
    sending.steps(1.0)
    assert not sending.log.of_kind("writer_drained")  # more is to come
    answers.set()
    ended_when_everything_was_there(sending)
    assert reads(sending, "logs/mine.txt", b"mine")


def test_a_folder_that_hangs_for_good_is_left_out(sending: Sending, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = threading.Event()

    def hanging(folder: str) -> Iterator[tuple[str, os.stat_result]]:
        answers.wait(PATIENCE_S)
        return iter(())

    monkeypatch.setattr(log_folder, "files_of", hanging)
    monkeypatch.setattr(logs, "_HANGS_S", 0.5)
    script(
        sending,
        """
os.makedirs("logs")
run = experiment.start_logging(run_id="r")
with open("logs/mine.txt", "w") as file: file.write("mine")
run.complete()
""",
    )
    ended_when_everything_was_there(sending)
    answers.set()
