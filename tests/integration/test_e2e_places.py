"""Scripts in places that are short of something: disk, a home, other processes, a server."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from runstream.client import Client
from runstream.v1.run_pb2 import RunStatus
from tests.server import Place, wait_for

BEGIN = """
import os, sys, time
from runstream import Experiment, Workspace
experiment = Experiment(Workspace.from_config(), "places")
"""
FEW = (
    BEGIN
    + """
with experiment.start_logging() as run:
    print(run.id, flush=True)
    for step in range(1000):
        run.log("loss", float(step))
"""
)

needs_namespaces = pytest.mark.skipif(
    subprocess.run(
        ["unshare", "--mount", "--pid", "--fork", "true"], capture_output=True, check=False
    ).returncode
    != 0
    if shutil.which("unshare")
    else True,
    reason="needs the right to make namespaces",
)


def completed(place: Place, run_id: str) -> list[float]:
    """Values of `loss`, once the run has ended well."""

    def look() -> RunStatus.ValueType:
        found = (run for run in client.search_runs(place.workspace) if run.ref.run == run_id)
        return next((run.status for run in found if run.ended_time_ns and not run.settling), 0)  # type: ignore[return-value]

    with place.client() as client:
        assert wait_for(look, "the run to end") == RunStatus.RUN_STATUS_COMPLETED
        (series,) = client.get_metrics(place.workspace, [run_id], ["loss"]).series
    return [float(value) for value in series.values()]


def run_in(
    command: list[str], place: Place, code: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """A script under another command."""
    return subprocess.run(
        [*command, sys.executable, "-c", code],
        env=place.environment(**environment),
        cwd=place.work,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


@needs_namespaces
def test_a_job_that_is_pid_1_delivers_before_it_ends(guest: Place) -> None:
    """With its end the kernel kills everything in its namespace, the sender too."""
    done = run_in(["unshare", "--pid", "--fork", "--mount-proc"], guest, FEW + "assert os.getpid() == 1\n")
    assert done.returncode == 0, done.stderr
    assert completed(guest, done.stdout.strip()) == [float(step) for step in range(1000)]


@needs_namespaces
def test_a_home_that_is_read_only(guest: Place, tmp_path: Path) -> None:
    """State and spool go to /var/tmp, here one of its own."""
    for name in ("home", "var"):
        (tmp_path / name).mkdir()
    script = f'mount -t tmpfs -o ro none {tmp_path}/home && mount --bind {tmp_path}/var /var/tmp && exec "$@"'
    code = FEW + "assert os.statvfs(os.environ['HOME']).f_flag & os.ST_RDONLY\n"
    server = guest.server
    done = run_in(
        ["unshare", "--mount", "sh", "-c", script, "sh"],
        guest,
        code,
        HOME=str(tmp_path / "home"),
        XDG_STATE_HOME="",
        RUNSTREAM_HOME="",
        RUNSTREAM_SPOOL="",
        RUNSTREAM_SERVER=server.grpc,
        RUNSTREAM_HTTP_SERVER=server.http,
        RUNSTREAM_API_KEY=server.token,
    )
    assert done.returncode == 0, done.stderr
    assert completed(guest, done.stdout.strip()) == [float(step) for step in range(1000)]
    (mine,) = (tmp_path / "var").iterdir()
    assert mine.name == f"runstream-{os.getuid()}"
    end_sender_of(mine)


def test_where_the_server_says_that_it_is_read_is_not_reached_from_here(place: Place) -> None:
    """Behind a tunnel, say: the setting names another way, also to a process that has logged."""
    server = place.up("--public-url", "http://127.0.0.1:1")
    code = FEW + "assert run.get_metrics()['loss'] == [float(step) for step in range(1000)]\n"
    ways = {"RUNSTREAM_SERVER": server.grpc, "RUNSTREAM_API_KEY": server.token}
    done = place.script(code, **ways, RUNSTREAM_HTTP_SERVER=server.http)
    assert done.returncode == 0, done.stderr
    lost = place.script(code, **ways)
    assert "127.0.0.1:1 can't be reached" in lost.stderr


def end_sender_of(folder: Path) -> None:
    """The sender that was started in a mount namespace of its own."""
    for log in folder.rglob("sender-*.log"):
        for pid in re.findall(r" INFO (\d+) serving ", log.read_text()):
            os.kill(int(pid), signal.SIGTERM)


@needs_namespaces
@pytest.mark.faults
def test_a_full_disk_under_the_spool_stops_no_training(place: Place, tmp_path: Path) -> None:
    """What fits is kept and delivered, the rest is counted and told."""
    place.spool.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(place.spool)], check=True)
    try:
        code = (
            BEGIN
            + """
