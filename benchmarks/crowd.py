"""Many writers to one run through one ingest process of a cluster, and how the cluster comes back.

    python -m benchmarks.crowd [--processes 64] [--streams 1024] [--seconds 20] [case …]

`processes`  64 training processes (ranks of one launch) log to one run
`streams`    1,024 senders, simulated by their streams, publish to one run
`restart`    the writer is killed under half of that load and started again: how long until all is visible
`latency`    a probe's points beside half of that load: from the log call to the answer that has it

Kafka, Redis, the ClickHouse endpoint, one of each service and the load share this machine. What was logged is
compared with what is stored, by identity, after each case.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import grpc
import numpy as np

from benchmarks.machine import describe
from benchmarks.system import Costs, percentile, verdict
from deploy.cluster import Cluster
from deploy.engines.process import ROOT
from runstream import digest
from runstream.client import Client
from runstream.errors import NotFoundError, ServiceError
from runstream.internal.v1 import twin_pb2
from runstream.v1 import ingest_service_pb2_grpc, run_pb2
from runstream.v1 import query_service_pb2 as messages
from tests.server import Place, wait_for

BATCH: Final = 500
"""Elements that a simulated sender sends at once."""

RANK: Final = """
import os, sys, time
from runstream import Experiment, Workspace
run = Experiment(Workspace.from_config(), "crowd").start_logging(outputs=False)
print(run.id, flush=True)
rate, seconds = float(sys.argv[1]), float(sys.argv[2])
sys.stdin.readline()
begun, number = time.time(), 0
while (now := time.time()) < begun + seconds:
    wanted = int((now - begun) * rate)
    for number in range(number, wanted):
        run.log("loss", number * 0.5, step=number)
    number = max(number, wanted)
    time.sleep(0.01)
print(number, time.time() - begun, flush=True)
"""

PROBE: Final = """
import os, sys, time
from runstream import Experiment, Run, Workspace
experiment = Experiment(Workspace.from_config(), "crowd")
run = experiment.start_logging(outputs=False)
waits, until = [], time.time() + float(sys.argv[1])
while time.time() < until:
    sent = time.time()
    run.log("probe", sent)
    run.get_metrics("probe")
    waits.append(time.time() - sent)
    time.sleep(0.1)
print(" ".join(map(str, waits)), flush=True)
"""


class Crowd:
    """A cluster and what loads it."""

    def __init__(self, cluster: Cluster, root: Path) -> None:
        self.cluster = cluster
        self.place = Place(root / "user")

    def rank(self, rank: int, ranks: int, job: str, rate: float, seconds: float) -> subprocess.Popen[str]:
        """A training process."""
        places = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(ranks)}
        return self._script(RANK, rate, seconds, RUNSTREAM_LAUNCH_ID=job, **places)

    def probe(self, seconds: float) -> subprocess.Popen[str]:
        """A process that logs and reads back."""
        return self._script(PROBE, seconds)

    def _script(self, code: str, *arguments: object, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", code, *map(str, arguments)],
            env=self.place.environment(
                **self.cluster.client(), RUNSTREAM_HTTP_SERVER=self.cluster.http[0], **environment
            ),
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def client(self) -> Client:
        """What reads."""
        return Client(self.cluster.http[0], self.cluster.token, timeout_s=600)

    def pids(self) -> dict[str, int]:
        """The cluster's processes."""
        found = {"kafka": self.cluster.kafka.engines[0].pid, "clickhouse": self.cluster.clickhouse.engine.pid}
        return found | {role: services[0].pid for role, services in self.cluster.services.items()}


def peaks_mib(pids: dict[str, int]) -> dict[str, int]:
    """The most memory that each has had."""
    found = {}
    for name, pid in pids.items():
        status = Path(f"/proc/{pid}/status").read_text()
        found[name] = int(status.partition("VmHWM:")[2].split()[0]) // 1024
    return found


def told(crowd: Crowd, costs: Costs, points: int, seconds: float) -> None:
    """Prints rate, CPU and memory."""
    used = costs.used()
    shown = ", ".join(f"{name} {cpu / points * 1e6:.2f}" for name, cpu in used.items())
    print(f"  {points:,} points in {seconds:.1f} s: {points / seconds:,.0f} a second")
    print(f"  CPU seconds a million points: {sum(used.values()) / points * 1e6:.2f} ({shown})")
    print("  peak MiB: " + ", ".join(f"{name} {mib}" for name, mib in peaks_mib(crowd.pids()).items()))


