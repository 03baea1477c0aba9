"""Scripts, workers and senders that are killed: what had returned is there, and nothing else."""

from __future__ import annotations

import os
import random
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from runstream.client import Client
from runstream.v1 import query_service_pb2
from runstream.v1.run_pb2 import RunStatus
from tests.server import Place, wait_for

KILLS = 200
AT_ONCE = 4
MOST_SENDERS = 10  # so many die, then one may deliver: on a busy machine a sender does little in its time

BEGIN = """
import json, os, signal, sys, time
from runstream import Experiment, Run, Workspace
experiment = Experiment(Workspace.from_config(), "killed")
"""

# Logs without an end, and notes in a shared page how many calls have returned.
LOGGER = """
import mmap, os, random, struct, sys
from runstream import Experiment, Workspace
seed, page = int(sys.argv[1]), mmap.mmap(os.open(sys.argv[2], os.O_RDWR), 8)
run = Experiment(Workspace.from_config(), "killed").start_logging()
print(run.id, flush=True)
chance, call = random.Random(seed), 0
while True:
    kind = chance.random()
    if kind < 0.7:
        run.log("scalar", call)
    elif kind < 0.85:
        run.log_row("row", a=call, b=call / 2)
    else:
        run.log_list("list", [call] * chance.randrange(1, 4))
    call += 1
    page[:8] = struct.pack("<q", call)
"""


# Starts such scripts, to be killed, without a new interpreter and the imports for each: a line names the
# files of one. Each is a process that runs the whole script, and is reaped here.
STARTER = """
import importlib, os, pkgutil, runpy, signal, sys
import runstream.context, runstream.core, runstream.spool
for package in (runstream.context, runstream.core, runstream.spool):
    for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for line in sys.stdin:
    script, out, *arguments = line.split()
    if os.fork() == 0:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.dup2(os.open(out, os.O_WRONLY), 1)
        print(os.getpid(), flush=True)
        sys.argv = [script, *arguments]
        runpy.run_path(script, run_name="__main__")
        os._exit(1)
"""


@dataclass
class Logged:
    """What calls have logged, by metric and column."""

    values: dict[tuple[str, str], list[float]] = field(default_factory=dict)

    @staticmethod
    def by(seed: int, calls: int) -> Logged:
        """What the first calls of LOGGER log."""
        chance, logged = random.Random(seed), Logged()
        for call in range(calls):
            kind = chance.random()
            if kind < 0.7:
                logged.add("scalar", "", [call])
            elif kind < 0.85:
                logged.add("row", "a", [call])
                logged.add("row", "b", [call / 2])
            else:
                logged.add("list", "", [call] * chance.randrange(1, 4))
        return logged

    def add(self, metric: str, column: str, values: list[float]) -> None:
        self.values.setdefault((metric, column), []).extend(values)


@pytest.fixture
def client(guest: Place) -> Iterator[Client]:
    with guest.client() as made:
        yield made


def ended(client: Client, workspace: str, runs: int) -> dict[str, query_service_pb2.Run]:
    """All runs of a workspace by their ids, once so many have ended and are settled."""

    def look() -> dict[str, query_service_pb2.Run] | None:
        found = {run.ref.run: run for run in client.search_runs(workspace)}
        return found if sum(1 for r in found.values() if r.ended_time_ns and not r.settling) >= runs else None

    return wait_for(look, f"{runs} runs to end")


def launch(place: Place, code: str, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        env=place.environment(**environment),
        cwd=place.work,
        stdout=subprocess.PIPE,
        text=True,
    )


def first_line(script: subprocess.Popen[str]) -> str:
    assert script.stdout is not None
    return script.stdout.readline().strip()


