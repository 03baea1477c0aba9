"""The whole line on real engines under load, for the fault tests: ranks that log, senders, services, and the
comparison of what was logged with what can be read.

Two users, as if on two machines, run four ranks each of one training. Their senders reach ingest through a
proxy that can lose what comes back.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import random
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from clickhouse_connect import get_client

from deploy.cluster import Cluster
from deploy.engines.process import ROOT, Engine
from runstream.client import Client, Selection
from runstream.columns import Series
from runstream.errors import RunstreamError
from runstream_store.log import open_log
from runstream_store.tables import open_tables
from tests.faults.losing import LosingProxy
from tests.server import Place, wait_for

RANKS = 8
MACHINES = 2
PATIENCE_S = 300.0  # never reached when all is well; the machine may be busy
MOST_MIB = 900  # of one service or sender, whatever happens


def seeds(*default: int) -> list[int]:
    """Seeds of a test: `RUNSTREAM_FAULT_SEEDS=7,8`, else these, of which `make faults` takes all."""
    given = os.environ.get("RUNSTREAM_FAULT_SEEDS")
    if given:
        return [int(seed) for seed in given.split(",")]
    return list(default) if long() else list(default[:1])


def long() -> bool:
    """Whether this is the long form."""
    return os.environ.get("RUNSTREAM_FAULTS") == "long"


def peak_mib(pid: int) -> int:
    """The most memory that a process has had, MiB; 0 when it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return int(status.partition("VmHWM:")[2].split()[0]) // 1024


@dataclass
class Outcome:
    """What a test found: a line of the table."""

    fault: str
    seed: int
    elements: int = 0
    lost: int = 0
    twice: int = 0
    disordered: int = 0
    recovery_s: list[float] = field(default_factory=list)
    peaks_mib: dict[str, int] = field(default_factory=dict)
    note: str = ""

    def __str__(self) -> str:
        recovery = ", ".join(f"{one:.1f}" for one in self.recovery_s) or "-"
        peaks = ", ".join(f"{name} {mib}" for name, mib in sorted(self.peaks_mib.items()))
        found = (
            f"{self.fault:42} seed {self.seed:<6} {self.elements:>9,} elements, lost {self.lost}, "
            f"twice {self.twice}, out of order {self.disordered}; visible again after {recovery} s; "
            f"peak MiB: {peaks}"
        )
        return f"{found}; {self.note}" if self.note else found


class Line:
    """A cluster, and trainings on it."""

    def __init__(self, cluster: Cluster, root: Path) -> None:
        self.cluster = cluster
        self.root = root
        host, _, port = cluster.grpc[0].rpartition(":")
        self.proxy = LosingProxy(host, int(port))
        self.places = [Place(root / f"machine-{number}") for number in range(MACHINES)]
        self.peaks: dict[str, int] = {}
        self.last: Training | None = None
        """The last training that was proven to be whole."""

    def client(self) -> Client:
        """What reads."""
        return Client(self.cluster.http[0], self.cluster.token)

    def services(self) -> Iterator[Engine]:
        """Those that run."""
        for services in self.cluster.services.values():
            for service in services:
                if service.running():
                    yield service

    def note_peaks(self) -> None:
        """Looks at everybody's memory. Called before each kill and at the end."""
        pids = {service.name: service.pid for service in self.services()}
        for number, place in enumerate(self.places, 1):
            try:
                pids[f"sender {number}"] = place.sender()
            except Exception:
                continue
        for name, pid in pids.items():
            self.peaks[name] = max(self.peaks.get(name, 0), peak_mib(pid))

    def truncate(self, tables: Sequence[str]) -> None:
        """Empties tables."""
        url = urlsplit(self.cluster.settings["RUNSTREAM_TABLES_URL"])
        client = get_client(host=url.hostname, port=url.port, database=url.path.strip("/"))
        try:
            for table in tables:
                client.command(f"TRUNCATE TABLE {table}")
        finally:
            client.close()

    def rows_written(self) -> int:
        """Rows that the writer has inserted since it was started."""
        writer = self.cluster.services["writer"][0]
        found = re.findall(r"HTTP +(http://\S+)", writer.log.read_text())
        with urllib.request.urlopen(f"{found[-1]}/metrics", timeout=60) as answer:
            lines = answer.read().decode().splitlines()
        counts = [line.split()[-1] for line in lines if line.startswith("runstream_writer_rows_total")]
        return int(sum(float(count) for count in counts))

    def await_read_up(self) -> None:
        """Waits until the writer has applied all that the log holds."""

        async def left() -> int:
            log = await open_log(self.cluster.settings["RUNSTREAM_LOG_URL"])
            tables = await open_tables(self.cluster.settings["RUNSTREAM_TABLES_URL"])
            behind = 0
            try:
                rows = await tables.query(
                    "SELECT topic, partition, max(offset) AS o FROM applied GROUP BY ALL"
                )
                applied = {(row["topic"], row["partition"]): row["o"] for row in rows.to_pylist()}
                for topic in ("points", "runs"):
                    for partition in range(await log.partitions(topic)):
                        first, end = await log.bounds(topic, partition)
                        behind += max(end - 1 - applied.get((topic, partition), first - 1), 0)
            finally:
                await log.close()
                await tables.close()
            return behind

        wait_for(lambda: not asyncio.run(left()), "the log to be read up", PATIENCE_S)

    def close(self) -> None:
        """Ends senders and proxy; the cluster is somebody else's."""
        for place in self.places:
            place.close()
        self.proxy.close()

    @contextmanager
    def training(self, outcome: Outcome, *, pace_s: float, compare: bool = True) -> Iterator[Training]:
        """Eight ranks that log while the block runs. Afterwards they end, and what is stored is compared."""
        self.peaks = {}
        training = Training(self, outcome, pace_s)
        try:
            training.start()
            yield training
            training.finish(compare)
        finally:
            training.kill()


