"""One of each: figures, images, files, logs, models, children, ranks. Prints ids by name as JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from runstream import Experiment, Workspace
from tests.e2e.seed import EVIL

TABLE = [[10, 2, 30, 5], [8, 1, 31, 7], [5, 0, 32, 10]]
"""By falling number of hits: true and false positives, true and false negatives."""
FIGURES: dict[str, dict[str, Any]] = {
    "confusion_matrix": {"class_labels": ["cat", EVIL], "matrix": [[50, 3], [4, 1234]]},
    "accuracy_table": {
        "probability_tables": [TABLE],
        "percentile_tables": [TABLE],
        "probability_thresholds": [0, 0.5, 1],
        "percentile_thresholds": [0, 0.5, 1],
        "class_labels": ["cat"],
    },
    "residuals": {"bin_edges": [-2, -1, 0, 1], "bin_counts": [3, 20, 4]},
    "predictions": {
        "bin_averages": [0.1, 0.4],
        "bin_errors": [0.02, 0.05],
        "bin_counts": [10, 20],
        "bin_edges": [0, 0.25, 0.5],
    },
}
FILES = {
    "README.md": f"# Report\n\nSome **text** by {EVIL} and [a link](javascript:alert(4)).\n\n"
    "| a | b |\n|---|---|\n| 1 | 2 |\n",
    "data/table.csv": 'name,value\n"a, b",1.5\n=cmd(),20\n',
    "config.json": '{"layers": [1, 2]}',
    "broken.json": "{oops",
    "evil.svg": "<svg xmlns='http://www.w3.org/2000/svg'><script>alert(5)</script></svg>",
    "evil.html": EVIL,
    "weights.bin": "\x00" * 1000,
}
LINES = 400


def vision(experiment: Experiment) -> str:
    """A run with files."""
    run = experiment.start_logging(display_name="quiet-lynx")
    run.tag("model", "resnet50")
    run.log_params({"lr": 3e-4, "optimizer": "adamw"})
    for step in range(100):
        run.log("train/loss", 1 / (1 + step), step=step)
        run.log("system/cpu_percent", 50.0 + step % 7)
    for kind, data in FIGURES.items():
        getattr(run, f"log_{kind}")(kind, {"schema_type": kind, "schema_version": "1.0.0", "data": data})
    for shade in range(3):
        run.log_image("samples", plot=np.full((4, 6, 3), (10 + 40 * shade, 0, 0), np.uint8))
    for name, content in FILES.items():
        path = Path(name.replace("/", "_"))
        path.write_text(content)
        run.upload_file(name, path)
    run.register_model("resnet", "weights.bin", tags={"stage": "production"})
    for line in range(LINES):
        print(f"\x1b[32mINFO\x1b[0m line {line} {'ERROR' if line % 100 == 99 else 'fine'} {EVIL}")
    for number in range(4):
        with run.child_run(f"fold {number}") as child:
            child.log_params({"alpha": number / 10})
            child.log("mse", 3000 + number * 7.5)
            for step in range(20):
                child.log("loss", number + 1 / (1 + step), step=step)
    run.complete()
    return run.id


def rank() -> None:
    """One of two processes of a launch: what it logs lies 10 above what the one before it does."""
    run = Experiment(Workspace.from_config(), "ranks").start_logging(run_id="ranked")
    for step in range(50):
        run.log("loss", 10.0 * int(os.environ["RANK"]) + step, step=step)
    run.complete()


def main() -> None:
    launch = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.e2e.kinds", "rank"],
            env={**os.environ, "RANK": str(number), "LOCAL_RANK": str(number), "WORLD_SIZE": "2"},
        )
        for number in range(2)
    ]
    ids = {"vision": vision(Experiment(Workspace.from_config(), "vision")), "ranks": "ranked"}
    assert [process.wait() for process in launch] == [0, 0]
    print(json.dumps(ids))


if __name__ == "__main__":
    rank() if sys.argv[1:] == ["rank"] else main()
