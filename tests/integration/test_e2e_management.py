"""Runs as seen from other processes than the one that logged them: families, details, modes, attempts.

One server answers all tests; each has a workspace of its own.
"""

from __future__ import annotations

import json
import signal
import time

import pytest

from tests.desk import Desk
from tests.server import Place, wait_for


@pytest.fixture
def desk(lodger: Place, request: pytest.FixtureRequest) -> Desk:
    """A workspace for this test alone."""
    return Desk(lodger, request.node.name.partition("[")[0])


SWEEP = """
with experiment.start_logging(display_name="sweep", tags={"kind": "parent"}, description="*all*") as run:
    run.log("best", 0.25)
    run.add_properties({"author": "me"})
    run.log_params({"method": "grid"})
    for n, child in enumerate(run.create_children(tag_key="alpha", tag_values=[0.1, 0.2, 0.3])):
        child.log_params({"alpha": n / 10})
        child.log("mse", 3.5 - n)
        if n == 1:
            child.fail("it diverged")
        elif n == 0:
            child.add_properties({"first": "yes"})
            with child.child_run("below") as below:
                below.log("deep", 7)
            child.complete()
        else:
            child.complete()
print(run.id)
"""

READ = """
run = Run.get(ws, sys.argv[1])
assert run == ws.get_run(run.id) == get_run(experiment, run.id) == Run(experiment, run.id)
assert (run.experiment.name, run.number, run.type, run.parent) == ("family", 1, None, None)
assert run.status == "Completed"
assert (run.display_name, run.description, run.tags) == ("sweep", "*all*", {"kind": "parent"})
assert (run.get_properties(), run.get_params()) == ({"author": "me"}, {"method": "grid"})
try:
    run.add_properties({"author": "you"})
except UserErrorException as error:
    assert "never change" in str(error)
else:
    raise AssertionError
run.add_properties({"reader": "too", "author": "me"})
assert run.get_properties() == {"author": "me", "reader": "too"}
run.tag("seen"); run.remove_tags(["kind"]); run.display_name = "renamed"
assert (run.get_tags(), run.display_name) == ({"seen": None}, "renamed")

children = list(run.get_children())
assert [child.tags for child in children] == [{"alpha": "0.3"}, {"alpha": "0.2"}, {"alpha": "0.1"}]
assert [child.parent for child in children] == [run] * 3
first = children[-1]
(below,) = first.get_children()
assert (below.display_name, below.parent) == ("below", first)
assert set(run.get_children(recursive=True)) == {*children, below}
assert list(run.get_children(status="Failed")) == children[1:2]
assert list(run.get_children(tags={"alpha": 0.1})) == list(run.get_children(properties="first")) == [first]
assert list(run.get_children(type="azureml.scriptrun")) == []
found = run.get_metrics(recursive=True)
assert found == {
    run.id: {"best": 0.25}, children[0].id: {"mse": 1.5}, children[1].id: {"mse": 2.5},
    first.id: {"mse": 3.5}, below.id: {"deep": 7},
}
assert run.get_metrics("mse", recursive=True).keys() == {child.id for child in children}
assert run.get_metrics(recursive=True, run_type="azureml.scriptrun") == {}

assert list(experiment.get_runs()) == [run] and len(list(experiment.get_runs(include_children=True))) == 5
assert list(experiment.get_runs(tags="nonesuch")) == []
assert list(experiment.get_runs(properties={"author": "me"})) == [run]
assert list(Run.list(experiment, status="Failed", include_children=True)) == children[1:2]
assert list(Run.list(experiment, status="Failed")) == []
assert set(ws.experiments) == {"family"} and Experiment.list(ws, "nonesuch") == []
assert Workspace.get(ws.name) == ws and ws.name in Workspace.list()

details = run.wait_for_completion()
assert details["status"] == "Completed" and details["startTimeUtc"] <= details["endTimeUtc"]
assert details["properties"] == {"author": "me", "reader": "too"}
try:
    children[1].wait_for_completion()
except ActivityFailedException as error:
    assert "it diverged" in str(error)
else:
    raise AssertionError
assert children[1].wait_for_completion(raise_on_error=False)["error"]["error"]["message"] == "it diverged"
for call in (lambda: Run.get(ws, "nonesuch"), lambda: Run(experiment, "nonesuch").get_metrics(),
             lambda: Run(experiment, "nonesuch").get_status(), lambda: get_run(Experiment(ws, "x"), run.id)):
    try:
        call()
    except ServiceException as error:
        assert "nonesuch" in str(error) or "family" in str(error), error
    else:
        raise AssertionError
for call in (lambda: Workspace.get("nonesuch"), lambda: Workspace.create(ws.name)):
    try:
        call()
    except WorkspaceException as error:
        assert "Workspace." in str(error)
    else:
        raise AssertionError
"""