class Training:
    """Ranks of one run."""

    def __init__(self, line: Line, outcome: Outcome, pace_s: float) -> None:
        self.line = line
        self.outcome = outcome
        self.folder = line.root / f"training-{os.urandom(4).hex()}"
        self.folder.mkdir()
        self._pace_s = pace_s
        self._ranks: list[subprocess.Popen[bytes]] = []
        self.run = ""

    def start(self) -> None:
        """Returns when all ranks log."""
        job = f"faults-{os.urandom(6).hex()}"
        for rank in range(RANKS):
            place = self.line.places[rank % MACHINES]
            with (self.folder / f"out-{rank}").open("wb") as out:
                self._ranks.append(
                    subprocess.Popen(
                        [
                            sys.executable,
                            "-m",
                            "tests.faults.training",
                            str(self.folder),
                            str(self._pace_s),
                        ],
                        cwd=ROOT,
                        env=place.environment(
                            RUNSTREAM_SERVER=self.line.proxy.address,
                            RUNSTREAM_HTTP_SERVER=self.line.cluster.http[0],
                            RUNSTREAM_API_KEY=self.line.cluster.token,
                            RUNSTREAM_LAUNCH_ID=job,
                            RUNSTREAM_SENDER_RETRY_MAX_S="1",
                            RANK=str(rank),
                            LOCAL_RANK=str(rank),
                            WORLD_SIZE=str(RANKS),
                        ),
                        stdin=subprocess.DEVNULL,
                        stdout=out,
                        stderr=out,
                    )
                )
        wait_for(
            lambda: all((self.folder / f"run-{rank}").exists() for rank in range(RANKS)) and self._alive(),
            "the ranks to log",
            PATIENCE_S,
        )
        (self.run,) = {(self.folder / f"run-{rank}").read_text() for rank in range(RANKS)}
        self.await_visible()

    def _alive(self) -> bool:
        for rank, process in enumerate(self._ranks):
            out = (self.folder / f"out-{rank}").read_text()
            assert process.poll() is None, f"rank {rank} ended:\n{out}"
        return True

    # ------------------------------------------------------------------------------ while it runs

    def logged(self) -> list[int]:
        """How many scalars each rank has logged by now."""
        return [int((self.folder / f"progress-{rank}").read_text() or 0) for rank in range(RANKS)]

    def await_visible(self) -> float:
        """Waits until all that is logged by now can be read. How long that took, seconds."""
        began = time.monotonic()
        wanted = self.logged()

        def seen() -> bool:
            self._alive()
            try:
                with self.line.client() as client:
                    names = [f"scalar-{rank}" for rank in range(RANKS)]
                    found = client.get_buckets(
                        "local", [self.run], names, buckets=1, timeout_s=5, allow_settling=True
                    )
            except RunstreamError:
                return False
            last = {one.metric: int(one.last_x[-1]) for one in found}
            return all(last.get(name, -1) + 1 >= count for name, count in zip(names, wanted, strict=True))

        wait_for(seen, "what was logged to be visible", PATIENCE_S)
        return time.monotonic() - began

    def hit(self, victim: Engine, down_s: float) -> None:
        """`kill -9`, a while without it, a start; then all that was logged meanwhile becomes visible."""
        self.line.note_peaks()
        victim.kill()
        time.sleep(down_s)
        with self.recovering():
            began = time.monotonic()
            victim.start()
            print(f"{victim.name}: down {down_s:.1f} s, answers after {time.monotonic() - began:.1f} s")

    @contextmanager
    def recovering(self) -> Iterator[None]:
        """Notes how long it takes from the beginning of the block until all that was logged by its end can
        be read."""
        began = time.monotonic()
        yield
        self.await_visible()
        self.outcome.recovery_s.append(time.monotonic() - began)

    # --------------------------------------------------------------------------------- its end

    def finish(self, compare: bool) -> None:
        """Ends the ranks, and compares."""
        self._alive()
        (self.folder / "stop").touch()
        for process in self._ranks:
            process.wait(PATIENCE_S)
        self.line.note_peaks()
        self.outcome.peaks_mib = dict(self.line.peaks)
        if compare:
            self.compare(self.truth())
            print(self.outcome)
            self.line.last = self
        for name, mib in self.line.peaks.items():
            assert mib < MOST_MIB, f"{name} took {mib} MiB"

    def truth(self) -> list[dict[str, int]]:
        """What the ranks say that they have logged."""
        found = []
        for rank in range(RANKS):
            path = self.folder / f"logged-{rank}"
            assert path.exists(), (self.folder / f"out-{rank}").read_text()
            found.append(json.loads(path.read_text()))
        return found

    def verify(self) -> dict[str, Any]:
        """What `runstream verify` finds out, at each machine."""
        found: dict[str, Any] = {}
        for place in self.line.places:
            done = place.runstream(
                "verify",
                self.run,
                "--json",
                "--timeout",
                "120",
                RUNSTREAM_SERVER=self.line.cluster.grpc[0],
                RUNSTREAM_HTTP_SERVER=self.line.cluster.http[0],
                RUNSTREAM_API_KEY=self.line.cluster.token,
            )
            assert done.stdout, done.stderr
            found = json.loads(done.stdout)
        return found

    def compare(self, truth: list[Mapping[str, int]] | list[dict[str, int]]) -> None:
        """Every element that was logged is there, once, in its order; and the ledger proves it."""
        found = self.verify()
        assert (found["state"], found["exit_code"]) == ("proven", 0), json.dumps(found, indent=1)
        outcome = self.outcome
        logged = sum(one["scalars"] + 3 * one["lists"] for one in truth)
        assert sum(one["stored"] for one in found["writers"]) == logged
        with self.line.client() as client:
            series = client.get_metrics("local", [self.run], Selection(), identity=True).series
            tags = {one.key: one.value for one in client.get_run("local", self.run).attributes}
        by_name = {one.metric: one for one in series}
        assert len(by_name) == len(series)
        for one in truth:
            rank = one["rank"]
            scalars = by_name[f"scalar-{rank}"]
            self._count(scalars.values(), _places(scalars), [float(n) for n in range(one["scalars"])])
            if one["lists"]:
                lists = by_name[f"list-{rank}"]
                wanted = [v for n in range(one["lists"]) for v in (float(n), n + 0.5, math.nan)]
                self._count(lists.values(), _places(lists), wanted)
            assert all(tags[f"tag-{rank}-{n}"] == str(n) for n in range(one["tags"]))
        assert (outcome.lost, outcome.twice, outcome.disordered) == (0, 0, 0), outcome

    def _count(self, values: list[Any], places: list[Any], wanted: list[float]) -> None:
        self.outcome.elements += len(values)
        self.outcome.lost += max(len(wanted) - len(set(places)), 0)
        self.outcome.twice += len(places) - len(set(places))
        in_order = repr(values) == repr(wanted) and places == sorted(places)
        self.outcome.disordered += not in_order

    def kill(self) -> None:
        """Ends what is left."""
        for process in self._ranks:
            if process.poll() is None:
                process.kill()
            process.wait()


def _places(series: Series) -> list[tuple[int, int]]:
    """Where in its writer each element was logged. There is one writer in a series."""
    identity = series.identity
    assert identity is not None
    assert len({one.tobytes() for one in identity.writer[:: max(len(series) // 1000, 1)]}) <= 1
    return list(zip(identity.seq.tolist(), identity.idx.tolist(), strict=True))


def chance(seed: int, fault: str) -> random.Random:
    """The moments of one test, told so that they can be had again."""
    print(f"{fault}: RUNSTREAM_FAULT_SEEDS={seed}")
    return random.Random(f"{seed} {fault}")