@pytest.mark.faults
def test_kill_9_at_random_moments_loses_no_returned_call(guest: Place, client: Client) -> None:
    chance = random.Random(20260101)
    returned: dict[str, tuple[int, int]] = {}
    script = guest.work / "logger.py"
    script.write_text(LOGGER)
    seeds = list(range(KILLS))
    with guest.popen(STARTER) as starter:
        assert starter.stdin is not None
        while seeds:
            started = []
            for seed in [seeds.pop() for _ in range(min(AT_ONCE, len(seeds)))]:
                page, out = guest.root / f"page-{seed}", guest.root / f"out-{seed}"
                page.write_bytes(bytes(8))
                os.mkfifo(out)
                print(script, out, seed, page, file=starter.stdin, flush=True)
                started.append((seed, page, out))
            for seed, page, out in started:
                with open(out) as lines:
                    pid, run_id = (lines.readline().strip() for _ in range(2))
                    time.sleep(chance.uniform(0, 0.03))
                    os.kill(int(pid), signal.SIGKILL)
                    assert lines.read() == ""  # when it is dead
                returned[run_id] = (seed, struct.unpack("<q", page.read_bytes())[0])
        starter.stdin.close()
    found = ended(client, guest.workspace, KILLS)
    assert {run.status for run in found.values()} == {RunStatus.RUN_STATUS_FAILED}
    assert any(calls > 1000 for _, calls in returned.values())
    stored: dict[str, dict[tuple[str, str], list[float]]] = {run_id: {} for run_id in returned}
    for series in client.get_metrics(guest.workspace, returned).series:
        stored[series.run][series.metric, series.column] = series.values()
    for run_id, (seed, calls) in returned.items():
        # The call that was under way when the signal came may be there as a whole, or not at all.
        possible = [Logged.by(seed, calls).values, Logged.by(seed, calls + 1).values]
        assert stored[run_id] in possible, f"run {run_id}, {calls} calls had returned"


@pytest.mark.faults
def test_a_killed_sender_repeats_and_loses_nothing(guest: Place, client: Client) -> None:
    code = (
        BEGIN
        + """
with experiment.start_logging() as run:
    print(run.id, flush=True)
    for step in range(200_000):
        run.log("equal", 1.0)
        if step % 500 == 0:
            run.log_list("list", [2.0, 2.0])
            run.log_list(f"empty {step % 5}", [])
            time.sleep(0.005)
"""
    )
    from runstream.sender.ask import NoSenderError

    with launch(guest, code, RUNSTREAM_DRAIN="1") as script:
        run_id = first_line(script)
        killed: set[int] = set()
        while script.poll() is None:
            try:
                pid = guest.sender()
            except NoSenderError:
                time.sleep(0.02)
                continue
            if pid not in killed and len(killed) < MOST_SENDERS:
                time.sleep(0.3)
                os.kill(pid, signal.SIGKILL)
                killed.add(pid)
    assert len(killed) >= 2
    assert ended(client, guest.workspace, 1)[run_id].status == RunStatus.RUN_STATUS_COMPLETED
    series = {s.metric: s for s in client.get_metrics(guest.workspace, [run_id], identity=True).series}
    equal, blocks = series["equal"], series["list"]
    assert equal.values() == [1.0] * 200_000
    assert blocks.values() == [2.0] * 800
    assert equal.identity is not None
    assert blocks.identity is not None
    assert len(set(equal.identity.seq.tolist())) == 200_000
    assert len(set(zip(blocks.identity.seq.tolist(), blocks.identity.idx.tolist(), strict=True))) == 800
    assert len(series["empty 0"]) == 0


@pytest.mark.faults
def test_a_forked_worker_that_lives_on_does_not_keep_the_run_alive(guest: Place, client: Client) -> None:
    code = (
        BEGIN
        + """
run = experiment.start_logging()
run.log("main", 1)
pid = os.fork()
if pid == 0:
    run.log("worker", 2)
    sys.stdout.close()
    time.sleep(600)
    os._exit(0)
print(run.id, pid, flush=True)
time.sleep(600)
"""
    )
    with launch(guest, code) as script:
        run_id, worker = first_line(script).split()
        script.kill()
    try:
        found = wait_for(
            lambda: next((r for r in client.search_runs(guest.workspace) if r.ended_time_ns), None),
            "the run to end",
        )
        assert (found.ref.run, found.status) == (run_id, RunStatus.RUN_STATUS_FAILED)
        os.kill(int(worker), 0)  # it lives
    finally:
        os.kill(int(worker), signal.SIGKILL)
    metrics = client.get_metrics(guest.workspace, [run_id]).series
    assert {series.metric: series.values() for series in metrics} == {"main": [1], "worker": [2]}


