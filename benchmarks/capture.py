"""What capture costs: a `print` more in a run than outside of one, and a sample of the system figures.

    python -m benchmarks.capture [--lines 100000]

Output goes to the null device, spools to a temporary folder, and no sender runs. Costs are CPU time.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from typing import Final

from benchmarks.machine import describe
from runstream.capture.observer import SAMPLE_S
from runstream.capture.system import System

_PRINTS: Final = """
import os, sys, time
from runstream import Experiment, Workspace
experiment = Experiment(Workspace(workspace_name="bench"), "bench")
count = int(sys.argv[1])
tell, sys.stdout = sys.stdout, open(os.devnull, "w")

def lines():
    began = time.process_time()
    for n in range(count):
        print("epoch", n, "loss", 0.123456)
    return (time.process_time() - began) / count * 1e6

def bar():
    began = time.process_time()
    for n in range(count):
        sys.stdout.write(f"\\r{n:6d} |##########          |")
    return (time.process_time() - began) / count * 1e6

print("warm")
outside = lines(), bar()
with experiment.start_logging(outputs=False):
    print("warm")
    inside = lines(), bar()
tell.write(" ".join(f"{value:.3f}" for value in outside + inside) + "\\n")
"""
_SAMPLES: Final = 200


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lines", type=int, default=100_000)
    count = parser.parse_args().lines
    print(describe())
    with tempfile.TemporaryDirectory(prefix="runstream-bench-") as root:
        environment = {
            **os.environ,
            "RUNSTREAM_HOME": f"{root}/home",
            "RUNSTREAM_SPOOL": f"{root}/spool",
            "RUNSTREAM_MODE": "offline",
        }
        done = subprocess.run(
            [sys.executable, "-c", _PRINTS, str(count)],
            env=environment,
            cwd=root,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        line, bar, line_in_run, bar_in_run = map(float, done.stdout.split())
    print(f"print of a line: {line:.2f} us outside of a run, {line_in_run:.2f} us in one")
    print(f"state of a progress bar: {bar:.2f} us outside of a run, {bar_in_run:.2f} us in one")

    system = System(os.getpid(), os.getcwd())
    system.sample(0.0)
    began = time.process_time()
    for n in range(_SAMPLES):
        system.sample(1.0 + n)
    cost = (time.process_time() - began) / _SAMPLES
    share = 100 * cost / SAMPLE_S
    print(f"sample of the system: {cost * 1e3:.2f} ms every {SAMPLE_S:.0f} s")
    print(f"that is {share:.3f} % of a core; the bound is 1 %")
    if share >= 1.0:
        sys.exit("over the bound")


if __name__ == "__main__":
    main()
