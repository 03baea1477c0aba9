"""Runs as their users see them: when each began, how each ended, which server has which."""

from __future__ import annotations

import datetime
import json
import urllib.error
import urllib.request

import pytest

from tests.integration.test_e2e_line import BEGIN
from tests.server import Place


def listed(place: Place) -> dict[str, dict[str, object]]:
    printed = place.runstream("runs", "--json")
    assert printed.returncode == 0, printed.stderr
    found = [json.loads(line) for line in printed.stdout.splitlines()]
    return {str(run["id"]): run for run in found}


def test_each_run_of_a_script_has_its_own_start_and_the_first_end_counts(guest: Place) -> None:
    script = guest.script(
        BEGIN
        + """
import datetime
for ends in (("complete",), ("fail", "complete"), ("cancel", "fail")):
    began = time.time()
    run = experiment.start_logging()
    run.log("a", 1)
    for end in ends:
        getattr(run, end)()
    print(json.dumps([run.id, began, time.time(), run.get_status()]))
    time.sleep(0.3)
"""
    )
    assert script.returncode == 0, script.stderr
    runs = listed(guest)
    said = [json.loads(line) for line in script.stdout.splitlines()]
    assert [status for *_, status in said] == ["Completed", "Failed", "Canceled"]
    assert [runs[run]["status"] for run, *_ in said] == ["Completed", "Failed", "Canceled"]
    assert [runs[run]["number"] for run, *_ in said] == [1, 2, 3]
    for run, began, ended, _ in said:
        started = datetime.datetime.fromisoformat(str(runs[run]["started"])[:26] + "+00:00").timestamp()
        assert began - 0.001 <= started <= ended


def test_a_script_that_logs_to_two_servers_reads_from_each(place: Place) -> None:
    first = place.up()
    other = Place(place.root / "other")
    try:
        second = other.up()
        token = (other.discovery() or {})["token"]
        script = place.script(
            BEGIN
            + f"""
runs = []
for server, key in (({first.grpc!r}, None), ({second.grpc!r}, {token!r})):
    os.environ["RUNSTREAM_SERVER"] = server
    os.environ.pop("RUNSTREAM_API_KEY", None)
    if key:
        os.environ["RUNSTREAM_API_KEY"] = key
    run = Experiment(Workspace.from_config(), "line").start_logging()
    run.log("server", server)
    runs.append((server, key, run))
for server, key, run in runs:
    os.environ["RUNSTREAM_SERVER"] = server
    os.environ.pop("RUNSTREAM_API_KEY", None)
    if key:
        os.environ["RUNSTREAM_API_KEY"] = key
    assert run.get_metrics() == {{"server": server}}, (server, run.get_metrics())
    run.complete()
"""
        )
        assert script.returncode == 0, script.stderr
    finally:
        other.close()


def test_arguments_that_make_no_sense_are_told(place: Place) -> None:
    server = place.up()
    script = place.script(
        BEGIN
        + """
from runstream.errors import NotFoundError, UserError
run = experiment.start_logging()
run.log_row("t", **{"self": 1, "x": 2})
assert run.get_metrics("t") == {"t": {"self": 1, "x": 2}}
for arguments in ({"name": 5}, {"name": ""}, {"rank": "x"}, {"rank": -1}, {"rank": True}):
    try:
        run.get_metrics(**arguments)
    except UserError:
        continue
    raise SystemExit(f"{arguments} was taken")
assert run.get_metrics(None, False, None, False) == {"t": {"self": 1, "x": 2}}
try:
    Run(experiment, "typo").get_metrics()
except NotFoundError:
    pass
else:
    raise SystemExit("an unknown run has metrics")
run.tag("\\x1b]0;title\\x07")
run.complete()
print(run.id)
"""
    )
    assert script.returncode == 0, script.stderr + script.stdout
    assert "\x1b" not in place.runstream("runs").stdout
    discovery = place.discovery() or {}
    for body in ({"statuses": ["BOGUS"]}, {"workspaces": "local"}):
        request = urllib.request.Request(
            f"{discovery['http']}/runstream.v1.QueryService/SearchRuns",
            json.dumps(body).encode(),
            {"content-type": "application/json", "authorization": f"Bearer {discovery['token']}"},
        )
        with pytest.raises(urllib.error.HTTPError, match="400") as refused:
            urllib.request.urlopen(request)
        with refused.value as answer:
            problem = json.load(answer)
        assert problem["code"] == "invalid_argument"
        for said in body if "workspaces" in body else ("statuses", "BOGUS"):
            assert said in problem["message"]
    assert server.process.poll() is None


def test_a_run_whose_start_is_still_on_its_way_is_known_to_other_processes(guest: Place) -> None:
    began = guest.script(BEGIN + "experiment.start_logging().complete()")
    assert began.returncode == 0, began.stderr
    reader = (
        BEGIN
        + """
run = Run(experiment, sys.argv[1])
print("ready", flush=True)
print(run.get_metrics(), run.get_status(), flush=True)
"""
    )
    script = guest.script(
        BEGIN
        + f"""
import signal, subprocess
sender = {guest.sender()}
os.kill(sender, signal.SIGSTOP)
run = experiment.start_logging()
run.log("a", 1)
command = [sys.executable, "-c", {reader!r}, run.id]
with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as reader:
    assert reader.stdout.readline() == "ready\\n"
    time.sleep(0.3)
    os.kill(sender, signal.SIGCONT)
    print(reader.stdout.read().strip())
run.complete()
"""
    )
    assert script.returncode == 0, script.stderr
    # It is live: of its points the reader gets those that are there.
    assert script.stdout.strip() in ("{} Running", "{'a': 1} Running"), script.stdout + script.stderr


def test_a_server_on_the_other_loopback_address_is_found(place: Place) -> None:
    place.up("--host", "::1")
    script = place.script(
        BEGIN + "run = experiment.start_logging(); run.log('a', 1); print(run.get_metrics()); run.complete()"
    )
    assert script.returncode == 0, script.stderr
    assert script.stdout.strip() == "{'a': 1}"