run = experiment.start_logging()
print(run.id, flush=True)
began = time.monotonic()
for step in range(200_000):
    run.log("loss", float(step))
    if step % 100 == 0:
        run.log("text", "x" * 100)
        run.log_list("list", [float(step)] * 10)
assert time.monotonic() - began < 60
run.complete()
"""
        )
        done = run_in([], place, code)
        assert done.returncode == 0, done.stderr
        told = done.stderr
        server = place.up()
        with Client(server.http, server.token) as client:
            run_id = done.stdout.split()[0]
            wait_for(
                lambda: any(r.ended_time_ns and not r.settling for r in client.search_runs()),
                "the run to end",
            )
            found = {
                series.metric: series.values() for series in client.get_metrics("local", [run_id]).series
            }
        kept = found["loss"]
        assert 1000 < len(kept) < 200_000
        assert kept == sorted(kept)
        assert len(set(kept)) == len(kept)
        assert re.search(r"could not be kept|not kept|dropped|full", told), told
    finally:
        place.close()
        subprocess.run(["umount", "--lazy", str(place.spool)], check=True)


def test_another_machine_with_an_api_key(host: Place, tmp_path: Path) -> None:
    """A user who shares nothing with the server but the network, and a key in a file."""
    key = host.runstream("keys", "add", "bob").stdout.strip()
    server = host.server
    other = Place(tmp_path / "other")
    try:
        config = other.work / ".runstream" / "config.json"
        config.parent.mkdir()
        config.write_text(
            f'{{"workspace_name": "team", "server": "{server.grpc}", "http_server": "{server.http}",'
            ' "api_key_file": "key"}'
        )
        (other.work / "key").write_text(key + "\n")
        script = other.script(FEW + "assert len(run.get_metrics('loss')['loss']) == 1000\n")
        assert script.returncode == 0, script.stderr
        run_id = script.stdout.strip()
        with host.client() as client:
            assert client.get_run("team", run_id).experiment == "places"
        listed = other.runstream("runs", "--json")
        assert run_id in listed.stdout
    finally:
        other.close()


def test_a_wrong_key_is_told_and_nothing_is_lost(guest: Place) -> None:
    server = guest.server
    wrong = guest.script(FEW, RUNSTREAM_SERVER=server.grpc, RUNSTREAM_API_KEY="rsk_wrong")
    assert wrong.returncode == 0, wrong.stderr
    with guest.client() as client:
        assert not list(client.search_runs(guest.workspace))
    read = guest.runstream("runs", RUNSTREAM_API_KEY="rsk_wrong")
    assert read.returncode == 1
    assert "RUNSTREAM_API_KEY" in read.stderr
    synced = guest.runstream("sync", str(guest.spool), RUNSTREAM_API_KEY=server.token)
    assert synced.returncode == 0, synced.stderr
    assert completed(guest, wrong.stdout.strip()) == [float(step) for step in range(1000)]


def test_a_wrong_port_is_told_and_what_was_logged_can_go_to_the_right_one(guest: Place) -> None:
    server = guest.server
    http = server.http.removeprefix("http://")
    code = FEW + "\n".join(
        [
            "for read in run.get_metrics, lambda: list(experiment.get_runs()):",
            "    try:",
            "        read()",
            "    except Exception as error:",
            "        print(type(error).__name__, error)",
        ]
    )
    runs = []
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
    wrong = {http: "not the gRPC port of a runstream server", f"127.0.0.1:{port}": "nothing listens"}
    for address, told in wrong.items():
        script = guest.script(code, RUNSTREAM_SERVER=address)
        assert script.returncode == 0, script.stderr
        run_id, *errors = script.stdout.splitlines()
        runs.append(run_id)
        assert [error.split()[0] for error in errors] == 2 * ["ServiceUnavailableError"]
        lines = [line for line in script.stderr.splitlines() if line.startswith("runstream: ")]
        assert len(lines) == 1
        for text in (*errors, *lines):
            assert address in text
            assert told in text
            assert "RUNSTREAM_SERVER" in text
        listed = guest.runstream("runs", RUNSTREAM_SERVER=address)
        assert listed.returncode == 3
        assert f"is {address} its gRPC port" in listed.stderr
    synced = guest.runstream("sync", "--delete", "--server", server.grpc, str(guest.spool))
    assert synced.returncode == 0, synced.stderr
    for run_id in runs:
        assert completed(guest, run_id) == [float(step) for step in range(1000)]