def test_another_process_sees_the_family(desk: Desk) -> None:
    logged = desk.script(SWEEP)
    assert logged.returncode == 0, logged.stderr
    read = desk.script(READ, logged.stdout.strip())
    assert read.returncode == 0, read.stderr


def test_what_was_logged_offline_is_delivered_by_sync(desk: Desk) -> None:
    spool = desk.place.spool
    logged = desk.script(SWEEP, RUNSTREAM_MODE="offline")
    assert logged.returncode == 0, logged.stderr
    assert "offline: what was logged kept in" in logged.stderr
    assert "`runstream sync` delivers it" in logged.stderr
    refused = desk.runstream("sync", "--timeout", "0.5", RUNSTREAM_SERVER="127.0.0.1:1")
    assert refused.returncode == 3, refused.stderr
    # A script that logs online has a sender started, which leaves what is offline alone.
    online = desk.script("Experiment(ws, 'other').start_logging().complete()")
    assert online.returncode == 0, online.stderr
    assert list(spool.glob("offline/*/*/writer.json"))
    synced = desk.runstream("sync")
    assert (synced.returncode, synced.stderr) == (0, "")
    assert " 5 runs " in synced.stdout
    assert not list(spool.glob("offline/*/*/writer.json"))
    assert desk.runstream("sync").stderr == "Nothing was logged offline.\n"
    read = desk.script(READ.replace('{"family"}', '{"family", "other"}'), logged.stdout.strip())
    assert read.returncode == 0, read.stderr


def test_a_script_that_was_not_submitted_has_a_run_all_the_same(desk: Desk) -> None:
    done = desk.script(
        """
run = Run.get_context()
run.log("x", 1, step=1); run.log("x", 2, step=2)
assert run.get_metrics() == {"x": [1, 2]}
run.complete()
run.log("after", 1)
assert run.get_status() == "Completed" and run.get_metrics()["after"] == 1
print(run.id, run.experiment.name)
"""
    )
    assert done.returncode == 0, done.stderr
    run_id, experiment = done.stdout.split()
    assert (run_id.startswith("OfflineRun_"), experiment) == (True, "script")
    assert done.stderr.count("it logs to a run of its own") == 1


def test_a_run_that_is_resumed_keeps_its_attempts(desk: Desk) -> None:
    first = desk.script(
        """
run = experiment.start_logging(run_id="mine", tags={"a": "1"})
for step in range(10):
    run.log("loss", 100.0 + step, step=step)
raise RuntimeError("broken")
"""
    )
    assert first.returncode == 1
    again = desk.script(
        """
run = experiment.start_logging(run_id="mine")
assert run.get_status() == "Running", run.get_status()
for step in range(5, 15):
    run.log("loss", 200.0 + step, step=step)
run.log("more", 1)
assert run.get_metrics()["loss"] == [*(100.0 + s for s in range(5)), *(200.0 + s for s in range(5, 15))]
assert run.get_tags() == {"a": "1"}
run.complete()
"""
    )
    assert again.returncode == 0, again.stderr
    wait_for(lambda: desk.ended("mine")["attempts"] == 2, "both attempts")
    assert desk.ended("mine")["status"] == "Completed"
    read = desk.script(
        """
from runstream.errors import NotFoundError
run = Run(experiment, "mine")
found = {n: run.get_metrics(attempt=n) for n in (1, 2)}
assert found[1] == {"loss": [100.0 + s for s in range(10)]}, found
assert found[2] == {"loss": [200.0 + s for s in range(5, 15)], "more": 1}, found
assert run.get_metrics("more", attempt=1) == {}
assert run.get_metrics("loss", attempt=2) == {"loss": found[2]["loss"]}
first, second = run.get_attempts()
assert (first.number, first.failed, first.ranks) == (1, 1, ()), first
assert (second.number, second.failed) == (2, 0), second
assert first.started_utc < first.ended_utc <= second.started_utc < second.ended_utc
for wrong in (0, -1, True, "1", 2**40):
    try:
        run.get_metrics(attempt=wrong)
    except UserErrorException as error:
        assert "an attempt is a number from 1" in str(error)
    else:
        raise AssertionError(wrong)
for name in (None, "loss"):
    for recursive in (False, True):
        try:
            run.get_metrics(name, recursive, attempt=3)
        except NotFoundError as error:
            assert str(error) == "run mine has no attempt 3: its attempts are 1, 2", error
        else:
            raise AssertionError("there is no attempt 3")
"""
    )
    assert read.returncode == 0, read.stderr
    told = {n: desk.runstream("metrics", "mine", "--attempt", n) for n in ("1", "2", "3", "0")}
    assert told["1"].stdout.split() == ["METRIC", "COUNT", "LAST", "loss", "10", "109"], told["1"].stderr
    assert "more" in told["2"].stdout
    assert (told["3"].returncode, told["0"].returncode) == (4, 2)
    assert "run mine has no attempt 3: its attempts are 1, 2" in told["3"].stderr
    csv = desk.runstream("metrics", "mine", "loss", "--attempt", "1", "--csv").stdout
    assert [float(line.rpartition(",")[2]) for line in csv.split()[1:]] == [100.0 + s for s in range(10)]
    missing = desk.runstream("metrics", "mine", "more", "--attempt", "1", "--csv")
    assert (missing.returncode, "the attempt has no metric more" in missing.stderr) == (4, True)