ENDS = {
    "plain": ("", "COMPLETED"),
    "exit 0": ("sys.exit(0)", "COMPLETED"),
    "exit 1": ("sys.exit(1)", "FAILED"),
    "raised 1": ("raise SystemExit(1)", "FAILED"),
    "exception": ("raise ValueError('so it goes')", "FAILED"),
    "interrupt": ("signal.raise_signal(signal.SIGINT)", "CANCELED"),
    "terminated": ("signal.raise_signal(signal.SIGTERM)", "FAILED"),
    "_exit": ("os._exit(0)", "FAILED"),
    "complete": ("run.complete()", "COMPLETED"),
    "fail": ("run.fail('no use')", "FAILED"),
    "cancel": ("run.cancel()", "CANCELED"),
    "pool": (
        """
import multiprocessing
def work(n):
    run.log("worker", n)
    os.kill(os.getpid(), signal.SIGKILL) if n == 3 else os._exit(1)
workers = [multiprocessing.get_context("fork").Process(target=work, args=(n,)) for n in range(4)]
[w.start() for w in workers]; [w.join() for w in workers]
""",
        "COMPLETED",
    ),
}


def test_how_a_run_ended(guest: Place, client: Client) -> None:
    ids = {}
    for name, (code, _) in ENDS.items():
        script = guest.script(BEGIN + "run = experiment.start_logging(); print(run.id, flush=True)\n" + code)
        ids[name] = script.stdout.split("\n")[0]
    found = ended(client, guest.workspace, len(ENDS))
    statuses = {
        name: RunStatus.Name(found[run_id].status).removeprefix("RUN_STATUS_") for name, run_id in ids.items()
    }
    assert statuses == {name: status for name, (_, status) in ENDS.items()}
    assert "so it goes" in client.get_run(guest.workspace, ids["exception"]).error_message
    assert client.get_run(guest.workspace, ids["fail"]).error_message == "no use"
    (workers,) = client.get_metrics(guest.workspace, [ids["pool"]]).series
    assert sorted(workers.values()) == [0, 1, 2, 3]


def test_a_stopped_script_is_only_waited_for(guest: Place, client: Client) -> None:
    code = (
        BEGIN
        + """
with experiment.start_logging() as run:
    print(run.id, flush=True)
    for step in range(300_000):
        run.log("loss", float(step))
"""
    )
    with launch(guest, code) as script:
        run_id = first_line(script)
        time.sleep(0.05)  # in the middle of its calls
        script.send_signal(signal.SIGSTOP)
        time.sleep(3)
        wait_for(lambda: list(client.search_runs(guest.workspace)), "the run")
        assert [run.status for run in client.search_runs(guest.workspace)] == [RunStatus.RUN_STATUS_RUNNING]
        script.send_signal(signal.SIGCONT)
        assert script.wait(60) == 0
    assert ended(client, guest.workspace, 1)[run_id].status == RunStatus.RUN_STATUS_COMPLETED
    (series,) = client.get_metrics(guest.workspace, [run_id]).series
    assert series.values() == [float(step) for step in range(300_000)]


def test_an_old_spool_and_its_copy_are_one(guest: Place, client: Client, tmp_path: Path) -> None:
    """The sender delivers the original while `runstream sync` delivers a copy of it."""
    import shutil

    with launch(guest, LOGGER, "7", str(make_page(tmp_path))) as script:
        run_id = first_line(script)
        time.sleep(0.2)
        shutil.copytree(guest.spool, tmp_path / "copy", ignore_dangling_symlinks=True)
        synced = guest.runstream("sync", str(tmp_path / "copy"))
        assert synced.returncode == 0, synced.stderr
        script.kill()
    calls = struct.unpack("<q", (tmp_path / "page").read_bytes())[0]
    ended(client, guest.workspace, 1)
    stored = {(s.metric, s.column): s.values() for s in client.get_metrics(guest.workspace, [run_id]).series}
    assert stored in (Logged.by(7, calls).values, Logged.by(7, calls + 1).values)


def make_page(folder: Path) -> Path:
    page = folder / "page"
    page.write_bytes(bytes(8))
    return page
