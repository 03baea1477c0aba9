"""What a script leaves in its spool: the same for both engines, whatever else goes on in the process."""

import json
import os
import random
import signal
from pathlib import Path

import pytest

from tests import spools

ENGINES = ("mmap", "append")
pytestmark = pytest.mark.parametrize("engine", ENGINES)


def test_a_run_is_records_in_one_folder(tmp_path: Path, engine: str) -> None:
    spools.run(
        tmp_path,
        engine,
        """
run = experiment.start_logging(outputs=False)
run.log("loss", 0.5)
run.log("loss", 0.25, step=7)
run.tag("who", "me")
run.log_list("list", [1.5, 2.5])
run.complete()
other = experiment.start_logging(outputs=False)
other.log("loss", 9)
other.fail("broken", "Oops")
print(run.id, other.id)
""",
    )
    spool = spools.only(tmp_path / "spool")
    assert spool.header["engine"] == engine
    first, second = (spool.runs[index]["run"] for index in (0, 1))
    assert {run["workspace"] for run in spool.runs.values()} == {"test"}
    assert {run["role"] for run in spool.runs.values()} == {"main"}
    assert spool.values("loss", first) == [0.5, 0.25]
    assert [call.step for call in spool.calls.values() if call.elements][:2] == [None, 7]
    assert spool.values("list", first) == [1.5, 2.5]
    assert spool.values("loss", second) == [9]
    assert [event["status"] for event in spool.events(17)] == ["Completed", "Failed"]
    assert spool.events(17)[1]["error_code"] == "Oops"
    assert spool.events(18) == [
        {"kind": "tag", "key": "who", "value": "me", "removed": False, "time_ns": pytest.approx(0, abs=2**63)}
    ]
    assert [event["outcome"] for event in spool.events(19)] == ["clean"]
    assert spool.empty == []
    times = [spool.calls[seq].time_ns for seq in sorted(spool.calls)]
    assert times == sorted(times)
    assert {path.stat().st_mode & 0o077 for path in spool.path.iterdir()} == {0}


def test_segments_grow_and_nothing_is_left_out(tmp_path: Path, engine: str) -> None:
    spools.run(
        tmp_path,
        engine,
        """
run = experiment.start_logging(outputs=False)
for i in range(30_000):
    run.log("n", i)
    if i % 1000 == 0:
        run.log_row("row", i=i, text=str(i))
""",
    )
    spool = spools.only(tmp_path / "spool")
    assert spool.values("n") == list(range(30_000))
    assert spool.values("row", column="text") == [str(i) for i in range(0, 30_000, 1000)]
    assert spool.empty == []
    assert len(list(spool.path.glob("0*.records"))) >= 3


def test_a_sweep_of_runs_is_one_folder(tmp_path: Path, engine: str) -> None:
    spools.run(
        tmp_path,
        engine,
        """
for i in range(500):
    with experiment.start_logging(outputs=False) as run:
        run.log("alpha", i)
""",
    )
    spool = spools.only(tmp_path / "spool")
    assert len(spool.runs) == 500
    assert len(spool.series) == 1
    assert spool.values("alpha") == list(range(500))
    assert len(spool.events(17)) == 500
    assert len(list(spool.path.iterdir())) < 12


def test_threads(tmp_path: Path, engine: str) -> None:
    count = 6_000 if engine == "mmap" else 1_500
    spools.run(
        tmp_path,
        engine,
        f"""
sys.setswitchinterval(1e-5)
run = experiment.start_logging(outputs=False)
def work(t):
    for i in range({count}):
        run.log(f"m{{t}}", float(i), step=i)
        if i % 100 == 0:
            run.log_list(f"l{{t}}", [i, t])
threads = [threading.Thread(target=work, args=(t,)) for t in range(16)]
for thread in threads: thread.start()
for thread in threads: thread.join()
""",
    )
    spool = spools.only(tmp_path / "spool")
    for thread in range(16):
        assert spool.values(f"m{thread}") == [float(i) for i in range(count)]
        assert spool.values(f"l{thread}") == [x for i in range(0, count, 100) for x in (i, thread)]
    assert spool.empty == []


