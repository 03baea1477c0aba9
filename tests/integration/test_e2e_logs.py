"""Logs of scripts, through a whole server: read by the script itself, by others, and on the command line."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

from runstream.v1 import query_service_pb2 as messages
from tests.server import Place, wait_for

BEGIN = """
import os, sys
from runstream import Experiment, Run, Workspace
experiment = Experiment(Workspace.from_config(), "logs")
"""


def test_a_script_reads_what_it_printed(lodger: Place) -> None:
    done = lodger.script(
        BEGIN
        + """
run = experiment.start_logging(run_id="reads")
print("first")
os.makedirs("logs", exist_ok=True)
with open("logs/own.txt", "w") as file: file.write("written\\n")
run.log("a", 1)
assert run.get_metrics() == {"a": 1}
(path,) = [p for p in run.get_all_logs("here") if p.endswith("user_log.txt")]
assert open(path).read() == "first\\n", open(path).read()
print("second")
run.complete()
import time
deadline = time.monotonic() + 60
while True:
    details = run.get_details_with_logs()["logFiles"]
    if len(details) == 2: break
    assert time.monotonic() < deadline, details
assert details == {"logs/user_log.txt": "first\\nsecond\\n", "logs/own.txt": "written\\n"}, details
paths = run.get_all_logs("there")
assert sorted(paths) == ["there/logs/own.txt", "there/logs/user_log.txt"], paths
run.wait_for_completion(show_output=True)
"""
    )
    assert done.returncode == 0, done.stderr
    assert "Streaming logs/user_log.txt" in done.stdout
    assert done.stdout.count("second") == 2
    shown = lodger.runstream("logs", "reads", "--tail", "1")
    assert (shown.returncode, shown.stdout) == (0, "second\n")
    listed = lodger.runstream("logs", "reads", "--list").stdout.split()
    assert listed == ["8", "logs/own.txt", "13", "logs/user_log.txt"]
    other = lodger.runstream("logs", "reads", "--file", "logs/own.txt")
    assert other.stdout == "written\n"
    missing = lodger.runstream("logs", "reads", "--file", "nothing")
    assert missing.returncode == 4
    assert "logs/own.txt" in missing.stderr
    assert lodger.runstream("logs", "nobody").returncode == 4


def test_the_command_line_follows_a_run_to_its_end(lodger: Place) -> None:
    code = (
        BEGIN
        + """
run = experiment.start_logging(run_id="followed")
for line in sys.stdin:
    print("said", line, end="")
run.complete()
"""
    )
    script = subprocess.Popen(
        [sys.executable, "-c", code],
        env=lodger.environment(),
        cwd=lodger.work,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    )
    follower: subprocess.Popen[bytes] | None = None
    try:
        wait_for(lambda: lodger.runstream("logs", "followed").returncode == 0, "the run")
        follower = subprocess.Popen(
            [sys.executable, "-m", "runstream.cli", "logs", "-f", "followed"],
            env=lodger.environment(),
            cwd=lodger.work,
            stdout=subprocess.PIPE,
        )
        lines: list[bytes] = []
        assert follower.stdout is not None
        reading = threading.Thread(target=lines.extend, args=(follower.stdout,))
        reading.start()
        assert script.stdin is not None
        for number in range(3):
            script.stdin.write(b"%d\n" % number)
            script.stdin.flush()
            wait_for(lambda wanted=number + 1: len(lines) >= wanted, f"line {number}")  # type: ignore[misc]
        script.stdin.close()
        assert script.wait(90) == 0
        assert follower.wait(90) == 0
        reading.join(90)
        assert lines == [b"said 0\n", b"said 1\n", b"said 2\n"]
    finally:
        for process in (script, follower):
            if process is not None:
                process.kill()
                process.wait()
                for stream in (process.stdin, process.stdout):
                    if stream is not None:
                        stream.close()


def test_offline_output_comes_with_a_sync(lodger: Place) -> None:
    done = lodger.script(
        BEGIN + "with experiment.start_logging(run_id='offline'): print('kept')\n", RUNSTREAM_MODE="offline"
    )
    assert done.returncode == 0, done.stderr
    assert lodger.runstream("logs", "offline").returncode == 4
    spool = Path(os.fspath(lodger.spool)) / "offline"
    assert lodger.runstream("sync", str(spool)).returncode == 0
    assert lodger.runstream("logs", "-f", "offline").stdout == "kept\n"


def test_runs_are_looked_at_from_outside(lodger: Place) -> None:
    done = lodger.script(
        BEGIN
        + """
import time
run = experiment.start_logging(run_id="outside", outputs=False)
run.log("a", 1)
deadline = time.monotonic() + 90
while not run.get_metrics("system/process_memory_bytes"):
    assert time.monotonic() < deadline
    time.sleep(0.1)
assert run.get_metrics() == {"a": 1}, "what was logged, and that alone"
while "command" not in run._record(fresh=True).system:
    assert time.monotonic() < deadline
with experiment.start_logging(run_id="second", outputs=False) as second: pass
run.complete()
while second._record(fresh=True).system.get("source_of") != "outside":
    assert time.monotonic() < deadline
""",
        RUNSTREAM_SENDER_OBSERVE="1",
        RUNSTREAM_SPOOL=str(lodger.root / "observed"),
    )
    try:
        assert done.returncode == 0, done.stderr
        wait_for(
            lambda: "packages.txt" in lodger.runstream("logs", "outside", "--list").stdout, "the packages"
        )
        shown = lodger.runstream("logs", "outside", "--file", "system_logs/packages.txt").stdout
        assert "numpy==" in shown
    finally:
        spool, lodger.spool = lodger.spool, lodger.root / "observed"
        lodger.end_sender()
        lodger.spool = spool


SEEN = """
run = experiment.start_logging(run_id=sys.argv[1], outputs=False)
run.log("a", 1)
while not run.get_metrics("system/process_memory_bytes"): pass
print("seen", flush=True)
sys.stdin.read()
run.complete()
"""


def test_what_is_seen_of_a_run_is_proven_while_other_processes_go_on(lodger: Place) -> None:
    """Without the sender of its machine, which knows more: as others read it."""
    environment = {"RUNSTREAM_SENDER_OBSERVE": "1", "RUNSTREAM_SPOOL": str(lodger.root / "observed-too")}
    try:
        with lodger.popen(BEGIN + SEEN.replace("sys.argv[1]", "'goes-on'"), **environment) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stdout.readline() == "seen\n"
            done = lodger.script(BEGIN + SEEN, "is-over", **environment)
            assert done.returncode == 0, done.stderr
            wait_for(lambda: state(lodger, "is-over") == messages.LEDGER_STATE_PROVEN, "the proof")
            assert state(lodger, "goes-on") == messages.LEDGER_STATE_OPEN
            process.stdin.close()
            wait_for(lambda: state(lodger, "goes-on") == messages.LEDGER_STATE_PROVEN, "the other proof")
    finally:
        spool, lodger.spool = lodger.spool, lodger.root / "observed-too"
        lodger.end_sender()
        lodger.spool = spool


def state(place: Place, run: str) -> int:
    with place.client() as client:
        return client.get_ledger(place.workspace, run).state
