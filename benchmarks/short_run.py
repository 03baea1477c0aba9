"""What a short run costs the script, from start_logging to complete, one after the other as in a sweep.

    python -m benchmarks.short_run [--rounds 3] [--runs 2000]

Each run has a name, a tag, three parameters, ten values, and its end. Wall time a run; the mean includes the
waits for delivery that `complete()` makes now and then. Once with a server, once with none.
"""

from __future__ import annotations

import argparse
import statistics
from typing import Final

from benchmarks.machine import describe
from benchmarks.system import spread, system, verdict

TIMED: Final = """
from time import perf_counter_ns as clock
count, kind = int(sys.argv[1]), sys.argv[2]
parent = experiment.start_logging(outputs=False)
start = (lambda: parent.child_run()) if kind == "child" else (lambda: experiment.start_logging(outputs=False))
for _ in range(20):
    start().complete()
times = []
for n in range(count):
    began = clock()
    run = start()
    run.tag("model", "ridge")
    run.log_params({"alpha": n, "seed": 7, "folds": 5})
    for step in range(10):
        run.log("loss", 1 / (step + 1), step=step)
    run.complete()
    times.append(clock() - began)
times.sort()
say(median=times[count // 2] / 1e6, mean=sum(times) / count / 1e6, p99=times[count * 99 // 100] / 1e6,
    most=times[-1] / 1e6)
"""


def measure(rounds: int, runs: int) -> None:
    for way, kind, server in (
        ("runs, with a server", "run", True),
        ("children, with a server", "child", True),
        ("runs, without any server", "run", False),
    ):
        found = []
        with system() as running:
            more = {} if server else {"RUNSTREAM_SERVER": "127.0.0.1:1"}
            for _ in range(rounds):
                script = running.script(TIMED, runs, kind, **more)
                found.append(script.answer())
                script.end()
        column = {name: [one[name] for one in found] for name in found[0]}
        median, mean = statistics.median(column["median"]), statistics.median(column["mean"])
        print(
            f"{way}: median {spread(column['median'], '.3f')} ms; {verdict(median, 1, most=True)};"
            f" mean with waits {spread(column['mean'], '.3f')} ms; {verdict(mean, 1, most=True)};"
            f" 99 %: {spread(column['p99'], '.2f')} ms; longest {spread(column['most'], '.0f')} ms"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--runs", type=int, default=2000)
    options = parser.parse_args()
    print(describe())
    measure(options.rounds, options.runs)


if __name__ == "__main__":
    main()