def processes(crowd: Crowd, count: int, rate: float, seconds: float) -> str:
    """Ranks of one run, each a process."""
    job = f"crowd-{os.urandom(6).hex()}"
    ranks = [crowd.rank(rank, count, job, rate / count, seconds) for rank in range(count)]
    runs = {rank.stdout.readline().strip() for rank in ranks if rank.stdout}
    (run,) = runs
    costs = Costs(**crowd.pids())
    began = time.monotonic()
    for rank in ranks:
        assert rank.stdin is not None
        rank.stdin.write("go\n")
        rank.stdin.flush()
    logged = [int(rank.communicate()[0].split()[0]) for rank in ranks]
    logged_s = time.monotonic() - began
    with crowd.client() as client:
        wait_for(lambda: _is_applied(client, run, count), "everything to be applied", 600)
        applied_s = time.monotonic() - began
        ledger = client.get_ledger("local", run)
    stored = sum(one.stored for one in ledger.writers)
    assert (ledger.state, stored) == (messages.LEDGER_STATE_PROVEN, sum(logged)), ledger.state
    print(f"{count} processes to one run, {rate:,.0f} points a second wanted for {seconds:.0f} s")
    told(crowd, costs, stored, applied_s)
    print(f"  applied {applied_s - logged_s:.1f} s after the last was logged; proven by identity")
    return run


async def streams(crowd: Crowd, count: int, seconds: float) -> None:
    """Streams of many senders, each with a writer of its own and one request under way."""
    run = f"streams-{os.urandom(4).hex()}"
    channels = [
        grpc.aio.insecure_channel(crowd.cluster.grpc[0], options=[("grpc.use_local_subchannel_pool", 1)])
        for _ in range(16)
    ]
    metadata = (("authorization", f"Bearer {crowd.cluster.token}"),)
    factor = digest.factor("loss", "")

    async def join(number: int) -> tuple[Any, bytes]:
        stub: Any = ingest_service_pb2_grpc.IngestServiceStub(channels[number % len(channels)])
        publish, writer = stub.Publish(metadata=metadata), os.urandom(16)
        await publish.write(_request(0, _started(run, writer)))
        await publish.read()
        return publish, writer

    async def log(number: int, publish: Any, writer: bytes) -> int:
        seq, positions = 0, ()
        rng = np.random.default_rng(number)
        while time.monotonic() < began + seconds:
            await publish.write(_request(seq + 1, _points(run, writer, seq, rng)))
            answer = await publish.read()
            assert not answer.errors, answer.errors
            seq += BATCH
            positions = answer.positions
        total = int(digest.mix(np.arange(seq, dtype=np.uint64), None).sum()) * factor & digest.MASK
        await publish.write(_request(seq + 1, _ended(run, writer, seq, total, positions)))
        await publish.read()
        await publish.done_writing()
        return seq

    joined = await asyncio.gather(*map(join, range(count)))
    costs = Costs(**crowd.pids())
    began = time.monotonic()
    points = sum(await asyncio.gather(*(log(number, *one) for number, one in enumerate(joined))))
    sent_s = time.monotonic() - began
    for channel in channels:
        await channel.close()
    with crowd.client() as client:
        applied = lambda: _is_applied(client, run, count)  # noqa: E731
        await asyncio.to_thread(wait_for, applied, "everything to be applied", 900)
        applied_s = time.monotonic() - began
        ledger = await asyncio.to_thread(client.get_ledger, "local", run)
    assert (ledger.state, len(ledger.writers)) == (1, count), (ledger.state, len(ledger.writers))
    print(f"{count:,} streams to one run, batches of {BATCH} points")
    told(crowd, costs, points, applied_s)
    print(f"  acknowledged at {points / sent_s:,.0f} points a second; proven by identity")


def _request(number: int, *records: Any) -> Any:
    return twin_pb2.PublishRequest(request_id=number, records=records)


def _points(run: str, writer: bytes, seq: int, rng: np.random.Generator) -> Any:
    now = time.time_ns()
    batch = twin_pb2.PointBatch(
        writer=writer,
        first_seq=seq,
        count=BATCH,
        doubles=rng.standard_normal(BATCH).tobytes(),
        step=np.arange(seq, seq + BATCH, dtype=np.int64).tobytes(),
        time_ns=np.full(BATCH, now, np.int64).tobytes(),
    )
    batch.runs.add(workspace="local", run=run)
    batch.series.add(metric="loss")
    return twin_pb2.PublishRecord(points=batch.SerializeToString())


def _event(run: str, writer: bytes, *events: dict[str, Any]) -> Any:
    batch = run_pb2.RunEventBatch(writer=writer)
    for event in events:
        batch.events.add(run={"workspace": "local", "run": run}, time_ns=time.time_ns(), **event)
    return twin_pb2.PublishRecord(run_events=batch.SerializeToString())


def _started(run: str, writer: bytes) -> Any:
    return _event(run, writer, {"writer_started": run_pb2.WriterStarted(role=run_pb2.WRITER_ROLE_ATTACHED)})


