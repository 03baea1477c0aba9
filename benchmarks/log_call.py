"""What one `run.log` costs the script, while sender and server are busy with it.

    python -m benchmarks.log_call [--rounds 5] [--calls 1000000]

Each call is timed by itself, less what the two readings of the clock take, and beside it a list's append.
On two cores three processes share the work, so the mean is told as CPU time as well: what the kernel gives to
others is in the wall time, and in the greatest calls.
"""

from __future__ import annotations

import argparse
import statistics
from typing import Final

from benchmarks.machine import describe
from benchmarks.system import spread, system, verdict

# `rest` spreads calls in bursts, as a training does; 0 calls as fast as it goes.
TIMED: Final = """
import gc
from array import array
from time import perf_counter_ns as clock
count, burst, rest = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
run = experiment.start_logging(outputs=False)
log = run.log
for step in range(10_000):
    log("loss", 0.5, step=step)
time.sleep(1)
nothing, calls, appends, kept = array("q"), array("q"), array("q"), []
append = kept.append
for step in range(100_000):
    began = clock()
    ended = clock()
    nothing.append(ended - began)
for step in range(100_000):
    began = clock()
    append(0.5)
    ended = clock()
    appends.append(ended - began)
began_wall, cpu = time.perf_counter(), time.process_time()
for step in range(count):
    began = clock()
    log("loss", 0.5, step=step)
    ended = clock()
    calls.append(ended - began)
    if not step % burst and rest:
        time.sleep(rest)
wall, used = time.perf_counter() - began_wall, time.process_time() - cpu
bare = time.process_time()
for step in range(count):
    began = clock()
    ended = clock()
    nothing.append(ended - began)
bare = time.process_time() - bare

def at(times, share):
    return sorted(times)[int(len(times) * share)] / 1000

idle = at(nothing, 0.5)
say(median=at(calls, 0.5) - idle, p999=at(calls, 0.999) - idle, most=at(calls, 0.9999) - idle,
    cpu=(used - bare) / count * 1e6, append=at(appends, 0.5) - idle, clock=idle)
"""


def measure(rounds: int, calls: int) -> None:
    ways = {"as fast as it goes": (calls, 1, 0.0), "bursts of 1,000": (calls // 4, 1_000, 0.005)}
    found: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
    with system() as running:
        for _ in range(rounds):
            for way, arguments in ways.items():
                script = running.script(TIMED, *arguments)
                found[way].append(script.answer())
                script.end()
    for way, results in found.items():
        column = {name: [one[name] for one in results] for name in results[0]}
        middle = {name: statistics.median(values) for name, values in column.items()}
        print(
            f"run.log, {way}: median {spread(column['median'], '.2f')} µs;"
            f" {verdict(middle['median'], 0.7, most=True)};"
            f" {middle['median'] / middle['append']:.0f} × a list's append ({middle['append']:.3f} µs)"
        )
        print(
            f"    mean CPU {spread(column['cpu'], '.2f')} µs; {verdict(middle['cpu'], 1, most=True)};"
            f" 99.9 %: {spread(column['p999'], '.1f')} µs; {verdict(middle['p999'], 50, most=True)};"
            f" 99.99 %: {spread(column['most'], '.0f')} µs"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=1_000_000)
    options = parser.parse_args()
    print(describe())
    measure(options.rounds, options.calls)


if __name__ == "__main__":
    main()