def test_a_signal_handler_may_log_anywhere(tmp_path: Path, engine: str) -> None:
    out = spools.run(
        tmp_path,
        engine,
        """
run = experiment.start_logging(outputs=False)
handled = depth = 0
def handler(*_):
    global handled, depth
    number = handled
    handled += 1
    depth += 1
    if depth < 5:  # handlers in handlers, but not without end on a slow machine
        signal.setitimer(signal.ITIMER_REAL, 0.0002)
    run.log("signal", number)
    run.log_row("signals", n=number)
    depth -= 1
    signal.setitimer(signal.ITIMER_REAL, 0.0005)
signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 0.0005)
n = 0
while handled < 2000:
    run.log("n", n)
    if n % 50 == 0:
        run.log_list("list", [n])
        run.log(f"name {n}", n)
    n += 1
signal.signal(signal.SIGALRM, signal.SIG_IGN)
print(n, handled)
""",
    )
    n, handled = map(int, out.split())
    spool = spools.only(tmp_path / "spool")
    assert handled >= 2000
    assert spool.values("n") == list(range(n))
    assert spool.values("list") == list(range(0, n, 50))
    assert sorted(spool.values("signal")) == list(range(handled))
    assert sorted(spool.values("signals", column="n")) == list(range(handled))
    assert spool.empty == []


def test_keyboard_interrupt_at_random_points(tmp_path: Path, engine: str) -> None:
    out = spools.run(
        tmp_path,
        engine,
        """
import random
random.seed(5)
run = experiment.start_logging(outputs=False)
signal.signal(signal.SIGALRM, signal.default_int_handler)
n = interrupts = 0
returned = []
while interrupts < 300:
    try:
        signal.setitimer(signal.ITIMER_REAL, random.uniform(0.0001, 0.002))
        for _ in range(20_000):  # the interpreter swallows an interrupt that falls into a finalizer
            run.log("n", n)
            returned.append(("n", n)); n += 1
            run.log_list("l", [n])
            returned.append(("l", n)); n += 1
            run.log(f"new {n}", n)
            returned.append((f"new {n}", n)); n += 1
    except KeyboardInterrupt:
        interrupts += 1
        n += 1
run.log("after", 1)
import json
print(json.dumps(returned))
""",
    )
    spool = spools.only(tmp_path / "spool")
    kept = {(name, value) for call in spool.calls.values() for name, _, _, value in call.elements}
    assert {tuple(pair) for pair in json.loads(out)} <= kept
    assert spool.values("after") == [1]
    assert spool.values("n") == sorted(set(spool.values("n")))


def test_forks_have_writers_of_their_own(tmp_path: Path, engine: str) -> None:
    out = spools.run(
        tmp_path,
        engine,
        """
run = experiment.start_logging(outputs=False)
stop = threading.Event()
def work(t):
    i = 0
    while not stop.is_set():
        run.log(f"t{t}", i); i += 1
    counts[t] = i
counts = {}
threads = [threading.Thread(target=work, args=(t,)) for t in range(3)]
for thread in threads: thread.start()
children = []
for child in range(6):
    run.log("parent", child)
    pid = os.fork()
    if pid == 0:
        for i in range(3000):
            run.log("child", child * 10_000 + i)
        run.log_row("row", child=child)
        os._exit(0) if child % 2 else os.kill(os.getpid(), signal.SIGKILL)
    children.append(pid)
for pid in children: os.waitpid(pid, 0)
stop.set()
for thread in threads: thread.join()
run.complete()
print(counts[0], counts[1], counts[2])
""",
    )
    counts = list(map(int, out.split()))
    parent, *children = spools.spools(tmp_path / "spool")
    assert parent.values("parent") == list(range(6))
    assert parent.values("child") == []
    for thread, count in enumerate(counts):
        assert parent.values(f"t{thread}") == list(range(count))
    assert parent.events(17)[0]["status"] == "Completed"
    assert len(children) == 6
    for spool in children:
        (child,) = spool.values("row", column="child")
        assert spool.values("child") == [child * 10_000 + i for i in range(3000)]
        assert spool.header["parent"] == parent.header["writer"]
        (definition,) = spool.runs.values()
        assert definition["role"] == "worker"
        assert definition["launch"] == parent.runs[0]["launch"]
        assert spool.events(17) == []
        assert spool.values("t0") == []
    assert parent.empty == []


