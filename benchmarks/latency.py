"""How soon a logged point can be read: alone, under load, beside a long read, and by the script itself.

    python -m benchmarks.latency [--seconds 15] [--points 15000000] [case …]

The reader is another process, which asks through the public API again and again; a point's latency ends when
the answer with it is there. Beside each stands what the read alone takes, which is the limit: a point is seen
by the read after the one that just missed it.
"""

from __future__ import annotations

import argparse
import time
from typing import Final

from benchmarks.machine import describe
from benchmarks.system import System, percentile, system, verdict

# Logs when told to, so that the clock of the probe is one process's: time.time() is the machine's.
PROBE: Final = """
run = experiment.start_logging(outputs=False)
run.log("begun", 1)
say(run=run.id)
number = 0
while (what := wait()) is not None:
    sent = []
    until = time.time() + what["seconds"]
    while time.time() < until:
        sent.append(time.time())
        run.log("probe", sent[-1])
        time.sleep(what["pause_s"])
    number += len(sent)
    say(count=number)
"""

# Sees new values of "probe", which are the times when they were logged.
WATCH: Final = """
import random
run, seen = Run(experiment, sys.argv[1]), 0
say(ready=True)
while (what := wait()) is not None:
    waits, asked = [], []
    until = time.time() + what["seconds"]
    while time.time() < until:
        began = time.time()
        found = run.get_metrics("probe").get("probe", [])
        now = time.time()
        asked.append(now - began)
        found = found if isinstance(found, list) else [found]
        waits += [now - sent for sent in found[seen:] if sent > began - 60]
        seen = len(found)
        time.sleep(what.get("pause_s", 0.005))
    say(waits=waits, asked=asked)
"""

# About so many points a second, in bursts of a millisecond's worth.
LOAD: Final = """
run = experiment.start_logging(outputs=False)
say(run=run.id)
what = wait()
began, done = time.time(), 0
while time.time() < began + what["seconds"]:
    behind = int((time.time() - began) * what["rate"]) - done
    for step in range(done, done + behind):
        run.log("loss", 0.5, step=step)
    done += behind
    time.sleep(0.002)
say(points=done, seconds=time.time() - began)
wait()
"""

OWN: Final = """
run = experiment.start_logging(outputs=False)
say(run=run.id)
while (what := wait()) is not None:
    waits, alone = [], []
    for number in range(what["times"]):
        time.sleep(what["pause_s"])
        began = time.perf_counter()
        run.log("own", number)
        found = run.get_metrics()
        waits.append(time.perf_counter() - began)
        found = found["own"]
        assert (found[-1] if isinstance(found, list) else found) == number
        began = time.perf_counter()
        Run(experiment, run.id).get_metrics("own")
        alone.append(time.perf_counter() - began)
    say(waits=waits, alone=alone)
"""

# Reads everything of a large run, again and again.
LONG: Final = """
from runstream.client import Client
import threading
from runstream import home
target = home.resolve_server()
clients = [Client(target.http, target.token) for _ in range(int(sys.argv[2]))]
say(ready=True)
what = wait()
until, times = time.time() + what["seconds"], []
def read(client):
    while time.time() < until:
        began = time.time()
        client.get_metrics("local", [sys.argv[1]])
        times.append(time.time() - began)
threads = [threading.Thread(target=read, args=(client,)) for client in clients]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
say(times=times)
"""


def line(name: str, waits: list[float], verdicts: str = "") -> None:
    """Prints one figure."""
    if not waits:
        print(f"{name:>14}: nothing was seen")
        return
    low, mid, high, most = (percentile(waits, share) * 1e3 for share in (0.05, 0.5, 0.95, 0.99))
    print(
        f"{name:>14}: median {mid:.0f} ms (5 % {low:.0f}, 95 % {high:.0f}, 99 % {most:.0f};"
        f" {len(waits)} points) {verdicts}"
    )


class Probe:
    """A script that logs its clock, and a reader that sees it."""

    def __init__(self, running: System) -> None:
        self.script = running.script(PROBE)
        self.run = str(self.script.answer()["run"])
        self.reader = running.script(WATCH, self.run)
        self.reader.answer()

    def begin(self, seconds: float, pause_s: float) -> None:
        self.script.go(seconds=seconds, pause_s=pause_s)
        self.reader.go(seconds=seconds + 2)

    def end(self) -> tuple[list[float], list[float]]:
        """Latencies, and how long reads took."""
        self.script.answer()
        said = self.reader.answer()
        return list(said["waits"]), list(said["asked"])


def idle(probe: Probe, seconds: float) -> None:
    probe.begin(seconds, 0.9)
    waits, asked = probe.end()
    line("idle", waits, verdict(percentile(waits, 0.5) * 1e3, 300, most=True))
    line("a read alone", asked)


def under_load(running: System, probe: Probe, seconds: float, rate: int) -> None:
    load = running.script(LOAD)
    load.answer()
    load.go(seconds=seconds + 2, rate=rate)
    time.sleep(2)
    probe.begin(seconds, 0.1)
    waits, asked = probe.end()
    said = load.answer()
    line(
        "under load",
        waits,
        f"at {said['points'] / said['seconds']:,.0f} points/s;"
        f" 99 %: {verdict(percentile(waits, 0.99), 2, most=True)}",
    )
    line("a read then", asked)
    load.go()
    load.end()


def own(running: System, times: int) -> None:
    script = running.script(OWN)
    script.answer()
    for pause_s, name in ((0.0, "log, read"), (0.3, "and rarely")):
        script.go(times=times, pause_s=pause_s)
        said = script.answer()
        line(name, said["waits"], verdict(percentile(said["waits"], 0.5) * 1e3, 50, most=True))
        line("the read alone", said["alone"])
    script.end()


def beside_reads(running: System, probe: Probe, seconds: float, points: int) -> None:
    """A read of `points` points is under way all the time."""
    big = running.script(LOAD)
    run = str(big.answer()["run"])
    big.go(seconds=points / 500_000, rate=500_000)
    big.answer()
    big.go()
    big.end()
    for threads in (1, 3):
        reader = running.script(LONG, run, threads)
        reader.answer()
        reader.go(seconds=seconds + 1)
        probe.begin(seconds, 0.2)
        waits, _ = probe.end()
        times = reader.answer()["times"]
        line(
            f"beside {threads} long",
            waits,
            f"reads of {max(times):.1f} s; 95 %: {verdict(percentile(waits, 0.95), 1, most=True)}",
        )
        reader.end()


def measure(seconds: float, points: int, wanted: list[str]) -> None:
    with system() as running:
        probe = Probe(running)
        probe.begin(1, 0.1)
        probe.end()
        if not wanted or "idle" in wanted:
            idle(probe, seconds)
        if not wanted or "own" in wanted:
            own(running, 30)
        if not wanted or "load" in wanted:
            under_load(running, probe, seconds, 200_000)
        if not wanted or "reads" in wanted:
            beside_reads(running, probe, seconds, points)
        probe.script.end()
        probe.reader.end()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=15.0, help="of each case")
    parser.add_argument(
        "--points", type=int, default=15_000_000, help="of the long read, which is to take 10 s"
    )
    parser.add_argument("case", nargs="*", help="idle, own, load, reads; all by default")
    options = parser.parse_args()
    print(describe())
    measure(options.seconds, options.points, options.case)


if __name__ == "__main__":
    main()
