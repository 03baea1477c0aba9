"""`cancel.json` in a writer's folder: the runs whose end somebody asked for, as the sender was told.

The sender writes it, by rename; the writing process looks at it when it is asked whether its run was
canceled.
"""

import json
import os
from pathlib import Path
from typing import Final

FILE: Final = "cancel.json"


def canceled_runs(folder: str | os.PathLike[str]) -> list[str]:
    """Ids of the runs, in the order in which they were asked for."""
    try:
        with open(os.path.join(folder, FILE), encoding="utf-8") as file:
            runs = json.load(file)["runs"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return [run for run in runs if isinstance(run, str)] if isinstance(runs, list) else []


def add_canceled_run(folder: Path, run_id: str) -> bool:
    """Note a run. False when it was noted before. Raises OSError."""
    runs = canceled_runs(folder)
    if run_id in runs:
        return False
    made = folder / f".{FILE}"
    made.write_text(json.dumps({"runs": [*runs, run_id]}), encoding="utf-8")
    os.replace(made, folder / FILE)
    return True
