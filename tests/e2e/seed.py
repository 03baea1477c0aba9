"""What the portal is tested with: runs of all kinds, logged as anybody would. Prints ids by name as JSON."""

from __future__ import annotations

import json
import math
import random
import tempfile
from pathlib import Path

from runstream import Experiment, Workspace

EVIL = "<img src=x onerror=alert(1)><script>alert(2)</script>"
LONG = 20_000
NAN_STEP = 12_031
SPIKE_STEP = 7_777


def loss(step: int) -> float:
    """The long curve, value by value: with a spike, and a NaN."""
    if step == NAN_STEP:
        return math.nan
    if step == SPIKE_STEP:
        return 9.5
    return 2.4 * math.exp(-step / 5000) + 0.1 + 0.2 * ((step * 7919) % 101) / 101


TRAIN = "".join(f"# step {line}\n" for line in range(1, 31))


def folder(files: dict[str, bytes]) -> str:
    """A folder with these files."""
    made = Path(tempfile.mkdtemp())
    for name, content in files.items():
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_bytes(content)
    return str(made)


def source(learning_rate: float, **more: bytes) -> str:
    """A folder to make a run from."""
    train = TRAIN.replace("# step 12\n", f"learning_rate = {learning_rate}\n").encode()
    files = {"train.py": train, "src/model.py": b"WIDTH = 64\n", "weights.bin": bytes(64), **more}
    return folder(files)


def full(experiment: Experiment) -> str:
    """A run with every kind of metric."""
    run = experiment.start_logging(
        display_name="brave-fern", snapshot_directory=source(0.1, NOTES=b"try less\n")
    )
    run.tag("model", "ridge")
    run.log("alpha", 0.4)
    run.log("mse", 3295.7412)
    run.log("best epoch", 17)
    for step in range(LONG):
        run.log("train/loss", loss(step), step=step)
    for step in range(0, 2000, 10):
        run.log("train/accuracy", 1 - math.exp(-step / 600), step=step)
    for value in (math.inf, 1.0, -math.inf, 2.0, math.nan, 3.0):
        run.log("grad/norm", value)
    run.log_list("accuracies", [0.6, 0.7, 0.9, 0.85])
    for k in range(63):
        run.log_row("Cosine Wave", angle=k / 10, cos=math.cos(k / 10))
    run.log_table("roc", {"fpr": [k / 20 for k in range(21)], "tpr": [(k / 20) ** 0.4 for k in range(21)]})
    run.log_table("layers", {"width": [64, 10, 3], "depth": [1, 2, 3], "loss": [0.3, 0.2, 0.1]})
    run.log("note", "learning rate halved")
    run.log("note", EVIL)
    run.log_list("nothing", [])
    run.complete()
    return run.id


def sweep(experiment: Experiment) -> list[str]:
    """Runs that differ."""
    chance = random.Random(5)
    ids = []
    for number in range(1, 12):
        alpha = number / 20
        kept = source(0.01, OLD=b"gone\n") if number == 1 else None
        run = experiment.start_logging(display_name=f"calm-otter-{number}", snapshot_directory=kept)
        run.tag("model", "ridge" if number % 2 else "lasso")
        run.log("alpha", alpha)
        run.log("mse", 3295.7 + 300 * (alpha - 0.4) ** 2 + (number == 8) * 0.01)
        for step in range(200):
            run.log("train/loss", 2.5 * math.exp(-step / 60) + chance.random() * alpha, step=step)
        if number == 5:
            run.fail("CUDA out of memory: tried to allocate 2.00 GiB", "OutOfMemory")
        else:
            run.complete()
        ids.append(run.id)
    return ids


def hostile(experiment: Experiment) -> str:
    """A run of somebody who means harm."""
    evil = {
        EVIL.partition("</")[0]: EVIL.encode(),
        "a.html": EVIL.encode(),
        "b\u202etxt": b"\x1b[31m" + EVIL.encode(),
    }
    run = experiment.start_logging(display_name=EVIL + "\u202egnp.exe", snapshot_directory=folder(evil))
    run.tag(EVIL, "javascript:alert(3)")
    run.log(EVIL, 1.0)
    run.log(EVIL, 2.0)
    run.log_table(f"rows {EVIL}", {EVIL: [1.0], "b": [EVIL]})
    run.fail(EVIL, EVIL)
    return run.id


def main() -> None:
    workspace = Workspace.from_config()
    diabetes = Experiment(workspace, "diabetes")
    others = sweep(diabetes)
    print(
        json.dumps(
            {
                "full": full(diabetes),
                "sweep": others,
                "hostile": hostile(Experiment(workspace, "hostile")),
            }
        )
    )


if __name__ == "__main__":
    main()
