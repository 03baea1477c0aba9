"""From a script to a reader in another process: points a second, and what each part pays for them.

    python -m benchmarks.pipeline [--rounds 3] [--points 2000000] [case …]

A case is over when another process reads the last point through the public API. Beside them, in the same run:
rows straight into the same table (`insert_arrow`), a list's append, and a plain file of JSON lines.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.machine import describe
from benchmarks.system import Costs, System, spread, system, verdict
from runstream_store.tables.clickhouse_client import embedded

BEGIN: Final = """
import numpy as np
def begin():
    run = experiment.start_logging(outputs=False)
    run.log("begun", 1)
    say(run=run.id)
    return run, wait()

def end(run, points, began, cpu):
    wall, used = time.time() - began, time.process_time() - cpu
    run.log("end", points)
    say(began=began, wall=wall, cpu=used, points=points)
    wait()
"""

ONE: Final = (
    BEGIN
    + """
run, what = begin()
log, count = run.log, what["points"]
began, cpu = time.time(), time.process_time()
for step in range(count):
    log("loss", 0.5, step=step)
end(run, count, began, cpu)
"""
)

# Values that don't compress better than those of a training.
NOISY: Final = (
    BEGIN
    + """
values = np.random.default_rng(1).normal(1, 0.1, 100_000).tolist()
run, what = begin()
log, count = run.log, what["points"]
began, cpu = time.time(), time.process_time()
for step in range(count):
    log("loss", values[step % 100_000], step=step)
end(run, count, began, cpu)
"""
)

# One metric after the other in a step: `metrics` of them.
MANY: Final = (
    BEGIN
    + """
run, what = begin()
log, steps = run.log, what["points"] // what["metrics"]
names = [f"metric/{number}" for number in range(what["metrics"])]
began, cpu = time.time(), time.process_time()
for step in range(steps):
    for name in names:
        log(name, 0.5, step=step)
end(run, steps * len(names), began, cpu)
"""
)

LISTS: Final = (
    BEGIN
    + """
