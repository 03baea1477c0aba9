"""Processes that are killed or stopped while they log, and disks that are full: read from the spool alone."""

import ctypes
import json
import os
import random
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import spools

ENGINES = ("mmap", "append")
pytestmark = pytest.mark.faults

# Calls of all kinds; each that has returned is told, one byte a call, by a pipe that outlives the process.
VICTIM = """
run = experiment.start_logging(outputs=False)
told = int(os.environ["TOLD"])
print("ready", flush=True)
n = 0
while True:
    which = n % 10
    if which == 3: run.log_list("list", [n, n + 0.5, str(n)])
    elif which == 6: run.log_row("row", n=n, text=str(n))
    elif which == 9: run.log("text", f"value {n}")
    elif which == 5: run.log("n", n, step=n)
    else: run.log("n", n)
    os.write(told, b"x")
    n += 1
"""


def readable(descriptors: list[int], wait_s: float) -> list[int]:
    """Those of the descriptors, of any number, that have something to read."""
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    return [descriptor for descriptor, _ in poll.poll(wait_s * 1000)]


def expected_elements(n: int) -> list[tuple[str, str, int, object]]:
    match n % 10:
        case 3:
            return [("list", "", 0, n), ("list", "", 1, n + 0.5), ("list", "", 2, str(n))]
        case 6:
            return [("row", "n", 0, n), ("row", "text", 0, str(n))]
        case 9:
            return [("text", "", 0, f"value {n}")]
    return [("n", "", 0, n)]


def drain(pipe: int) -> int:
    count = 0
    while readable([pipe], 0):
        data = os.read(pipe, 1 << 16)
        if not data:
            break
        count += len(data)
    return count


def check_victim(folder: Path, told: int) -> None:
    """Each call that had returned is there, once and in order; at most the one in the middle besides."""
    spool = spools.only(folder / "spool")
    calls = [call for _, call in sorted(spool.calls.items()) if call.elements]
    assert told <= len(calls) <= told + 1
    for n, call in enumerate(calls):
        assert call.elements == expected_elements(n)
        assert call.step == (n if n % 10 == 5 else None)
    assert len(spool.events(16)) == 1
    assert spool.events(19) == []


@pytest.mark.parametrize(("engine", "rounds"), [("mmap", 200), ("append", 40)])
def test_kill_at_random_moments(tmp_path: Path, engine: str, rounds: int) -> None:
    rng = random.Random(3)
    at_once = 4  # victims that run side by side
    for first in range(0, rounds, at_once):
        victims = []
        for number in range(first, first + at_once):
            folder = tmp_path / str(number)
            folder.mkdir()
            reader, writer = os.pipe()
            os.set_inheritable(writer, True)
            script = folder / "script.py"
            script.write_text(spools.PREAMBLE + VICTIM)
            victim = subprocess.Popen(
                [sys.executable, str(script)],
                env=spools.environment_of(folder, engine, {"TOLD": str(writer)}),
                pass_fds=[writer],
                stdout=subprocess.PIPE,
            )
            os.close(writer)
            victims.append((folder, reader, victim))
        pending = {victim.stdout.fileno(): victim for _, _, victim in victims if victim.stdout}
        told = {reader: 0 for _, reader, _ in victims}
        deadline: dict[int, float] = {}
        while any(victim.poll() is None for _, _, victim in victims):
            ready = readable([*pending, *told], 0.001)
            for descriptor in ready:
                if descriptor in pending:
                    victim = pending.pop(descriptor)
                    deadline[victim.pid] = time.monotonic() + rng.uniform(0, 0.08)
                else:
                    told[descriptor] += len(os.read(descriptor, 1 << 16))
            for _, _, victim in victims:
                if time.monotonic() >= deadline.get(victim.pid, float("inf")):
                    victim.kill()
                    victim.wait()
        for folder, reader, victim in victims:
            told[reader] += drain(reader)
            os.close(reader)
            if victim.stdout:
                victim.stdout.close()
            assert victim.wait() == -signal.SIGKILL
            check_victim(folder, told[reader])
            shutil.rmtree(folder)


def test_a_process_stopped_between_claim_and_commit_loses_nothing(tmp_path: Path) -> None:
    """One thread is held between the two by a tracer, another goes on; then the first one ends its call."""
    process = spools.start(
        tmp_path,
        "mmap",
        """
run = experiment.start_logging(outputs=False)
run.log("held", 0.5)
run.log("other", 0.5)
claimed, go_on = threading.Event(), threading.Event()
def hold(frame, event, argument):
    if frame.f_code.co_name != "log":
        return None
    def lines(frame, event, argument):
        if "at" in frame.f_locals and not claimed.is_set():
            claimed.set()
            go_on.wait()
        return lines
    return lines
def work():
    sys.settrace(hold)
    run.log("held", 1.5)
thread = threading.Thread(target=work); thread.start()
claimed.wait()
for i in range(10_000): run.log("other", float(i))   # several segments further
print("claimed", flush=True)
sys.stdin.readline()
go_on.set(); thread.join()
print("done", flush=True)
sys.stdin.readline()
os._exit(0)
""",
    )
    assert process.stdout
    assert process.stdin
    assert process.stdout.readline() == "claimed\n"
    os.kill(process.pid, signal.SIGSTOP)
    spool = spools.only(tmp_path / "spool")
    assert spool.values("held") == [0.5]
    assert len(spool.empty) == 1
    hole = spool.empty[0]
    os.kill(process.pid, signal.SIGCONT)
    print(file=process.stdin, flush=True)
    assert process.stdout.readline() == "done\n"
    spool = spools.only(tmp_path / "spool")
    assert spool.values("held") == [0.5, 1.5]
    assert spool.empty == []
    assert spool.values("other") == [0.5, *map(float, range(10_000))]
    assert spool.calls[hole].time_ns <= spool.calls[hole + 1].time_ns, "its time is that of the claim"
    process.communicate("\n", timeout=60)


