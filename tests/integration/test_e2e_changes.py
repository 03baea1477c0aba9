"""Changes that are asked of the server: to cancel, archive and delete runs; what is kept of experiments."""

from __future__ import annotations

import pytest

from tests.desk import Desk
from tests.server import Place


@pytest.fixture
def desk(lodger: Place, request: pytest.FixtureRequest) -> Desk:
    """A workspace for this test alone."""
    return Desk(lodger, request.node.name)


def test_a_run_is_canceled_from_the_command_line(desk: Desk) -> None:
    code = """
run = experiment.start_logging()
print(run.id, flush=True)
while True:
    run.log("x", 1)
    time.sleep(0.05)
"""
    with desk.start(code) as process:
        assert process.stdout is not None
        run_id = process.stdout.readline().strip()
        done = desk.runstream("cancel", run_id, "--reason", "enough")
        assert (done.returncode, done.stdout) == (0, f"{run_id}\n"), done.stderr
        _, err = process.communicate(timeout=60)
    assert process.returncode not in (0, None)
    assert f"somebody asked for the end of {run_id}" in err

    assert desk.ended(run_id)["status"] == "Canceled"
    again = desk.runstream("cancel", run_id)
    assert again.returncode == 1, again.stderr
    unknown = desk.runstream("cancel", "nonesuch")
    assert unknown.returncode == 4, unknown.stderr


def test_a_run_that_goes_on_after_a_request_to_cancel(desk: Desk) -> None:
    """Its process is told, decides for itself, and what it says of its end counts."""
    done = desk.script(
        """
run = experiment.start_logging()
others = run.create_children(2)
Run(experiment, run.id).log("x", 1)
assert not run.cancel_requested
import subprocess
subprocess.run([sys.executable, "-m", "runstream.cli", "cancel", run.id], check=True, stdout=2)
deadline = time.monotonic() + 60
while not run.cancel_requested and time.monotonic() < deadline:
    time.sleep(0.02)
assert run.cancel_requested
assert run.get_status() == "CancelRequested", run.get_status()
assert not others[0].cancel_requested
run.complete()
print(run.get_status(), Run.get(ws, run.id).get_status())
"""
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "Completed Completed\n"


def test_archive_and_delete(desk: Desk) -> None:
    done = desk.script(
        """
runs = [experiment.start_logging() for _ in range(3)]
for run in runs: run.complete()
runs[0].archive()
assert list(experiment.get_runs()) == runs[:0:-1]
assert list(experiment.get_runs(archived=True)) == runs[::-1]
runs[0].reactivate()
assert len(list(experiment.get_runs())) == 3
living = experiment.start_logging()
try:
    living.delete()
except Exception as error:
    assert "cancel" in str(error), error
else:
    raise AssertionError
living.complete()
for run in (*runs, living): run.delete()
assert list(experiment.get_runs()) == []
try:
    Run.get(ws, "nonesuch").delete()
except ServiceException:
    pass
"""
    )
    assert done.returncode == 0, done.stderr


def test_a_link_shows_a_run_until_it_is_revoked(desk: Desk) -> None:
    done = desk.script(
        """
from datetime import UTC, datetime, timedelta
from urllib.error import HTTPError
from urllib.request import urlopen
from runstream.errors import UserError
run = experiment.start_logging(display_name="brave-fern")
other = experiment.start_logging()
link = run.share(expires=timedelta(hours=2), note="for the review")
assert abs(link.expires - datetime.now(UTC) - timedelta(hours=2)) < timedelta(minutes=10), link
assert str(link) == link.url and "/s/rss_" in link.url
urlopen(link.url).read()
week = other.share()
assert abs(week.expires - datetime.now(UTC) - timedelta(days=7)) < timedelta(minutes=10), week
(listed,) = run.get_shares()
assert (listed.id, listed.note, listed.url) == (link.id, "for the review", "")
listed.revoke()
assert run.get_shares() == []
try:
    urlopen(link.url)
except HTTPError as error:
    assert error.code == 401, error
else:
    raise AssertionError
urlopen(week.url).read()
for wrong in (0, -1, float("nan"), "1 day", True, timedelta(days=400)):
    try:
        run.share(wrong)
    except UserError as error:
        assert "expires" in str(error), error
    else:
        raise AssertionError(wrong)
run.complete(); other.complete()
"""
    )
    assert done.returncode == 0, done.stderr


def test_files_of_a_deleted_run_can_be_read_as_a_model_only(desk: Desk) -> None:
    done = desk.script(
        """
import io
run = experiment.start_logging(outputs=False)
run.log("a", 1)
run.upload_file("outputs/model/weights.bin", io.BytesIO(b"weights"))
run.upload_file("outputs/other.bin", io.BytesIO(b"other"))
run.register_model("kept", "outputs/model")
run.complete()
assert run.get_file_names() == ["outputs/model/weights.bin", "outputs/other.bin"]
run.delete()
from runstream.core import Model, reads
from runstream.errors import NotFoundError
client = reads.client(ws)
def refused(call):
    try:
        call()
    except NotFoundError:
        return
    raise AssertionError
refused(run.get_file_names)
assert run.get_metrics() == {}
refused(lambda: client.download_artifact(ws.name, run.id, "outputs/other.bin", io.BytesIO()))
model = Model(ws, "kept")
assert (model.version, model.run_id, model.get_file_names()) == (1, run.id, ["outputs/model/weights.bin"])
assert open(os.path.join(model.download("got"), "weights.bin"), "rb").read() == b"weights"
"""
    )
    assert done.returncode == 0, done.stderr


def test_what_is_kept_of_an_experiment(desk: Desk) -> None:
    done = desk.script(
        """
import datetime
assert ws.get_details()["creationTime"] == "" and experiment.archived_time is None
began = datetime.datetime.now(datetime.UTC)
first = experiment.start_logging(); first.complete()
assert ws.get_details()["creationTime"] == first.get_details()["startTimeUtc"]
experiment.tag("owner", "me"); experiment.set_tags({"n": 1, "none": None}); experiment.remove_tags(["none"])
assert experiment.tags == Experiment(ws, "family").tags == {"owner": "me", "n": "1"}
assert Experiment.list(ws, tags={"owner": "me"}) == Experiment.list(ws, tags="n") == [experiment]
assert Experiment.list(ws, tags="nonesuch") == []
experiment.archive()
assert experiment.archived and ws.experiments == {} and Experiment.list(ws, view_type="All") == [experiment]
assert Experiment.list(ws, view_type="ArchivedOnly") == [experiment]
assert began < experiment.archived_time < datetime.datetime.now(datetime.UTC)
experiment.reactivate()
assert experiment.archived_time is None
assert list(ws.experiments) == ["family"] and not experiment.archived
try:
    Experiment.delete(ws, experiment.id)
except UserErrorException as error:
    assert "has 1 runs" in str(error), error
else:
    raise AssertionError
assert Experiment(ws, "still-to-come").tags == {}
"""
    )
    assert done.returncode == 0, done.stderr
