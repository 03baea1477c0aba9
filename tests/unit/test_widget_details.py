"""`RunDetails` without a notebook and without a server."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from runstream import Experiment, Run, Workspace
from runstream.errors import ServiceUnavailableError, UserError
from runstream.widgets import RunDetails


@pytest.fixture
def experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Experiment:
    """One whose runs are kept offline."""
    monkeypatch.setenv("RUNSTREAM_MODE", "offline")
    monkeypatch.setenv("RUNSTREAM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("RUNSTREAM_SPOOL", str(tmp_path / "spool"))
    monkeypatch.chdir(tmp_path)
    return Experiment(Workspace(workspace_name=tmp_path.name), "exp")


@pytest.mark.parametrize("wrong", [None, "a-run-id", 5, Run])
def test_what_is_no_run_is_refused(wrong: Any) -> None:
    with pytest.raises(UserError, match=r"RunDetails shows a Run, not .*Run\.get\(workspace, run_id\)"):
        RunDetails(wrong)


def test_settings_are_a_dictionary(experiment: Experiment) -> None:
    wrong: Any = 5
    details = RunDetails(Run(experiment, "r1"))
    for call in (details.show, details.get_widget_data):
        with pytest.raises(UserError, match="widget_settings is a dictionary"):
            call(widget_settings=wrong)


def test_outside_of_a_notebook_a_summary_is_printed(
    experiment: Experiment, capsys: pytest.CaptureFixture[str]
) -> None:
    with experiment.start_logging() as run:
        capsys.readouterr()
        RunDetails(run).show(render_lib=None, widget_settings={"debug": True})
        out = capsys.readouterr().out
    assert out == (
        f"Run(Experiment: exp,\nId: {run.id},\nType: None,\nStatus: Running)\n"
        f"Details: {run.get_portal_url()}\n"
    )


def test_a_run_of_this_process_is_known_without_a_server(experiment: Experiment) -> None:
    with experiment.start_logging(tags={"a": "1"}, display_name="fern") as run:
        run.log("one", 1)
        run.log_list("more", [1, 2])
        run.log_row("row", x=1, y="b")
        child = run.child_run("below")
        data = RunDetails(run).get_widget_data()
        page = RunDetails(run)._repr_html_()
        child.complete()
    found = data["run_properties"]
    assert (found["run_id"], found["status"], found["name"]) == (run.id, "Running", "fern")
    assert (found["tags"], found["end_time_utc"], found["log_files"]) == ({"a": "1"}, None, {})
    assert data["run_metrics"] == {"one": [1], "more": [1, 2], "row": {"x": [1], "y": ["b"]}}
    assert [(kid["run_id"], kid["name"]) for kid in data["child_runs"]] == [(child.id, "below")]
    assert data["run_logs"] == ""
    assert run.id in page
    assert "<polyline" in page


def test_of_a_run_that_cannot_be_asked_for_it_is_said(
    experiment: Experiment, capsys: pytest.CaptureFixture[str]
) -> None:
    details = RunDetails(Run(experiment, "of another process"))
    with pytest.raises(ServiceUnavailableError):
        details.get_widget_data()
    page = details._repr_html_()
    assert "Not reachable" in page
    capsys.readouterr()
    details.show()
    text, why = capsys.readouterr().out.splitlines()[-2:]
    assert text.endswith("/r/of%20another%20process")
    assert why == "Not reachable: RUNSTREAM_MODE is offline: no server is asked"
    assert "of another process" in page


def test_of_a_disabled_run_there_is_nothing_to_show(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNSTREAM_MODE", "disabled")
    data = RunDetails(experiment.start_logging()).get_widget_data()
    assert (data["run_metrics"], data["child_runs"], data["run_logs"]) == ({}, [], "")


def test_ipython_is_not_loaded_and_the_old_name_works(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\n"
        "from azureml.core import Experiment, Run, Workspace\n"
        "from azureml.widgets import RunDetails\n"
        "import runstream.widgets\n"
        "assert RunDetails is runstream.widgets.RunDetails\n"
        "RunDetails(Run(Experiment(Workspace(workspace_name='w'), 'e'), 'r1')).show()\n"
        "print('IPython' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "runstream.azureml", str(script)],
        cwd=tmp_path,
        env={"PATH": "", "RUNSTREAM_HOME": str(tmp_path / "home"), "RUNSTREAM_MODE": "offline"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "Id: r1" in done.stdout
    assert done.stdout.endswith("\nFalse\n")