@pytest.mark.parametrize("engine", ENGINES)
def test_stopped_at_random_moments(tmp_path: Path, engine: str) -> None:
    """SIGSTOP and SIGCONT by the hundred, with readers in between, who see a prefix each time."""
    process = spools.start(
        tmp_path,
        engine,
        """
run = experiment.start_logging(outputs=False)
print("ready", flush=True)
n = 0
while not os.path.exists(os.environ["RUNSTREAM_HOME"] + ".stop"):
    for _ in range(50):
        run.log("n", n); n += 1
        run.log_list("l", [n])
print(n, flush=True)
""",
    )
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    rng = random.Random(7)
    for _ in range(60):
        time.sleep(rng.uniform(0, 0.01))
        os.kill(process.pid, signal.SIGSTOP)
        spool = spools.only(tmp_path / "spool")
        values = spool.values("n")
        assert values == list(range(len(values)))
        assert spool.empty == []
        os.kill(process.pid, signal.SIGCONT)
    (tmp_path / "home.stop").touch()
    out, err = process.communicate(timeout=60)
    assert not err
    assert spools.only(tmp_path / "spool").values("n") == list(range(int(out)))


# ----------------------------------------------------------------------------------- full disks


def mount(target: Path, size: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    target.mkdir()
    options = f"size={size},mode=0700".encode()
    if libc.mount(b"tmpfs", os.fsencode(target), b"tmpfs", 0, options):
        target.rmdir()
        pytest.skip(f"no tmpfs can be mounted here: {os.strerror(ctypes.get_errno())}")


def unmount(target: Path) -> None:
    ctypes.CDLL(None).umount2(os.fsencode(target), 2)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    target = tmp_path / "spool"
    mount(target, "3500K")  # room for the second largest segment when all before it are gone
    yield target
    unmount(target)


FILL = """
FILLER = os.path.join(os.environ["RUNSTREAM_SPOOL"], "filler")
def fill():
    with open(FILLER, "wb", buffering=0) as filler:
        try:
            while filler.write(bytes(4096)): pass
        except OSError: pass
"""


@pytest.mark.parametrize("engine", ENGINES)
def test_disk_full(tmp_path: Path, small_disk: Path, engine: str) -> None:
    """What doesn't fit is dropped and counted; the script goes on, and is kept again when there is space."""
    out = spools.run(
        tmp_path,
        engine,
        FILL
        + """
run = experiment.start_logging(outputs=False)
start = time.monotonic()
big = 0
for i in range(200_000):
    run.log("n", i)
    if i % 1000 == 0:
        run.log_list("l", [0.5] * 1000); big += 1
blocked = time.monotonic() - start
fill()
for i in range(1000): run.log("dropped", i)
os.unlink(FILLER)
from runstream.spool import process
folder = process.writers()[0].folder
for name in os.listdir(folder.path):           # as a sender does with what is acknowledged
    keep = ("names.re", f"{process.writers()[0].segment.number:08d}")
    if name.endswith((".slots", ".records")) and name[:8] not in keep:
        os.unlink(folder.file(name))
time.sleep(0.3)
for i in range(100): run.log("late", i)
run.log_list("late list", [1, 2])
import json
print(json.dumps({"big": big, "counts": process.writers()[0].dropped_counts(), "blocked": blocked}))
run.complete()
""",
    )
    told = json.loads(out.splitlines()[0])
    assert out.count("runstream:") == 1
    assert "dropped and counted" in out
    spool = spools.only(small_disk)
    assert spool.values("late") == list(range(100))
    assert spool.values("late list") == [1, 2]
    assert spool.events(17)[0]["status"] == "Completed"
    assert spool.events(19)[0]["dropped"] == told["counts"]
    assert spool.events(20)
    kept = spool.values("n")
    assert kept == sorted(kept)
    assert told["counts"]["0"] >= 1000


@pytest.mark.parametrize("engine", ENGINES)
def test_disk_full_to_the_end(tmp_path: Path, small_disk: Path, engine: str) -> None:
    """Even then the spool says how the run ended, and how much is missing."""
    spools.run(
        tmp_path,
        engine,
        FILL
        + """
run = experiment.start_logging(outputs=False)
for i in range(120_000):
    run.log("n", i)
    if i % 5000 == 0: run.log("text", "t" * 50_000)
fill()
for i in range(50_000): run.log("n", i)
run.fail("the disk was full")
sys.exit(3)
""",
        code_expected=3,
    )
    spool = spools.only(small_disk)
    kept = spool.values("n")
    assert kept == list(range(len(kept)))
    assert [event["status"] for event in spool.events(17)] == ["Failed"]
    (exit_record,) = spool.events(19)
    assert exit_record["exit_code"] == 3
    assert exit_record["dropped"] == {"0": 170_000 + 24 - len(kept) - len(spool.values("text"))}


@pytest.mark.parametrize("engine", ENGINES)
def test_disk_full_from_the_start(tmp_path: Path, small_disk: Path, engine: str) -> None:
    out = spools.run(
        tmp_path,
        engine,
        FILL
        + """
fill()
run = experiment.start_logging(outputs=False)
for i in range(1000):
    run.log("n", i)
run.log_table("t", {"a": [1]})
os.unlink(FILLER)
time.sleep(0.6)
run.log("late", 1)
run.complete()
""",
    )
    assert out.count("runstream:") == 1
    spool = next(found for found in spools.spools(small_disk) if found.runs)
    assert spool.values("late") == [1]
    assert spool.events(19)[0]["dropped"] == {"0": 1002}


# ------------------------------------------------------------------------------- odd surroundings


def test_read_only_home(tmp_path: Path) -> None:
    """The spool goes to another local folder then."""
    home = tmp_path / "home"
    mount(home, "1M")
    other = Path(f"/var/tmp/runstream-{os.getuid()}")
    before = set(other.glob("**/writer.json"))
    try:
        subprocess.run(["mount", "-o", "remount,ro", home], check=True)
        script = (
            spools.PREAMBLE + 'run = experiment.start_logging(outputs=False); run.log("x", 1); run.complete()'
        )
        environment = spools.environment_of(tmp_path, "mmap", {"HOME": str(home)})
        for name in ("RUNSTREAM_HOME", "RUNSTREAM_SPOOL"):
            del environment[name]
        environment.pop("XDG_STATE_HOME", None)
        done = subprocess.run(
            [sys.executable, "-c", script], env=environment, cwd=home, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert not done.stderr
        (made,) = set(other.glob("**/writer.json")) - before
        assert spools.read(made.parent).values("x") == [1]
        shutil.rmtree(made.parent)
    finally:
        unmount(home)


def test_nowhere_to_write(tmp_path: Path) -> None:
    out = spools.run(
        tmp_path,
        "mmap",
        """
run = experiment.start_logging(outputs=False)
for i in range(100): run.log("x", i)
run.log_list("l", [1])
run.tag("a", "b")
run.complete()
""",
        environment={"RUNSTREAM_SPOOL": "/proc/nowhere"},
    )
    said = [line for line in out.splitlines() if line.startswith("runstream:")]
    assert ["nothing can be kept" in line for line in said] == [True, False]
    assert "104 log calls could not be kept" in said[1]


def test_as_pid_1(tmp_path: Path) -> None:
    """The job is all there is in its PID namespace, as in a container."""
    script = tmp_path / "script.py"
    script.write_text(
        spools.PREAMBLE
        + """
assert os.getpid() == 1
run = experiment.start_logging(outputs=False)
run.log("x", 1)
if os.fork() == 0:
    run.log("child", 1)
    os._exit(0)
os.wait()
run.complete()
"""
    )
    unshare = shutil.which("unshare")
    if unshare is None or os.getuid() != 0:
        pytest.skip("needs root and unshare")
    done = subprocess.run(
        [unshare, "--pid", "--fork", "--mount-proc", sys.executable, str(script)],
        env=spools.environment_of(tmp_path, "mmap"),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    main, child = spools.spools(tmp_path / "spool")
    assert main.values("x") == [1]
    assert main.header["drain"] is True
    assert main.header["pid"] == 1
    assert main.header["pid_ns"] != os.stat("/proc/self/ns/pid").st_ino
    assert child.values("child") == [1]


def test_shared_spool_of_two_users(tmp_path: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("needs root, to be two users")
    spool = tmp_path / "spool"
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.getuid() and not folder.stat().st_mode & 0o001:
            os.chmod(folder, 0o755)
    spool.mkdir()
    os.chmod(spool, 0o1777)
    out = []
    for user in (12345, 12346):
        # What is loaded later than here can't be read by users when Python is in root's home.
        code = "import hashlib, fcntl, tempfile, traceback, shutil, runstream.context.ranks\n"
        code += f"os.setgid({user}); os.setuid({user})\nrun = experiment.start_logging(outputs=False)\n"
        code += f'run.log("user", {user}); run.complete()'
        out.append(spools.run(tmp_path, "mmap", code))
    assert [spool.values("user") for spool in spools.spools(spool)] == [[12345], [12346]]
    assert out == ["", ""]  # nobody lost anything
