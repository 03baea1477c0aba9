"""From `run.log` to `get_metrics` through real processes, whichever of them dies on the way."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from tests.server import Place, wait_for

ROOT = Path(__file__).parents[2]

BEGIN = """
import json, os, signal, sys, time
import numpy as np
from runstream import Experiment, Run, Workspace
experiment = Experiment(Workspace.from_config(), "line")
"""

READ = (
    BEGIN
    + """
run = Run(experiment, sys.argv[1])
print(json.dumps({"status": run.get_status(), "metrics": run.get_metrics()}))
"""
)


def run_id_of(stdout: str) -> str:
    """The id that a script printed as its first line."""
    return stdout.split("\n", 1)[0].strip()


def ended(place: Place, run_id: str) -> dict[str, object]:
    """The run as `runstream runs` shows it, once it has ended."""

    def look() -> dict[str, object] | None:
        listed = place.runstream("runs", "--json")
        assert listed.returncode == 0, listed.stderr
        for line in listed.stdout.splitlines():
            found: dict[str, object] = json.loads(line)
            if found["id"] == run_id and found["ended"] and not found["settling"]:
                return found
        return None

    return wait_for(look, f"the end of {run_id}")


def points(place: Place, run_id: str) -> list[dict[str, object]]:
    """All elements, as `runstream metrics --json` prints them."""
    printed = place.runstream("metrics", run_id, "--json")
    assert printed.returncode == 0, printed.stderr
    return [json.loads(line) for line in printed.stdout.splitlines()]


def test_what_was_logged_is_there_at_once_and_for_others(guest: Place) -> None:
    script = guest.script(
        BEGIN
        + """
with experiment.start_logging() as run:
    print(run.id)
    for step in range(1000):
        run.log("loss", 1 / (step + 1), step=step)
    run.log("epochs", 3)
    run.log_list("list", np.arange(5.0))
    for row in range(3):
        run.log_row("row", x=row, y=row / 2)
    run.log_table("table", {"name": ["a", "b"], "weight": [0.5, None]})
    run.log_list("empty", [])
    run.tag("color", "blue")
    found = run.get_metrics()
    assert found["loss"] == [1 / (step + 1) for step in range(1000)], found["loss"]
    assert found["epochs"] == 3
    assert found["list"] == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert found["row"] == {"x": [0, 1, 2], "y": [0.0, 0.5, 1.0]}
    assert found["table"] == {"name": ["a", "b"], "weight": [0.5, None]}
    assert found["empty"] == []
    print(json.dumps(found))
    print(run.get_portal_url())
"""
    )
    assert script.returncode == 0, script.stderr
    run_id, found, link = script.stdout.splitlines()
    read = guest.script(READ, run_id)
    assert read.returncode == 0, read.stderr
    assert json.loads(read.stdout) == {"status": "Completed", "metrics": json.loads(found)}
    assert link.endswith(f"/r/{run_id}")
    assert ended(guest, run_id)["status"] == "Completed"


def test_a_killed_script_loses_nothing(guest: Place) -> None:
    script = guest.script(
        BEGIN
        + """
run = experiment.start_logging()
print(run.id, flush=True)
for step in range(50_000):
    run.log("loss", step / 7, step=step)
os.kill(os.getpid(), signal.SIGKILL)
"""
    )
    assert script.returncode == -signal.SIGKILL, script.stderr
    run_id = run_id_of(script.stdout)
    assert ended(guest, run_id)["status"] == "Failed"
    assert [point["value"] for point in points(guest, run_id)] == [step / 7 for step in range(50_000)]


def test_a_server_that_is_killed_and_started_again_repeats_and_loses_nothing(place: Place) -> None:
    server = place.up()
    script = subprocess.Popen(
        [
            sys.executable,
            "-c",
            BEGIN
            + """
with experiment.start_logging() as run:
    print(run.id, flush=True)
    for step in range(100_000):
        run.log("loss", float(step))
        if step % 1000 == 0:
            run.log_list("list", [float(step)] * 3)
            time.sleep(0.05)
