"""`RunDetails` at a real server, in a real kernel: what it shows is what was logged."""

from __future__ import annotations

import json
import re
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from tests.desk import HEAD, Desk
from tests.server import Place, wait_for


@pytest.fixture
def desk(lodger: Place, request: pytest.FixtureRequest) -> Desk:
    """A workspace for this test alone."""
    return Desk(lodger, request.node.name)


def test_the_data_are_what_was_logged(desk: Desk) -> None:
    logged = desk.script(
        """
with experiment.start_logging(run_id="shown", display_name="fern", tags={"kind": "parent"}) as run:
    run.log("best", 0.25)
    for step in range(20):
        run.log("loss", 1 / (1 + step), step=step)
    run.log_list("odd", [1.0, float("nan"), float("inf"), 2.0])
    run.log_table("sine", {"angle": [0, 1, 2], "value": [0.0, 0.5, 1.0]})
    run.add_properties({"author": "me"})
    run.log_params({"alpha": 0.1})
    print("first line"); print("<b>last line</b>")
    for n in range(3):
        run.child_run(f"child {n}", run_id=f"child-{n}").complete()
"""
    )
    assert logged.returncode == 0, logged.stderr
    desk.ended("shown")
    read = desk.script(
        """
from runstream.widgets import RunDetails
details = RunDetails(Run(experiment, "shown"))
data = details.get_widget_data()
print(json.dumps([data, details._repr_html_()]))
"""
    )
    assert read.returncode == 0, read.stderr
    data, page = json.loads(read.stdout)
    found = data["run_properties"]
    assert (found["run_id"], found["experiment"], found["name"]) == ("shown", "family", "fern")
    assert (found["status"], found["error"], found["run_number"]) == ("Completed", None, 1)
    assert found["created_utc"] < found["end_time_utc"]
    assert found["tags"] == {"kind": "parent"}
    assert found["properties"]["author"] == "me"
    assert found["parameters"] == {"alpha": "0.1"}
    assert "logs/user_log.txt" in found["log_files"]
    metrics = data["run_metrics"]
    assert metrics.keys() == {"best", "loss", "odd", "sine"}
    assert (metrics["best"], metrics["loss"]) == ([0.25], [1 / (1 + step) for step in range(20)])
    assert repr(metrics["odd"]) == "[1.0, nan, inf, 2.0]"
    assert metrics["sine"] == {"angle": [0, 1, 2], "value": [0.0, 0.5, 1.0]}
    assert {child["run_id"]: (child["name"], child["status"]) for child in data["child_runs"]} == {
        f"child-{n}": (f"child {n}", "Completed") for n in range(3)
    }
    assert data["run_logs"].splitlines()[-2:] == ["first line", "<b>last line</b>"]
    assert page.count("<figure") == 3
    assert "&lt;b&gt;last line&lt;/b&gt;" in page
    assert f'href="{found["portal_url"]}"' in page


def test_a_reading_asks_for_the_children_once(desk: Desk) -> None:
    logged = desk.script(
        """
with experiment.start_logging(run_id="parent") as run:
    for n in range(3):
        with run.child_run(f"child {n}", run_id=f"child-{n}") as child:
            child.log("mse", n / 4)
            child.log_params({"n": n})
"""
    )
    assert logged.returncode == 0, logged.stderr
    desk.ended("parent")
    read = desk.script(
        """
from runstream.client import Client
from runstream.widgets.watched import Watched
asked = []
search = Client.search_runs
def counted(*arguments, **more):
    asked.append(more)
    return search(*arguments, **more)
Client.search_runs = counted
watched = Watched(Run(experiment, "parent"))
watched.read()
metrics = {child: dict(found) for child, found in watched.child_metrics.items()}
print(json.dumps([len(asked), watched.children, metrics]))
"""
    )
    assert read.returncode == 0, read.stderr
    times, children, metrics = json.loads(read.stdout)
    assert times == 1
    assert {child["run_id"]: child["parameters"] for child in children} == {
        f"child-{n}": {"n": str(n)} for n in range(3)
    }
    assert metrics == {f"child-{n}": {"mse": n / 4} for n in range(3)}


def test_the_last_expression_of_a_cell_reads_no_more_than_it_shows(desk: Desk) -> None:
    logged = desk.script(
        """
with experiment.start_logging(run_id="long") as run:
    run.log_list("loss", list(range(50_000)))
    run.log("best", 0.25)
"""
    )
    assert logged.returncode == 0, logged.stderr
    read = desk.script(
        """
from runstream.client import Client
from runstream.widgets import RunDetails
whole = []
get = Client.get_metrics
def counted(client, workspace, runs, metrics=(), **more):
    found = get(client, workspace, runs, metrics, **more)
    whole.extend(len(series) for series in found.series)
    return found
Client.get_metrics = counted
elsewhere = Run(Experiment(ws, "other"), "long")  # as somebody may mistake it
page = RunDetails(elsewhere)._repr_html_()
print(json.dumps([sum(whole), page, str(elsewhere), elsewhere._repr_html_()]))
"""
    )
    assert read.returncode == 0, read.stderr
    count, page, text, row = json.loads(read.stdout)
    assert count == 1
    assert "50,000 values" in page
    assert "49999" in page
    assert re.findall(r'text-anchor="start">([^<]*)<', page) == ["0"]  # where x begins
    assert "0.25" in page
    # Its experiment is the server's word.
    assert "Experiment: family," in text
    assert "family" in row
    assert "other" not in row


