"""What runstream takes while nothing happens, what a script pays beside its calls, how an outage is made up.

    python -m benchmarks.idle [--seconds 10] [case …]

The limits are those of a bare interpreter in the same run: the time of `import json`, the memory of `python`.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Final

from benchmarks.machine import describe
from benchmarks.system import Costs, Script, System, cpu_s, memory_mb, spread, system, verdict

IMPORT: Final = """
import json, sys, time
began = time.perf_counter()
{statement}
seconds = time.perf_counter() - began
print(json.dumps({{"seconds": seconds}}), flush=True)
"""

STARTS: Final = """
times = []
for _ in range(20):
    began = time.perf_counter()
    run = experiment.start_logging(outputs=False)
    times.append(time.perf_counter() - began)
    run.log("loss", 1.0)
began = time.perf_counter()
run.complete()
say(times=times, complete=time.perf_counter() - began)
"""

# Logs with nobody to take it. The slots are the page cache's, not the script's.
GROW: Final = """
run = experiment.start_logging(outputs=False)
for step in range(100_000):
    run.log("loss", 0.5, step=step)
say(ready=True)
what = wait()
log, began = run.log, time.time()
for step in range(what["points"]):
    log("loss", 0.5, step=step)
say(run=run.id, seconds=time.time() - began)
wait()
run.log("end", 1)
say(done=True)
wait()
"""

LIVE: Final = """
run = experiment.start_logging(outputs=False)
run.log("begun", 1)
say(run=run.id)
log, count, began = run.log, wait()["points"], time.time()
for step in range(count):
    log("loss", 0.5, step=step)
log("end", 1)
say(began=began)
wait()
"""


def imports(running: System, rounds: int) -> None:
    statements = ("import logging", "import runstream", "from runstream import Experiment, Run, Workspace")
    cache = str(running.place.root / "pyc")  # as installed, whatever the environment here says
    for statement in statements:
        times = []
        for _ in range(rounds + 1):
            script = Script(
                running.place,
                IMPORT.format(statement=statement),
                PYTHONPYCACHEPREFIX=cache,
                PYTHONDONTWRITEBYTECODE="",
            )
            times.append(float(script.answer()["seconds"]) * 1e3)
            script.end()
        told = verdict(statistics.median(times[1:]), 20, most=True) if "runstream" in statement else ""
        print(f"{statement}: {spread(times[1:], '.1f')} ms {told}")


def starts(running: System) -> None:
    """With no server there, so that nothing hides behind it."""
    script = running.script(STARTS)
    said = script.answer()
    script.end()  # its sender stays, and is that of the next script
    first, *times = (1e3 * float(one) for one in said["times"])
    print(
        f"start_logging without a server: first {first:.1f} ms, then {spread(times, '.2f')} ms;"
        f" {verdict(statistics.median(times), 5, most=True)}; first: {verdict(first, 5, most=True)}"
    )
    print(f"complete without a server: {said['complete']:.2f} s; {verdict(said['complete'], 2.5, most=True)}")


def resting(running: System, seconds: float) -> None:
    """The server, and the sender of a script that is silent."""
    script = running.script(
        "run = experiment.start_logging(outputs=False)\nrun.log('a', 1)\nsay(ok=1)\nwait()"
    )
    script.answer()
    sender = running.sender()
    supervisor = int(_status(sender, "PPid")[0])
    assert running.server is not None
    server = running.server.process.pid
    time.sleep(8)
    pids = {"server": server, "sender": sender, "supervisor": supervisor}
    costs = Costs(**pids)
    time.sleep(seconds)
    used = costs.used()
    for part, pid in pids.items():
        print(f"idle {part}: {memory_mb(pid):.0f} MB private, {used[part] / seconds:.2%} of a core")
    both = memory_mb(sender) + memory_mb(supervisor)
    print(f"sender with supervisor: {both:.0f} MB; {verdict(both, 70, most=True)}")
    print(f"sender's share of a core, %: {verdict(used['sender'] / seconds * 100, 1, most=True)}")
    print(f"server: {verdict(memory_mb(server), 400, most=True)} MB", end="; ")
    print(f"{verdict(used['server'] / seconds * 100, 2, most=True)} % of a core")
    script.go()
    script.end()


def _status(pid: int, name: str) -> list[str]:
    with open(f"/proc/{pid}/status") as file:
        return [line.split()[1] for line in file if line.startswith(f"{name}:")]


def outage(points: int) -> None:
    """A script logs while there is no server; then there is one. Against the same points logged live."""
    with system(server=False) as running:
        imports(running, 5)
        starts(running)
        script = running.script(GROW)
        script.answer()
        before, used = memory_mb(script.pid), cpu_s(script.pid)
        script.go(points=points)
        said = script.answer()
        grown = memory_mb(script.pid) - before
        cost = (cpu_s(script.pid) - used) / points * 1e6
        print(
            f"{points:,} points without a server: {points / said['seconds']:,.0f} a second, {cost:.2f} s CPU"
            f" a million; private memory grew by {grown:.1f} MB; {verdict(grown, 30, most=True)}"
        )
        script.go()
        script.answer()
        running.server = running.place.up()
        began = time.time()
        caught_up = _until_end(running, str(said["run"]), began)
        script.go()
        script.end()
        live = running.script(LIVE)
        run = str(live.answer()["run"])
        time.sleep(1)
        live.go(points=points // 4)
        began = float(live.answer()["began"])
        rate = points // 4 / _until_end(running, run, began)
        live.go()
        live.end()
        print(
            f"catching up: {points / caught_up:,.0f} points/s, live {rate:,.0f};"
            f" {points / caught_up / rate:.1f} times as fast; {verdict(points / caught_up / rate, 2)}"
        )


def _until_end(running: System, run: str, began: float) -> float:
    reader = running.reader()
    reader.go(run=run, ends=1)
    seconds = float(reader.answer()["at"]) - began
    reader.end()
    return seconds


def measure(seconds: float, points: int, wanted: list[str]) -> None:
    if not wanted or "rest" in wanted:
        with system() as running:
            resting(running, seconds)
    if not wanted or "outage" in wanted:
        outage(points)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=10.0, help="of rest that are measured")
    parser.add_argument("--points", type=int, default=10_000_000, help="during the outage")
    parser.add_argument("case", nargs="*", help="rest, outage; both by default")
    options = parser.parse_args()
    print(describe())
    measure(options.seconds, options.points, options.case)


if __name__ == "__main__":
    main()