""",
        ],
        env=place.environment(RUNSTREAM_DRAIN="1"),
        cwd=place.work,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert script.stdout is not None
    with script, script.stdout as out:
        run_id = out.readline().strip()
        for _ in range(3):
            wait_for(lambda: place.runstream("metrics", run_id).returncode == 0, "first points")
            server.kill()
            server = place.up()
        assert script.wait(120) == 0
    assert ended(place, run_id)["status"] == "Completed"
    found = points(place, run_id)
    assert [point["value"] for point in found if point["metric"] == "loss"] == [
        float(step) for step in range(100_000)
    ]
    assert [point["value"] for point in found if point["metric"] == "list"] == [
        float(step) for step in range(0, 100_000, 1000) for _ in range(3)
    ]


def test_without_a_server_nothing_waits_and_nothing_is_lost(place: Place) -> None:
    script = place.script(
        BEGIN
        + """
begun = time.monotonic()
with experiment.start_logging() as run:
    print(run.id)
    for step in range(1000):
        run.log("loss", float(step))
print(time.monotonic() - begun)
"""
    )
    assert script.returncode == 0, script.stderr
    assert "1,000" in script.stderr or "1000" in script.stderr or str(place.spool) in script.stderr
    run_id = run_id_of(script.stdout)
    place.up()
    assert ended(place, run_id)["status"] == "Completed"
    assert [point["value"] for point in points(place, run_id)] == [float(step) for step in range(1000)]


def test_a_copied_spool_synced_twice_is_the_same_run(place: Place) -> None:
    script = place.script(
        BEGIN
        + """
with experiment.start_logging() as run:
    print(run.id)
    run.log("equal", 1.0)
    run.log("equal", 1.0)
    run.log_list("list", [2.0, 2.0, 2.0])
    run.log_list("empty", [])
"""
    )
    assert script.returncode == 0, script.stderr
    run_id = run_id_of(script.stdout)
    copy = place.root / "copy"
    shutil.copytree(place.spool, copy, ignore=shutil.ignore_patterns("*.sock"))
    other = Place(place.root / "elsewhere")
    try:
        other.up()
        for _ in range(2):
            again = place.root / "again"
            shutil.copytree(copy, again)
            synced = other.runstream("sync", str(again))
            assert synced.returncode == 0, synced.stderr
            shutil.rmtree(again)
            assert ended(other, run_id)["status"] == "Completed"
            found = points(other, run_id)
            assert [(point["metric"], point["value"]) for point in found] == [
                ("equal", 1.0),
                ("equal", 1.0),
                ("list", 2.0),
                ("list", 2.0),
                ("list", 2.0),
            ]
    finally:
        other.close()


def test_with_nothing_configured_the_sender_starts_a_server(place: Place) -> None:
    script = place.script(
        BEGIN
        + """
with experiment.start_logging() as run:
    print(run.id)
    run.log("loss", 0.5)
""",
        RUNSTREAM_AUTOSTART="1",
        CI="",
        RUNSTREAM_IDLE_EXIT_S="60",
    )
    assert script.returncode == 0, script.stderr
    run_id = run_id_of(script.stdout)
    discovery = wait_for(place.discovery, "the server")
    try:
        assert discovery["autostarted"]
        assert "runstream up" not in script.stderr  # it is started, or the sender is
        told = script.stderr
        for _ in range(2):
            again = place.script(BEGIN + "experiment.start_logging().complete()", RUNSTREAM_DRAIN="1")
            assert again.returncode == 0, again.stderr
            told += again.stderr
        assert told.count(f"a server was started: {discovery['http']}") == 1, told
        assert ended(place, run_id)["status"] == "Completed"
        assert [point["value"] for point in points(place, run_id)] == [0.5]
    finally:
        os.kill(int(discovery["pid"]), signal.SIGTERM)
        wait_for(lambda: place.discovery() is None, "its end")


def test_the_demo_twice_and_after_one_that_was_killed(place: Place) -> None:
    examples = place.root / "examples"
    shutil.copytree(ROOT / "examples", examples, ignore=shutil.ignore_patterns("__pycache__"))

    def demo() -> str:
        done = place.python([str(examples / "demo.py")], {})
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert "best alpha, read from the server: 0." in demo()
    killed = subprocess.Popen(
        [sys.executable, str(examples / "demo.py")],
        env=place.environment(),
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert killed.stdout is not None
    with killed, killed.stdout as out:
        wait_for(lambda: "alpha 0.10" in out.readline(), "the sweep to be under way")
        killed.kill()
    assert "a server of an earlier demo is stopped first" in demo()
    assert not (place.root / ".demo" / "home" / "server.json").exists()


def test_the_notebook_example(guest: Place) -> None:
    done = guest.python([str(ROOT / "examples" / "notebook_run.py")], {})
    assert done.returncode == 0, done.stderr
    assert "50 epochs" in done.stdout
    assert "/r/" in done.stdout
