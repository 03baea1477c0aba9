"""What was logged offline is read back as a server would give it."""

import math
from pathlib import Path

import numpy as np
import pytest

from runstream import Experiment, Run, Workspace
from tests import spools


@pytest.fixture
def experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Experiment:
    monkeypatch.setenv("RUNSTREAM_MODE", "offline")
    monkeypatch.setenv("RUNSTREAM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("RUNSTREAM_SPOOL", str(tmp_path / "spool"))
    return Experiment(Workspace(workspace_name=tmp_path.name), "exp")


def test_all_shapes(experiment: Experiment) -> None:
    run = experiment.start_logging(outputs=False)
    run.log("one", 5)
    for value in (1, 2.5, True, None, "text", 2**70, float("inf")):
        run.log("mixed", value)
    run.log("nan", math.nan)
    for step in (3, 1, 2):
        run.log("by step", step * 10, step=step)
    for value in (3, None, 2):
        run.log("some steps", value, step=value)
    run.log_list("list", np.arange(4))
    run.log_list("list", [4.5])
    run.log_list("empty", [])
    run.log_table("empty table", {})
    run.log_table("empty column", {"a": []})
    run.log_row("row", a=1, b="x")
    run.log_row("rows", a=1)
    run.log_row("rows", a=2, b=3)
    run.log_table("table", {"x": [1, 2], "y": ["p", "q"]})
    run.log("both", 1)
    run.log_row("both", a=2)
    found = run.get_metrics()
    assert math.isnan(found.pop("nan"))
    assert [type(value) for value in found["mixed"]] == [int, float, bool, type(None), str, int, float]
    assert found == {
        "one": 5,
        "mixed": [1, 2.5, True, None, "text", 2**70, math.inf],
        "by step": [10, 20, 30],
        "some steps": [3, None, 2],
        "list": [0, 1, 2, 3, 4.5],
        "empty": [],
        "empty table": {},
        "empty column": {"a": []},
        "row": {"a": 1, "b": "x"},
        "rows": {"a": [1, 2], "b": [None, 3]},
        "table": {"x": [1, 2], "y": ["p", "q"]},
        "both": {"": 1, "a": 2},
    }
    assert run.get_metrics("one") == {"one": 5}
    assert run.get_metrics("nonesuch") == {}
    run.log("one", 6)
    assert run.get_metrics("one") == {"one": [5, 6]}


def test_a_family_and_a_long_run(experiment: Experiment) -> None:
    run = experiment.start_logging(outputs=False)
    children = run.create_children(3)
    for n, child in enumerate(children[:2]):
        for step in range(5000):
            child.log("loss", float(step + n), step=step)
    below = children[0].child_run()
    below.log("x", 1)
    found = run.get_metrics(recursive=True)
    assert found.keys() == {children[0].id, children[1].id, below.id}
    assert found[children[1].id]["loss"] == [float(step + 1) for step in range(5000)]
    assert Run(experiment, below.id).get_metrics() == {"x": 1}


def test_other_processes_of_the_run(tmp_path: Path) -> None:
    environment = {"RUNSTREAM_MODE": "offline"}
    run_id = spools.run(
        tmp_path,
        "mmap",
        """
run = experiment.start_logging(outputs=False)
run.log("x", 1)
if os.fork() == 0:
    run.log("x", 2)
    os._exit(0)
os.wait()
assert sorted(run.get_metrics()["x"]) == [1, 2]
print(run.id)
""",
        environment=environment,
    ).split()[0]
    again = f"print(sorted(Run(experiment, {run_id!r}).get_metrics()['x']))"
    assert spools.run(tmp_path, "mmap", again, environment=environment).startswith("[1, 2]\n")