def test_a_handler_that_forks_in_the_middle_of_a_call(tmp_path: Path, engine: str) -> None:
    out = spools.run(
        tmp_path,
        engine,
        """
run = experiment.start_logging(outputs=False)
forks = 0
def handler(*_):
    global forks
    if os.fork():
        forks += 1
        signal.setitimer(signal.ITIMER_REAL, 0.001)
parent = os.getpid()
signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 0.001)
n = 0
while forks < 40:
    run.log("n", n)
    if n % 20 == 0: run.log_list("l", [n])
    n += 1
    if os.getpid() != parent: break
signal.signal(signal.SIGALRM, signal.SIG_IGN)
if os.getpid() != parent:
    for i in range(50): run.log("child", i)
try:
    while True: os.wait()
except ChildProcessError:
    pass
if os.getpid() != parent: os._exit(0)
print(n, forks)
""",
    )
    parent, *children = spools.spools(tmp_path / "spool")
    n, forks = map(int, out.split())
    assert parent.values("n") == list(range(n))
    assert parent.values("l") == list(range(0, n, 20))
    assert parent.values("child") == []
    assert len(children) >= forks  # forks of forks too, when a handler came into a handler
    for spool in children:
        assert spool.values("child") == list(range(50))


def test_spawned_processes_get_the_run_by_pickle(tmp_path: Path, engine: str) -> None:
    spools.run(
        tmp_path,
        engine,
        """
import multiprocessing
def work(run, n):
    run.log("spawned", n)
    return n
if __name__ == "__main__":
    run = experiment.start_logging(outputs=False)
    run.log("main", 1)
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        pool.starmap(work, [(run, n) for n in range(20)])
    run.complete()
""",
    )
    main, *workers = spools.spools(tmp_path / "spool")
    assert main.values("main") == [1]
    assert sorted(value for spool in workers for value in spool.values("spawned")) == list(range(20))
    for spool in workers:
        assert {run["role"] for run in spool.runs.values()} == {"worker"}
        assert {run["launch"] for run in spool.runs.values()} == {main.runs[0]["launch"]}
        assert {run["run"] for run in spool.runs.values()} == {main.runs[0]["run"]}
        assert len(spool.runs) == 1


def test_attached_by_id(tmp_path: Path, engine: str) -> None:
    run_id = spools.run(
        tmp_path, engine, "run = experiment.start_logging(outputs=False); print(run.id)"
    ).strip()
    spools.run(
        tmp_path,
        engine,
        f"""
run = Run(experiment, {run_id!r})
run.log("late", 1)
run.complete()
""",
    )
    _, attached = spools.spools(tmp_path / "spool")
    assert attached.runs[0]["run"] == run_id
    assert attached.runs[0]["role"] == "attached"
    assert attached.runs[0]["launch"] is None
    assert attached.values("late") == [1]
    assert attached.events(17) == []


def test_a_removed_folder_means_a_new_writer(tmp_path: Path, engine: str) -> None:
    spools.run(
        tmp_path,
        engine,
        """
import shutil
run = experiment.start_logging(outputs=False)
run.log("before", 1)
shutil.rmtree(os.environ["RUNSTREAM_SPOOL"])
for i in range(3000): run.log("n", i)
run.log_list("after", [1, 2, 3])
for i in range(100): run.log("end", i)
""",
    )
    spool = spools.only(tmp_path / "spool")
    assert spool.values("after") == [1, 2, 3]
    assert spool.values("end") == list(range(100))
    assert spool.runs[0]["role"] == "main"


def test_descriptors_closed_by_somebody(tmp_path: Path, engine: str) -> None:
    """Records never land in another file, and the lock is taken again."""
    spools.run(
        tmp_path,
        engine,
        """
run = experiment.start_logging(outputs=False)
run.log_list("l", [0])
os.closerange(3, 100)
files = [open(f"{os.environ['RUNSTREAM_HOME']}.{i}", "w") for i in range(30)]
run.log_list("l", [1])
run.log("new name", 1)
for i in range(5000): run.log("n", i)
from runstream.spool import process
import fcntl
lock = process.writers()[0].folder.file("lock")
if os.fork() == 0:
    file = open(lock, "r+")
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os._exit(1)
    except OSError:
        os._exit(0)
assert os.wait()[1] == 0, "the lock is free"
assert all(os.fstat(file.fileno()).st_size == 0 for file in files)
for file in files: file.close()
""",
    )
    spool = spools.only(tmp_path / "spool")
    assert spool.values("l") == [0, 1]
    assert spool.values("new name") == [1]
    assert spool.values("n") == list(range(5000))


def test_closed_standard_streams_keep_their_numbers(tmp_path: Path, engine: str) -> None:
    spools.run(
        tmp_path,
        engine,
        """
for stream in (0, 1, 2): os.close(stream)
run = experiment.start_logging(outputs=False)
run.log_list("l", [0])
try: os.write(1, b"noise " * 100)
except OSError: pass
run.log_list("l", [1])
os._exit(0)
""",
    )
    assert spools.only(tmp_path / "spool").values("l") == [0, 1]


