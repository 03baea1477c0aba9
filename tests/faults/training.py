"""A rank of the training that the fault tests run: `python -m tests.faults.training FOLDER PACE`.

Logs until FOLDER/stop is there, then prints what it has logged. Each call's value is its number, so what has
to be stored is known from the counts alone. PACE is the pause after each burst, seconds.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from runstream import Experiment, Workspace

BURST = 20
LIST_EVERY = 10
TAG_EVERY = 40


def main() -> None:
    """Logs."""
    folder, pace_s, rank = Path(sys.argv[1]), float(sys.argv[2]), int(os.environ["RANK"])
    progress = os.open(folder / f"progress-{rank}", os.O_CREAT | os.O_WRONLY, 0o600)
    run = Experiment(Workspace.from_config(), "faults").start_logging()
    told = folder / f".run-{rank}"
    told.write_text(run.id)
    told.rename(folder / f"run-{rank}")
    scalars = lists = tags = bursts = 0
    while not (folder / "stop").exists():
        for number in range(scalars, scalars + BURST):
            run.log(f"scalar-{rank}", float(number), step=number)
        scalars += BURST
        bursts += 1
        if bursts % LIST_EVERY == 0:
            run.log_list(f"list-{rank}", [float(lists), lists + 0.5, float("nan")])
            lists += 1
        if bursts % TAG_EVERY == 0:
            run.tag(f"tag-{rank}-{tags}", str(tags))
            tags += 1
        os.pwrite(progress, f"{scalars:>20}".encode(), 0)
        time.sleep(pace_s)
    logged = {"rank": rank, "scalars": scalars, "lists": lists, "tags": tags}
    (folder / f"logged-{rank}").write_text(json.dumps(logged))


if __name__ == "__main__":
    main()