def _ended(run: str, writer: bytes, seq: int, total: int, positions: Any) -> Any:
    ended = run_pb2.WriterEnded(
        role=run_pb2.WRITER_ROLE_ATTACHED, outcome=run_pb2.WRITER_OUTCOME_CLEAN, seq_end=seq, observed=True
    )
    drained = run_pb2.WriterDrained(seq_end=seq, positions=positions, logged=seq, logged_digest=total)
    return _event(run, writer, {"writer_ended": ended}, {"writer_drained": drained})


def beside_load(crowd: Crowd, count: int, rate: float, seconds: float, act: Callable[[str], None]) -> None:
    """Does something while processes log to one run; what they logged is proven afterwards."""
    job = f"crowd-{os.urandom(6).hex()}"
    ranks = [crowd.rank(rank, count, job, rate / count, seconds) for rank in range(count)]
    runs = {rank.stdout.readline().strip() for rank in ranks if rank.stdout}
    (run,) = runs
    for rank in ranks:
        assert rank.stdin is not None
        rank.stdin.write("go\n")
        rank.stdin.flush()
    time.sleep(seconds / 4)
    act(run)
    logged = sum(int(rank.communicate()[0].split()[0]) for rank in ranks)
    with crowd.client() as client:
        wait_for(lambda: _is_applied(client, run), "all to be applied", 600)
        ledger = client.get_ledger("local", run)
    assert (ledger.state, sum(one.stored for one in ledger.writers)) == (1, logged)


def restart(crowd: Crowd, rate: float, seconds: float) -> None:
    """How long it takes until the writer, killed and started, has applied something new."""

    def act(run: str) -> None:
        writer = crowd.cluster.services["writer"][0]
        taken = []
        with crowd.client() as client:
            wait_for(lambda: _applied(client, run), "the run to be there", 120)
            for _ in range(3):
                writer.kill()
                before = _applied(client, run)
                began = time.monotonic()
                writer.spawn()
                wait_for(lambda before=before: _applied(client, run) > before, "the writer", 120)  # type: ignore[misc]
                taken.append(time.monotonic() - began)
                writer.wait()
                time.sleep(2)
        print(f"writer killed and started three times under {rate:,.0f} points a second")
        print(f"  applies again after {', '.join(f'{one:.1f}' for one in taken)} s", end="; ")
        print(verdict(max(taken), 5, most=True))

    beside_load(crowd, 8, rate, seconds, act)


def _is_applied(client: Client, run: str, writers: int = 1) -> bool:
    """Whether all that at least so many writers have logged is in the tables."""
    try:
        shown = client.get_ledger("local", run, compare=False)
    except NotFoundError:  # nothing has come yet
        return False
    return shown.state == messages.LEDGER_STATE_APPLIED and len(shown.writers) >= writers


def _applied(client: Client, run: str) -> int:
    """Sum of the positions of points that are applied."""
    try:
        positions = client.get_ledger("local", run, compare=False).as_of
    except (NotFoundError, ServiceError):  # nothing has come yet, or the writer is just going
        return 0
    return sum(one.offset for one in positions if one.topic == "points")


def latency(crowd: Crowd, rate: float, seconds: float) -> None:
    """From a log call to the answer of a read that has it."""

    def act(run: str) -> None:
        waits = [float(one) for one in crowd.probe(seconds / 2).communicate()[0].split()]
        print(f"log → visible beside {rate:,.0f} points a second, {len(waits)} probes, by run.get_metrics()")
        print(
            f"  median {percentile(waits, 0.5) * 1000:.0f} ms, p95 {percentile(waits, 0.95) * 1000:.0f} ms",
            end="; ",
        )
        print(verdict(percentile(waits, 0.95) * 1000, 1000, most=True))

    beside_load(crowd, 8, rate, seconds, act)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--processes", type=int, default=64)
    parser.add_argument("--streams", type=int, default=1024)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--rate", type=float, default=100_000, help="points a second that the processes log")
    parser.add_argument("case", nargs="*", help="processes, streams, restart, latency; all by default")
    given = parser.parse_args()
    cases = given.case or ["processes", "streams", "restart", "latency"]
    print(describe())
    with tempfile.TemporaryDirectory(prefix="runstream-bench-", ignore_cleanup_errors=True) as folder:
        cluster = Cluster(Path(folder) / "cluster", log_options="partitions=4").start()
        crowd = Crowd(cluster, Path(folder))
        try:
            if "processes" in cases:
                processes(crowd, given.processes, given.rate, given.seconds)
            if "streams" in cases:
                asyncio.run(streams(crowd, given.streams, given.seconds))
            if "restart" in cases:
                restart(crowd, given.rate / 2, 2 * given.seconds)
            if "latency" in cases:
                latency(crowd, given.rate / 2, given.seconds)
        finally:
            crowd.place.close()
            cluster.stop()


if __name__ == "__main__":
    main()