def test_cap(tmp_path: Path, engine: str) -> None:
    """Over the cap calls are dropped and counted, and the script waits for a tenth of a second at most."""
    out = spools.run(
        tmp_path,
        engine,
        """
run = experiment.start_logging(outputs=False)
start = time.monotonic()
for i in range(60_000): run.log("n", i)
for i in range(20): run.log_list("l", list(range(10_000)))
elapsed = time.monotonic() - start
run.complete()
print(elapsed)
""",
        environment={"RUNSTREAM_SPOOL_CAP": "600K"},
    )
    assert out.count("has reached its cap") == 1
    spool = spools.only(tmp_path / "spool")
    kept = spool.values("n")
    assert kept == list(range(len(kept)))
    lists = len(spool.values("l")) // 10_000
    assert len(kept) < 60_000
    (exit_record,) = spool.events(19)
    assert exit_record["dropped"] == {"0": 60_000 - len(kept) + 20 - lists}
    assert spool.events(17)[0]["status"] == "Completed"
    assert spool.events(20)
    assert sum(file.stat().st_blocks * 512 for file in spool.path.iterdir()) < 2_000_000


def test_texts_arrays_and_large_blocks(tmp_path: Path, engine: str) -> None:
    spools.run(
        tmp_path,
        engine,
        """
import numpy as np
run = experiment.start_logging(outputs=False)
run.log_list("large", np.arange(2_200_000, dtype=np.float64))
run.log_table("wide", {f"c{i}": np.arange(230_000) + i for i in range(10)})
run.log("text", "long " * 100_000)
run.log_list("texts", ["x" * 1_000_000] * 40)
""",
    )
    spool = spools.only(tmp_path / "spool")
    assert spool.values("large") == [float(i) for i in range(2_200_000)]
    for i in range(10):
        assert spool.values("wide", column=f"c{i}") == list(range(i, 230_000 + i))
    assert spool.values("text") == ["long " * 100_000]
    assert spool.values("texts") == ["x" * 1_000_000] * 40
    assert len(spool.calls) == 6  # one sequence number a call, with start and exit


def test_seeded_mixture(tmp_path: Path, engine: str) -> None:
    """Whatever is logged in whatever order comes back in that order."""
    seed = 20_260_730
    script = f"""
import random
rng = random.Random({seed})
runs = [experiment.start_logging(outputs=False) for _ in range(3)]
values = [0.5, -1, True, None, "text", float("inf"), 2**80, -(2**63), 2**63 - 1, "", "ünïcode \\ud800"]
for i in range(4000):
    run = rng.choice(runs)
    name = f"m{{rng.randrange(20)}}"
    if rng.random() < 0.8:
        run.log(name, rng.choice(values), step=rng.choice([None, i, -i]))
    else:
        run.log_list(name, [rng.choice(values) for _ in range(rng.randrange(6))])
"""
    spools.run(tmp_path, engine, script)
    spool = spools.only(tmp_path / "spool")
    rng = random.Random(seed)
    values = [0.5, -1, True, None, "text", float("inf"), 2**80, -(2**63), 2**63 - 1, "", "ünïcode \ufffd"]
    calls = [call for _, call in sorted(spool.calls.items()) if call.elements]
    names = [spool.runs[index]["run"] for index in range(3)]
    for i in range(4000):
        call = calls[i]
        assert call.run == names[rng.choice(range(3))]
        name = f"m{rng.randrange(20)}"
        if rng.random() < 0.8:
            expected = [(name, "", 0, rng.choice(values))]
            step = rng.choice([None, i, -i])
        else:
            expected = [(name, "", at, rng.choice(values)) for at in range(rng.randrange(6))]
            expected = expected or [(name, "", -1, "DECLARATION")]
            step = None
        assert call.elements == expected
        assert [type(element[3]) for element in call.elements] == [type(element[3]) for element in expected]
        assert call.step == step


def test_interrupted_script_is_reported(tmp_path: Path, engine: str) -> None:
    process = spools.start(
        tmp_path,
        engine,
        """
run = experiment.start_logging(outputs=False)
print("ready", flush=True)
while True: run.log("n", 1)
""",
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    os.kill(process.pid, signal.SIGINT)
    try:
        process.communicate(timeout=60)
    finally:
        process.kill()
    (event,) = spools.only(tmp_path / "spool").events(19)
    assert event["outcome"] == "interrupted"
