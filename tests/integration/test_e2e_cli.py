"""What the command line prints of a server, and the README's own examples."""

from __future__ import annotations

import csv
import io
import json
import re
import signal
import subprocess
import sys
from pathlib import Path

from tests.server import Place, wait_for

ROOT = Path(__file__).parents[2]

SCRIPT = """
from runstream import Experiment, Workspace
experiment = Experiment(Workspace.from_config(), "cli")
with experiment.start_logging() as run:
    print(run.id)
    for step in range(3):
        run.log("loss", 0.5 / (step + 1), step=step, description="of training")
    run.log("odd", float("nan")); run.log("odd", float("inf")); run.log("odd", None); run.log("odd", 2**70)
    run.log_table("table", {"name": ["a", "b,\\"c\\""], "weight": [1, 2]})
    run.tag("model", "toy")
"""


def test_runs_and_metrics(guest: Place) -> None:
    assert guest.runstream("runs").stderr == "There are no such runs.\n"
    run_id = guest.script(SCRIPT).stdout.strip()

    def told() -> dict[str, object]:
        listed = guest.runstream("runs", "--json", "--experiment", "cli", "--status", "Completed")
        assert listed.returncode == 0, listed.stderr
        return dict(json.loads(listed.stdout)) if listed.stdout else {}

    found = wait_for(told, "the run")
    assert (found["id"], found["workspace"], found["experiment"]) == (run_id, guest.workspace, "cli")
    assert (found["status"], found["number"], found["tags"]) == ("Completed", 1, {"model": "toy"})
    head, line = guest.runstream("runs").stdout.splitlines()
    assert head.split() == ["RUN", "EXPERIMENT", "STATUS", "STARTED", "TOOK", "NAME"]
    assert line.startswith(f"{run_id}  cli         Completed  ")
    assert guest.runstream("runs", "--experiment", "other").stdout == ""
    assert guest.runstream("runs", "--workspace", "other").stdout == ""

    assert [line.split() for line in guest.runstream("metrics", run_id).stdout.splitlines()] == [
        ["METRIC", "COLUMN", "COUNT", "LAST", "DESCRIPTION"],
        ["loss", "3", "0.166667", "of", "training"],
        ["odd", "4"],
        ["table", "name", "2"],
        ["table", "weight", "2", "2"],
    ]
    lines = guest.runstream("metrics", run_id, "odd", "--json").stdout.splitlines()
    assert [json.loads(line)["value"] for line in lines] == ["NaN", "Infinity", None, 2**70]
    printed = guest.runstream("metrics", run_id, "--csv").stdout
    rows = list(csv.DictReader(io.StringIO(printed)))
    assert [(r["metric"], r["column"], r["row"], r["step"], r["value"]) for r in rows] == [
        ("loss", "", "0", "0", "0.5"),
        ("loss", "", "1", "1", "0.25"),
        ("loss", "", "2", "2", "0.16666666666666666"),
        ("odd", "", "0", "", "nan"),
        ("odd", "", "1", "", "inf"),
        ("odd", "", "2", "", ""),
        ("odd", "", "3", "", str(2**70)),
        ("table", "name", "0", "", "a"),
        ("table", "name", "1", "", 'b,"c"'),
        ("table", "weight", "0", "", "1"),
        ("table", "weight", "1", "", "2"),
    ]

    assert guest.runstream("metrics", "nonesuch").returncode == 4
    assert guest.runstream("metrics", run_id, "nonesuch").returncode == 4
    assert guest.runstream("metrics", run_id, "--workspace", "other").returncode == 4
    assert guest.runstream("runs", RUNSTREAM_API_KEY="wrong").returncode == 1


def test_a_reader_that_has_seen_enough(guest: Place) -> None:
    run_id = guest.script(
        SCRIPT + "    run.log_list('long', list(range(100_000)))\n    run.flush()\n"
    ).stdout.strip()
    with subprocess.Popen(
        [sys.executable, "-m", "runstream.cli", "metrics", run_id, "long", "--csv"],
        env=guest.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as reader:
        assert reader.stdout is not None
        assert reader.stderr is not None
        reader.stdout.readline()
        reader.stdout.close()
        assert reader.stderr.read() == b""
        assert reader.wait() == 0


def test_the_readme_means_what_it_says(guest: Place) -> None:
    example, killed = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    done = guest.script(example)
    assert done.returncode == 0, done.stderr
    loss, link = done.stdout.split()
    assert (float(loss), "/r/first-steps_" in link) == (0.01, True)
    (guest.work / "killed.py").write_text(killed)
    script = guest.python(["killed.py"], {})
    assert script.returncode == -signal.SIGKILL
    # At once, as somebody would type it: what is still on its way is waited for.
    printed = guest.runstream("metrics", script.stdout.strip())
    assert printed.stdout.split() == ["METRIC", "COUNT", "LAST", "loss", "100,000", "1e-05"], printed.stderr
    wait_for(lambda: "Failed" in guest.runstream("runs").stdout, "the run to be seen as killed")