def test_without_a_server_what_is_known_here_is_shown(place: Place) -> None:
    done = place.script(
        HEAD
        + """
from runstream.widgets import RunDetails
run = experiment.start_logging(display_name="fern", tags={"kind": "toy"})
run.log("loss", 1.5)
print(RunDetails(run)._repr_html_())
"""
    )
    assert done.returncode == 0, done.stderr
    for text in ("Not reachable: ", "fern", "<b>Running</b>", "kind: toy"):
        assert text in done.stdout


class Recorder(NotebookClient):
    """Runs a notebook and keeps what its kernel displays."""

    def process_message(self, msg: dict[str, Any], cell: Any, cell_index: int) -> Any:
        if msg["msg_type"] in ("display_data", "update_display_data"):
            self.shown = [*getattr(self, "shown", []), (msg["msg_type"], msg["content"])]
        return super().process_message(msg, cell, cell_index)


FOLLOWED = """
import threading
from runstream.widgets import RunDetails, live
live._LONGEST_S = 1.0  # nobody has to be spared here
run = experiment.start_logging(run_id="followed")
run.log("loss", 3.5)
RunDetails(run).show()
(follower,) = [t for t in threading.enumerate() if t.name == "runstream-details-followed"]
assert follower.daemon
for value in (2.5, 1.5):
    run.log("loss", value)
run.complete()
follower.join(90)
assert not follower.is_alive()
"""

PRINTED = (
    """
first = experiment.start_logging(run_id="first")
print("one")
""",
    """
import threading
print("two", file=sys.stderr)
second = experiment.start_logging(run_id="second")
print("three")
second.complete()
print("four")
def late():
    while not os.path.exists("cell is over"):
        time.sleep(0.05)
    print("between the cells")
    open("said", "w").close()
threading.Thread(target=late, daemon=True).start()
""",
    """
print("five")
await __import__("asyncio").sleep(0)
print("six")
first.complete()
print("nobody's")
""",
    """
with experiment.start_logging(run_id="third"):
    print("seven")
""",
)

AWAY = """
import os
run = experiment.start_logging(run_id="away")
run.log("loss", 3.5)
RunDetails(run).show()
(follower,) = [t for t in threading.enumerate() if t.name == "runstream-details-away"]
deadline = time.monotonic() + 90
details = live._live[run]
while "3.5" not in details._page:
    assert follower.is_alive() and time.monotonic() < deadline
    time.sleep(0.05)
os.environ["RUNSTREAM_MODE"] = "offline"  # no server is asked any more
while "Not reachable since" not in details._page:
    assert follower.is_alive() and time.monotonic() < deadline
    time.sleep(0.05)
os.environ["RUNSTREAM_MODE"] = "online"
run.complete()
follower.join(90)
assert not follower.is_alive()
"""


def executed(desk: Desk, *cells: str, **hooks: Any) -> tuple[nbformat.NotebookNode, Recorder]:
    """A notebook that a real kernel has run, and what ran it."""
    notebook = nbformat.v4.new_notebook()
    notebook.cells = [nbformat.v4.new_code_cell(code) for code in (HEAD, *cells)]
    environment = desk.place.environment(**desk.environment, IPYTHONDIR=str(desk.place.root / "ipython"))
    client = Recorder(
        notebook,
        timeout=180,
        kernel_name="python3",
        resources={"metadata": {"path": str(desk.place.work)}},
        **hooks,
    )
    client.execute(env=environment)
    return notebook, client


def test_what_is_displayed_follows_the_run(desk: Desk) -> None:
    notebook, client = executed(desk, FOLLOWED, "RunDetails(run)", AWAY)

    followed = [(kind, content) for kind, content in client.shown if "followed" in str(content)]
    assert next(kind for kind, _ in followed) == "display_data"
    assert {kind for kind, _ in followed[1:]} == {"update_display_data"}
    assert len({content["transient"]["display_id"] for _, content in followed}) == 1
    pages = [content["data"]["text/html"] for _, content in followed]
    if "Reading the run" in pages[0]:  # the first reading took long
        pages.pop(0)
    assert "<b>Running</b>" in pages[0]
    assert "<b>Completed</b>" in pages[-1]
    assert "loss</b><br><small>3 values" in pages[-1]
    (output,) = [o for o in notebook.cells[1].outputs if o.output_type == "display_data"]
    assert output.data["text/html"] == pages[-1]

    (result,) = [o for o in notebook.cells[2].outputs if o.output_type == "execute_result"]
    assert "<b>Completed</b>" in result.data["text/html"]
    assert "Id: followed" in result.data["text/plain"]

    away = [content["data"]["text/html"] for _, content in client.shown if "r/away" in str(content)]
    told = [page for page in away if "Not reachable since" in page]
    assert told
    assert all("<td" in page and "3.5" in page for page in told)  # above what was read last
    assert "<b>Completed</b>" in away[-1]
    assert "Not reachable" not in away[-1]


def test_what_the_cells_of_a_notebook_print_is_kept(desk: Desk) -> None:
    """In which cell a run was begun makes no difference: IPython covers the streams anew in each."""

    def between(cell: nbformat.NotebookNode, **_: object) -> None:
        if "cell is over" in cell.source:
            (desk.place.work / "cell is over").touch()
            wait_for((desk.place.work / "said").exists, "the thread to print")

    notebook, _ = executed(desk, *PRINTED, on_cell_executed=between)
    for run, lines in {
        "first": ["one", "two", "four", "between the cells", "five", "six"],
        "second": ["three"],
        "third": ["seven"],
    }.items():
        desk.ended(run)
        assert desk.runstream("logs", run).stdout.splitlines() == lines
    shown = [output.text for cell in notebook.cells for output in cell.outputs if output.name == "stdout"]
    assert "".join(shown).count("five\n") == 1