run, what = begin()
count, size = what["points"], what["size"]
values = np.random.default_rng(1).normal(size=size)
began, cpu = time.time(), time.process_time()
for _ in range(count // size):
    run.log_list("list", values)
end(run, count, began, cpu)
"""
)

TABLES: Final = (
    BEGIN
    + """
run, what = begin()
count, size = what["points"], what["size"]
values = np.random.default_rng(1).normal(size=size // 4)
began, cpu = time.time(), time.process_time()
for _ in range(count // size):
    run.log_table("table", {name: values for name in "abcd"})
end(run, count, began, cpu)
"""
)

# All eight log to one run, which the first has started.
SHARED: Final = """
what = wait()
run = Run(experiment, what["run"])
run.log("begun", 1)
say(ready=True)
count = wait()["points"]
log = run.log
began, cpu = time.time(), time.process_time()
for step in range(count):
    log("loss", 0.5, step=step)
wall, used = time.time() - began, time.process_time() - cpu
run.log("end", count)
say(began=began, wall=wall, cpu=used, points=count)
wait()
"""

# What nobody can beat: a list; and what people do by hand.
PLAIN: Final = """
import json, sys, tempfile, time
count = int(sys.argv[1])
kept = []
append = kept.append
began = time.perf_counter()
for step in range(count):
    append(0.5)
appended = time.perf_counter() - began
with tempfile.TemporaryFile("w") as file:
    began = time.perf_counter()
    for step in range(count):
        file.write(json.dumps({"name": "loss", "value": 0.5, "step": step, "time": time.time_ns()}) + "\\n")
        file.flush()
    written = time.perf_counter() - began
print(json.dumps({"list": count / appended, "jsonl": count / written}))
"""

# `insert_arrow` of the same rows into a table of the same form, in blocks as the writer makes them.
RAW: Final = """
import json, sys, tempfile, time
import clickhouse_connect
from pathlib import Path
from benchmarks.insert import Rows
from runstream_store.tables.clickhouse_client import embedded
from runstream_store.tables import migrate
with tempfile.TemporaryDirectory() as folder:
    made = embedded(Path(folder), writes=True)
    migrate.apply(made, migrate.load())
    made.close()
    client = clickhouse_connect.get_client(interface="chdb", path=folder)
    rows = Rows()
    settings = {"optimize_on_insert": 0, "async_insert": 0}
    client.insert_arrow("points", rows.block(1000), settings=settings)
    blocks = [rows.block(500_000) for _ in range(max(1, int(sys.argv[1]) // 500_000))]
    began, cpu = time.perf_counter(), time.process_time()
    for block in blocks:
        client.insert_arrow("points", block, settings=settings)
    seconds, used = time.perf_counter() - began, time.process_time() - cpu
    total = 500_000 * len(blocks)
    print(json.dumps({"raw": total / seconds, "raw_cpu": used / total * 1e6}))
    client.close()
"""


@dataclass
class Round:
    """What one round of a case gave."""

    points: int
    seconds: float
    """From the first call to readable elsewhere."""
    wall: float
    """In the script's loop."""
    cpu: dict[str, float]

    @property
    def rate(self) -> float:
        return self.points / self.seconds


class Bench:
    """A system that stays for all cases."""

    def __init__(self, running: System, processes: Mapping[str, int] | None = None) -> None:
        """`processes` are more of them whose cost is told, by name."""
        self.running = running
        self.reader = running.reader()
        self._processes = dict(processes or {})
        if running.server is not None:
            self._processes["server"] = running.server.process.pid

    def alone(self, code: str, points: int, **what: object) -> Round:
        """A script that logs to a run of its own."""
        script = self.running.script(code)
        run = str(script.answer()["run"])
        time.sleep(1.0)  # the server rests
        costs = Costs(sender=self.running.sender(), reader=self.reader.pid, **self._processes)
        script.go(points=points, **what)
        self.reader.go(run=run, ends=1)
        said = script.answer()
        at = float(self.reader.answer()["at"])
        used = {"script": float(said["cpu"]), **costs.used()}
        script.go()
        script.end()
        return Round(int(said["points"]), at - float(said["began"]), float(said["wall"]), used)

    def together(self, points: int, processes: int) -> Round:
        """Processes that log into one run."""
        owner = self.running.script(BEGIN + "run, what = begin()")
        run = str(owner.answer()["run"])
        scripts = [self.running.script(SHARED) for _ in range(processes)]
        for script in scripts:
            script.go(run=run)
        for script in scripts:
            script.answer()
        time.sleep(1.0)
        costs = Costs(sender=self.running.sender(), reader=self.reader.pid, **self._processes)
        for script in scripts:
            script.go(points=points // processes)
        self.reader.go(run=run, ends=processes)
        said = [script.answer() for script in scripts]
        at = float(self.reader.answer()["at"])
        used = {"script": sum(float(one["cpu"]) for one in said), **costs.used()}
        for script in (*scripts, owner):
            script.go()
            script.end()
        began = min(float(one["began"]) for one in said)
        return Round(
            sum(int(one["points"]) for one in said),
            at - began,
            statistics.mean(float(one["wall"]) for one in said),
            used,
        )


def cases(bench: Bench, points: int) -> dict[str, Callable[[], Round]]:
    """All cases, by name."""
    return {
        "one": lambda: bench.alone(ONE, points),
        "1x100k": lambda: bench.alone(MANY, 100_000, metrics=1),
        "1000x100": lambda: bench.alone(MANY, 100_000, metrics=1000),
        "processes": lambda: bench.together(points, 8),
        "lists": lambda: bench.alone(LISTS, 2 * points, size=100_000),
        "small_lists": lambda: bench.alone(LISTS, points, size=1_000),
        "tables": lambda: bench.alone(TABLES, 2 * points, size=100_000),
    }


def report(name: str, rounds: list[Round]) -> float:
    """Prints what a case gave. Returns its points a second."""
    rates = [one.rate for one in rounds]
    parts = [
        f"{part} {statistics.median(one.cpu[part] / one.points * 1e6 for one in rounds):.2f}"
        for part in rounds[0].cpu
    ]
    print(
        f"{name:>12}: {spread(rates)} points/s until readable,"
        f" {statistics.median(one.wall / one.points * 1e6 for one in rounds):.2f} µs a call or element;"
        f" CPU s per million: {', '.join(parts)}"
    )
    return statistics.median(rates)


def bytes_per_point(points: int) -> None:
    """Logs, and prints what a point takes in spool, log and table."""
    with system() as running:
        script = running.script(NOISY)
        script.answer()
        before = {part: running.folder_bytes(*paths) for part, paths in _folders(running).items()}
        most, after = dict.fromkeys(before, 0), dict.fromkeys(before, 0)
        script.go(points=points)
        for _ in range(60):
            for part, paths in _folders(running).items():
                after[part] = running.folder_bytes(*paths) - before[part]
                most[part] = max(most[part], after[part])
            time.sleep(0.5)
        script.answer()
        script.go()
        script.end()
        assert running.server is not None
        running.server.stop()
        tables = embedded(running.place.data / "tables", writes=False)
        ((active,),) = tables.rows(
            "SELECT sum(bytes_on_disk) FROM system.parts WHERE active AND table = 'points'"
        )
        tables.close()
    print(
        "bytes a point on the disk, at the most and 30 s later: "
        + ", ".join(f"{part} {most[part] / points:.1f} and {after[part] / points:.1f}" for part in before)
        + f"; in the parts of the table that are read {int(str(active)) / points:.1f}; "
        + verdict(int(str(active)) / points, 10, most=True)
    )


def _folders(running: System) -> dict[str, list[Path]]:
    data = running.place.data
    return {
        "spool": [running.place.spool],
        "log": list(data.glob("log.sqlite*")),
        "table": [data / "tables"],
    }


def plain(code: str, count: int) -> dict[str, float]:
    """A script without runstream."""
    done = subprocess.run(
        [sys.executable, "-c", code, str(count)], capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found


def measure(rounds: int, points: int, wanted: list[str]) -> None:
    found: dict[str, list[Round]] = {}
    limits: list[dict[str, float]] = []
    with system() as running:
        bench = Bench(running)
        chosen = {name: case for name, case in cases(bench, points).items() if not wanted or name in wanted}
        for case in chosen.values():  # warm
            case()
            break
        for _ in range(rounds):
            for name, case in chosen.items():
                found.setdefault(name, []).append(case())
            limits.append({**plain(PLAIN, 500_000), **plain(RAW, 2_000_000)})
        rates = {name: report(name, results) for name, results in found.items()}
        jsonl = statistics.median(limit["jsonl"] for limit in limits)
        print(
            f"      limits: insert_arrow {spread([limit['raw'] for limit in limits])} rows/s,"
            f" CPU s per million {statistics.median(limit['raw_cpu'] for limit in limits):.2f};"
            f" JSON lines {spread([limit['jsonl'] for limit in limits])}/s;"
            f" list append {spread([limit['list'] for limit in limits])}/s"
        )
        if "one" in rates:
            print(f"one by one: {verdict(rates['one'], 300_000)}; {rates['one'] / jsonl:.1f} × JSON lines")
        if "processes" in rates:
            print(f"8 processes: {verdict(rates['processes'], 300_000)}")
        for name in ("lists", "small_lists", "tables"):
            if name in rates:
                pairs = zip(found[name], limits, strict=True)
                share = statistics.median(one.rate / limit["raw"] for one, limit in pairs)
                print(f"{name}: {share:.0%} of insert_arrow; {verdict(share, 0.5)}")
        if "1x100k" in rates and "1000x100" in rates:
            both = zip(found["1x100k"], found["1000x100"], strict=True)
            wall = statistics.median(many.wall / one.wall for one, many in both)
            whole = rates["1x100k"] / rates["1000x100"]
            print(
                f"1000 × 100 against 1 × 100,000, time a point: {wall:.2f} in the script,"
                f" {whole:.2f} until readable; {verdict(max(wall, whole), 2, most=True)}"
            )
        bench.reader.end()
    if not wanted or "bytes" in wanted:
        bytes_per_point(points)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--points", type=int, default=2_000_000)
    parser.add_argument("case", nargs="*", help="one, 1x100k, 1000x100, processes, lists, …; all by default")
    options = parser.parse_args()
    print(describe())
    measure(options.rounds, options.points, options.case)


if __name__ == "__main__":
    main()
