"""What Kafka between costs: the same scripts on embedded engines, with Kafka as the event log, and on a whole
cluster of processes.

    python -m benchmarks.kafka [--rounds 3] [--points 2000000] [--cluster]

Points a second until another process reads the last one through the public API, and CPU seconds of each
process for a million points. All share this machine: Kafka's JVM too.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from benchmarks.machine import describe
from benchmarks.pipeline import Bench, Round, cases, report
from benchmarks.system import spread, system, verdict
from deploy.cluster import Cluster
from deploy.engines.kafka import Kafka

_CASES: Final = ("one", "processes", "lists")
_WANTED: Final = 0.7


@contextmanager
def embedded() -> Iterator[Bench]:
    """SQLite and chDB in one process."""
    with system() as running:
        yield Bench(running)


@contextmanager
def kafka_between() -> Iterator[Bench]:
    """The same with Kafka in the place of SQLite."""
    with tempfile.TemporaryDirectory(prefix="bench-kafka-") as folder:
        server = Kafka(Path(folder)).start()
        try:
            url = f"{server.url}/bench?replication=1&partitions=8"
            with system(RUNSTREAM_LOG_URL=url) as running:
                yield Bench(running, {"kafka": server.engines[0].pid})
        finally:
            server.stop()


@contextmanager
def cluster() -> Iterator[Bench]:
    """Everything as a process of its own: Kafka, Redis, the ClickHouse endpoint, ingest, writer, query."""
    with tempfile.TemporaryDirectory(prefix="bench-cluster-") as folder:
        made = Cluster(Path(folder), log_options="partitions=8").start()
        try:
            processes = {role: services[0].pid for role, services in made.services.items()}
            processes |= {
                "kafka": made.kafka.engines[0].pid,
                "redis": made.redis.engine.pid,
                "clickhouse": made.clickhouse.engine.pid,
            }
            with system(server=False, settings=made.client()) as running:
                yield Bench(running, processes)
        finally:
            made.stop()


def measure(rounds: int, points: int, *, whole: bool) -> None:
    """Runs all cases on each system, in turn, and prints rates and ratios.

    All systems stay for the whole time and take turns in each round, so that whatever else this machine does
    falls on all of them; a ratio is the median of the rounds'.
    """
    systems = {"embedded": embedded, "kafka": kafka_between, **({"cluster": cluster} if whole else {})}
    found: dict[tuple[str, str], list[Round]] = {}
    with ExitStack() as stack:
        benches = {name: stack.enter_context(make()) for name, make in systems.items()}
        chosen = {name: cases(bench, points) for name, bench in benches.items()}
        for runs in chosen.values():  # warm: a JVM takes its time
            for _ in range(2):
                runs["one"]()
        for _ in range(rounds):
            for case in _CASES:
                for name, runs in chosen.items():
                    found.setdefault((name, case), []).append(runs[case]())
        for bench in benches.values():
            bench.reader.end()
    for name in systems:
        print(f"== {name}")
        for case in _CASES:
            report(case, found[name, case])
    for case in _CASES:
        for name in list(systems)[1:]:
            pairs = zip(found[name, case], found["embedded", case], strict=True)
            shares = [one.rate / base.rate for one, base in pairs]
            median = statistics.median(shares)
            said = verdict(median, _WANTED) if name == "kafka" else "no limit: more processes than cores"
            print(f"{case}: {name} {spread(shares, '.0%')} of embedded; {said}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--points", type=int, default=2_000_000)
    parser.add_argument("--cluster", action="store_true", help="the whole cluster, too")
    options = parser.parse_args()
    print(describe())
    measure(options.rounds, options.points, whole=options.cluster)


if __name__ == "__main__":
    main()