def test_attempts_of_children_are_their_own(desk: Desk) -> None:
    code = """
with experiment.start_logging(run_id="top") as run:
    run.log("n", int(sys.argv[1]))
    if len(sys.argv) > 2:
        with run.child_run("once", run_id="once") as child:
            child.log("n", 10)
"""
    for arguments in (["1", "child"], ["2"]):
        done = desk.script(code, *arguments)
        assert done.returncode == 0, done.stderr
    desk.ended("once")
    wait_for(lambda: desk.ended("top")["attempts"] == 2, "both attempts")
    read = desk.script(
        """
run = Run(experiment, "top")
assert run.get_metrics(recursive=True, attempt=1) == {"top": {"n": 1}, "once": {"n": 10}}
assert run.get_metrics(recursive=True, attempt=2) == {"top": {"n": 2}}
assert [attempt.number for attempt in Run(experiment, "once").get_attempts()] == [1]
os.environ["RUNSTREAM_MODE"] = "offline"
with experiment.start_logging(run_id="kept") as kept:
    kept.log("n", 1)
assert kept.get_metrics() == {"n": 1}
try:
    kept.get_metrics(attempt=1)
except ServiceException as error:
    assert "RUNSTREAM_MODE is offline" in str(error)
else:
    raise AssertionError("nobody can tell")
"""
    )
    assert read.returncode == 0, read.stderr


@pytest.mark.parametrize(
    ("ending", "code", "status", "says"),
    [
        ("sys.exit(3)", 3, "Failed", "exit code 3"),
        ("raise ValueError('the reason')", 1, "Failed", "ValueError: the reason"),
        ("raise KeyboardInterrupt", -signal.SIGINT, "Canceled", ""),
        ("pass", 0, "Completed", ""),
    ],
)
def test_how_a_script_ends_is_how_its_run_ends(
    desk: Desk, ending: str, code: int, status: str, says: str
) -> None:
    done = desk.script(f"run = experiment.start_logging()\nprint(run.id, flush=True)\n{ending}")
    assert done.returncode == code, done.stderr

    found = desk.ended(done.stdout.strip())
    assert found["status"] == status
    assert says in str(found["error"] or "")
    if "ValueError" in says:
        assert "Traceback" in str(found["error"])


def test_waiting_for_a_run_of_another_process(desk: Desk) -> None:
    code = "run = experiment.start_logging()\nprint(run.id, flush=True)\ninput()\n1/0"
    with desk.start(code) as process:
        assert process.stdout is not None
        run_id = process.stdout.readline().strip()
        with desk.start("Run.get(ws, sys.argv[1]).wait_for_completion(show_output=True)", run_id) as waiter:
            assert waiter.stdout is not None
            assert waiter.stdout.readline() == f"RunId: {run_id}\n"
            time.sleep(0.5)
            assert waiter.poll() is None
            process.communicate("\n", timeout=60)
            out, err = waiter.communicate(timeout=60)
    assert waiter.returncode == 1
    assert "ActivityFailedError" in err
    assert "ZeroDivisionError" in err
    assert "Execution Summary" in out
    assert "Status: Failed" in out


def test_doctor(desk: Desk) -> None:
    found = desk.runstream("doctor", "--json")
    checks = {check["name"]: check for check in map(json.loads, found.stdout.splitlines())}
    assert found.returncode == 0, found.stdout
    assert {"client", "mode", "config", "server", "version", "clock", "spool", "disk", "sender"} <= set(
        checks
    )
    assert {check["state"] for check in checks.values()} <= {"ok", "warning"}
    assert checks["clock"]["state"] == "ok", checks["clock"]  # it is this machine's own
    refused = desk.runstream("doctor", RUNSTREAM_API_KEY="wrong")
    assert refused.returncode == 3, refused.stdout
    assert "RUNSTREAM_API_KEY" in refused.stdout
    away = desk.runstream("doctor", RUNSTREAM_SERVER="127.0.0.1:1")
    assert away.returncode == 3
    assert "✗ server" in away.stdout
