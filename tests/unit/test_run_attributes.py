"""Tags, properties, parameters, names, children: what a run says of itself, with and without a server."""

import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from runstream import Experiment, Run, Workspace
from runstream.client import Client
from runstream.core import ScriptRunConfig
from runstream.errors import RunEnvironmentError, ServiceUnavailableError, UserError
from tests import spools

WRONG: Any = 5


@pytest.fixture
def experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Experiment:
    """One whose runs are kept offline."""
    monkeypatch.setenv("RUNSTREAM_MODE", "offline")
    monkeypatch.setenv("RUNSTREAM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("RUNSTREAM_SPOOL", str(tmp_path / "spool"))
    monkeypatch.chdir(tmp_path)
    return Experiment(Workspace(workspace_name=tmp_path.name), "exp")  # a writer of its own


def attributes(root: Path) -> list[tuple[Any, ...]]:
    """Kind, key, value of each that was set; `removed` in place of a value that was removed."""
    events = spools.only(root / "spool" / "offline").events(18)
    return [
        (event["kind"], event["key"], "removed" if event["removed"] else event["value"]) for event in events
    ]


def test_tags(tmp_path: Path, experiment: Experiment) -> None:
    run = experiment.start_logging(tags={"model": "ridge", "n": 3})
    run.tag("Competition Rank", 1)
    run.tag("valueless")
    run.tag("gone", "x")
    run.set_tags({"model": "lasso", "true": True})
    run.set_tags("by a text")
    run.remove_tags(["gone", "never was"])
    run.remove_tags("n")
    expected = {
        "model": "lasso",
        "Competition Rank": "1",
        "valueless": None,
        "true": "True",
        "by a text": None,
    }
    assert run.get_tags() == run.tags == expected
    run.tags["mine"] = "a copy"
    assert run.get_tags() == expected
    assert attributes(tmp_path) == [
        ("tag", "model", "ridge"),
        ("tag", "n", "3"),
        ("tag", "Competition Rank", "1"),
        ("tag", "valueless", None),
        ("tag", "gone", "x"),
        ("tag", "model", "lasso"),
        ("tag", "true", "True"),
        ("tag", "by a text", None),
        ("tag", "gone", "removed"),
        ("tag", "never was", "removed"),
        ("tag", "n", "removed"),
    ]


def test_properties_never_change(tmp_path: Path, experiment: Experiment) -> None:
    run = experiment.start_logging()
    run.add_properties({"author": "me", "seed": 7})
    run.add_properties({"author": "me", "more": "x"})
    run.add_properties({})
    with pytest.raises(UserError, match=r"'author'.*'me'.*'you'.*tag"):
        run.add_properties({"new": "is not set either", "author": "you"})
    assert run.get_properties() == run.properties == {"author": "me", "seed": "7", "more": "x"}
    assert attributes(tmp_path) == [
        ("property", "author", "me"),
        ("property", "seed", "7"),
        ("property", "more", "x"),
    ]


def test_params(tmp_path: Path, experiment: Experiment) -> None:
    run = experiment.start_logging()
    run.log_params(
        {"lr": 0.1, "optimizer": {"name": "adam", "betas": (0.9, 0.99)}, "none": None, "empty": {}}
    )
    run.log_params({"lr": 1e-5})
    assert run.get_params() == {
        "lr": "1e-05",
        "optimizer.name": "adam",
        "optimizer.betas": "(0.9, 0.99)",
        "none": None,
        "empty": "{}",
    }


def test_names(tmp_path: Path, experiment: Experiment) -> None:
    run = experiment.start_logging(display_name="first", description="about **it**")
    assert (run.display_name, run.name, run.description) == ("first", "first", "about **it**")
    run.display_name = "second"
    run.description = ""
    assert (run.display_name, run.description) == ("second", "")
    assert attributes(tmp_path) == [
        ("system", "description", "about **it**"),
        ("system", "display_name", "second"),
        ("system", "description", "removed"),
    ]


def test_children(tmp_path: Path, experiment: Experiment) -> None:
    run = experiment.start_logging()
    named = run.child_run("alpha 0.5")
    numbered = run.create_children(2)
    by_value = run.create_children(tag_key="fold", tag_values=["a", 2])
    below = named.child_run()
    for child in (named, *numbered, *by_value):
        assert child.parent == run
        assert child.get_status() == "Running"
    assert [child.tags for child in numbered] == [
        {"azureml.batch_child_number": "0"},
        {"azureml.batch_child_number": "1"},
    ]
    assert [child.tags for child in by_value] == [{"fold": "a"}, {"fold": "2"}]
    newest_first = [*by_value[::-1], *numbered[::-1], named]
    assert list(run.get_children()) == newest_first
    assert list(run.get_children(recursive=True)) == [*newest_first, below]
    assert list(run.get_children(tags="fold")) == by_value[::-1]
    assert list(run.get_children(tags={"fold": 2})) == by_value[1:]
    ids = [child.id for child in numbered]
    numbered[1].complete()
    del numbered
    assert [child.id for child in run.get_children(status="Completed")] == ids[1:]
    assert (run.parent, below.parent) == (None, named)
    run.complete()
    assert named.get_status() == "Running"
    started = spools.only(tmp_path / "spool" / "offline").events(16)
    assert [event["parent"] for event in started] == ["", *[run.id] * 5, named.id]
    assert started[1]["display_name"] == "alpha 0.5"


def test_details_without_a_server(experiment: Experiment) -> None:
    run = experiment.start_logging()
    run.add_properties({"a": "b"})
    details = run.get_details()
    assert "endTimeUtc" not in details
    assert (details["runId"], details["status"], details["properties"]) == (run.id, "Running", {"a": "b"})
    run.fail(ValueError("the reason"), error_code="MyCode")
    details = run.get_details()
    assert details["endTimeUtc"] > details["startTimeUtc"]
    assert details["error"]["error"]["code"] == "MyCode"
    assert "ValueError: the reason" in details["error"]["error"]["message"]
    assert run.get_detailed_status()["status"] == "Failed"
    assert run.get_metrics() == {}
    with pytest.raises(ServiceUnavailableError):
        Run.get(experiment.workspace, "of another process")
    assert json.dumps(details)


def test_a_copy_knows_what_the_run_said(experiment: Experiment) -> None:
    run = experiment.start_logging(tags={"a": "b"})
    copy = pickle.loads(pickle.dumps(run))
    assert copy == run
    assert copy.tags == {"a": "b"}
    assert Run(experiment, run.id).tags == Run.get(experiment.workspace, run.id).tags == {"a": "b"}


def test_disabled_keeps_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNSTREAM_MODE", "disabled")
    monkeypatch.setenv("RUNSTREAM_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    run = Experiment(Workspace(workspace_name=tmp_path.name), "exp").start_logging(outputs=False)
    for value in (1.0, 1.0, "text", [1]):
        if isinstance(value, list):
            run.log_list("list", value)
            with pytest.raises(UserError):
                run.log("x", value)
        else:
            run.log("x", value)
    run.tag("a", "b")
    run.flush()
    assert (run.get_metrics(), run.get_metrics(recursive=True), run.tags) == ({}, {}, {"a": "b"})
    run.complete()
    assert run.wait_for_completion()["status"] == "Completed"
    assert run.get_portal_url()
    assert list(tmp_path.iterdir()) in ([], [tmp_path / "home"])
    assert not list(tmp_path.glob("home/*"))


def test_get_context_outside_of_a_submission(tmp_path: Path) -> None:
    out = spools.run(
        tmp_path,
        "mmap",
        """
from runstream.errors import RunEnvironmentError
try:
    Run.get_context(allow_offline=False)
except RunEnvironmentError as error:
    print(error)
run = Run.get_context()
assert Run.get_context() is run and run.id.startswith("OfflineRun_") and type(run).__name__ == "_OfflineRun"
run.log("x", 1, step=3)
run.tag("a"); run.add_properties({"p": 1}); run.child_run().complete()
print(run.experiment.name, run.experiment.workspace.name, run.parent, run.get_status())
assert len(list(run.get_children())) == 1
if os.fork() == 0:
    Run.get_context().log("child", 1)
    os._exit(0)
os.wait()
""",
        environment={"RUNSTREAM_MODE": "offline"},
    )
    assert "was not submitted: start it with Experiment.submit" in out
    assert "script local None Running" in out
    assert out.count("it logs to a run of its own") == 1
    main, fork = spools.spools(tmp_path / "spool" / "offline")
    assert main.values("x") == fork.values("child") == [1]
    assert [event["outcome"] for event in main.events(19)] == ["clean"]
    assert len(main.events(16)) == 2
    assert main.runs[0]["run"] == fork.runs[0]["run"]


def test_get_context_in_a_submitted_script(tmp_path: Path) -> None:
    out = spools.run(
        tmp_path,
        "mmap",
        """
run = Run.get_context(allow_offline=False)
assert run is Run.get_context() and type(run).__name__ == "_SubmittedRun"
assert (run.id, run.experiment.name, run.experiment.workspace.name) == ("mine_1", "mine", "ws")
assert Workspace.from_config().name == "ws"
run.log("x", 1)
run.complete(); run.fail("not said"); run.cancel()
with run:
    run.log("x", 2)
children = run.create_children(2)
children[0].log("y", 3); children[0].complete()
import subprocess
code = "import runstream; runstream.Run.get_context().log('z', 4)"
subprocess.run([sys.executable, "-c", code], check=True)
""",
        environment={
            "RUNSTREAM_RUN_ID": "mine_1",
            "RUNSTREAM_EXPERIMENT": "mine",
            "RUNSTREAM_WORKSPACE": "ws",
            "RUNSTREAM_LAUNCH_ID": "launch-1",
            "RUNSTREAM_MODE": "offline",
        },
    )
    assert "cancel() inside of the submitted run mine_1 does nothing" in out
    script, below = spools.spools(tmp_path / "spool" / "offline")
    assert script.values("x") == [1, 2]
    assert script.values("y") == [3]
    assert [event["status"] for event in script.events(17)] == ["Completed"]  # of the child
    roles = {run["run"]: (run["role"], run["launch"]) for run in script.runs.values()}
    assert roles.pop("mine_1") == ("main", "launch-1")
    assert {role for role, _ in roles.values()} == {"main"}
    assert [run["role"] for run in below.runs.values()] == ["worker"]
    assert below.values("z") == [4]


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda run: run.tag(""), "key of a tag is a text of 1 to 1,000"),
        (lambda run: run.tag(5), "key of a tag is a text"),
        (lambda run: run.tag("k" * 1001), "1 to 1,000"),
        (lambda run: run.tag("k", "x" * (2 << 20) + "x"), "longer than 2 MiB: upload it as a file"),
        (lambda run: run.set_tags(["a"]), "tags are a dictionary of texts, not"),
        (lambda run: run.set_tags({"a": 1, 2: 3}), "nothing was set"),
        (lambda run: run.remove_tags(5), "a key or a list of keys, not 5"),
        (lambda run: run.remove_tags([5]), "a key or a list of keys"),
        (lambda run: run.flush("soon"), "number of seconds, not 'soon'"),
        (lambda run: run.flush(float("nan")), "number of seconds"),
        (lambda run: run.download_files(5), "beginning of files' names, not 5"),
        (lambda run: Workspace.from_config(WRONG), "path is a folder or a configuration file, not 5"),
        (lambda run: ScriptRunConfig(WRONG, "train.py"), "path of a folder, not 5"),
        (lambda run: run.experiment.remove_tags(5), "a key or a list of keys"),
        (lambda run: Client("http://x:y"), "is no address of a server"),
        (lambda run: Client("http://[x:y]:1"), "is no address of a server"),
        (lambda run: run.add_properties("a"), "properties are a dictionary"),
        (lambda run: run.log_params([1]), "params are a dictionary"),
        (lambda run: run.log_params({"": 1}), "name of a parameter has 1 to 1,000"),
        (lambda run: setattr(run, "display_name", ""), "display name is a text of 1 to 1,000"),
        (lambda run: setattr(run, "display_name", None), "display name is a text"),
        (lambda run: setattr(run, "description", 5), "description is a text"),
        (lambda run: setattr(run, "description", "x" * 100_001), "at most 100,000 characters"),
        (lambda run: run.create_children(), "needs count, or both"),
        (lambda run: run.create_children(0), "number from 1"),
        (lambda run: run.create_children(True), "number from 1"),
        (lambda run: run.create_children(2, "a", ["b"]), "not both"),
        (lambda run: run.create_children(tag_key="a"), "needs count, or both"),
        (lambda run: run.create_children(tag_key="a", tag_values="bc"), "list of values"),
        (lambda run: run.child_run(run_id="a/b"), "is no run id"),
        (lambda run: run.child_run(run_id=""), "is no run id"),
        (lambda run: run.get_children(status="Complete"), "is no status; they are NotStarted"),
        (lambda run: run.get_children(tags=["a"]), "tags is a key or a dictionary"),
        (lambda run: run.get_metrics(5), "metric's name must be a text"),
        (lambda run: run.get_metrics(rank=-1), "rank is a number from 0"),
        (lambda run: run.get_metrics(run_type=5), "run_type is a text"),
        (lambda run: run.experiment.get_runs(properties=3), "properties is a key or a dictionary"),
        (lambda run: run.experiment.get_runs(filter=3), "filter is a text"),
        (lambda run: Run.list(WRONG), "needs an Experiment"),
        (lambda run: Run.get(WRONG, "x"), "needs a Workspace"),
        (lambda run: Run.get(run.experiment.workspace, ""), "run id is a text"),
        (lambda run: Run(run.experiment, WRONG), "run id is a text"),
        (lambda run: run.experiment.start_logging(tags="a"), "tags are a dictionary"),
        (lambda run: run.experiment.set_tags(["a"]), "tags are a dictionary"),
        (lambda run: run.experiment.reactivate("other"), "can't be renamed"),
        (lambda run: Experiment.list(WRONG), "needs a Workspace"),
        (
            lambda run: Experiment.list(run.experiment.workspace, view_type="x"),
            "ActiveOnly, All, ArchivedOnly",
        ),
        (lambda run: Experiment(run.experiment.workspace, "a b"), "no name for an experiment"),
    ],
)
def test_bad_input_is_told(monkeypatch: pytest.MonkeyPatch, call: Any, says: str) -> None:
    monkeypatch.setenv("RUNSTREAM_MODE", "disabled")
    run = Experiment(Workspace(), "exp").start_logging(outputs=False)
    with pytest.raises(UserError) as caught:
        call(run)
    assert says in str(caught.value)
    run.complete()


def test_get_context_is_an_error_of_its_own() -> None:
    with pytest.raises(RunEnvironmentError):
        Run.get_context(allow_offline=False)


def test_wrong_arguments_are_told_before_there_is_a_run(tmp_path: Path, experiment: Experiment) -> None:
    parent = experiment.start_logging()
    (tmp_path / "train.py").touch()
    config = ScriptRunConfig(str(tmp_path), "train.py")
    long = "n" * 1001
    for call in (
        lambda: experiment.start_logging(display_name=WRONG),
        lambda: experiment.start_logging(display_name=long),
        lambda: experiment.start_logging(name=WRONG),
        lambda: experiment.start_logging(description=WRONG),
        lambda: experiment.start_logging(tags={"a": 1, WRONG: "b"}),
        lambda: experiment.start_logging(tags=0),  # type: ignore[arg-type]
        lambda: experiment.submit(config, display_name=WRONG),
        lambda: experiment.submit(config, tags=[]),  # type: ignore[arg-type]
        lambda: parent.child_run(name=long),
        lambda: parent.child_run(WRONG),
        lambda: parent.create_children(tag_key=WRONG, tag_values=[1]),
        lambda: parent.create_children(tag_key="a", tag_values=WRONG),
        lambda: parent.register_model("m", "outputs", description=WRONG),
        lambda: parent.register_model("m", "outputs", tags=0),  # type: ignore[arg-type]
        lambda: list(experiment.get_runs(tags={WRONG: "a"})),
    ):
        with pytest.raises(UserError):
            call()
    assert len(spools.only(tmp_path / "spool" / "offline").events(16)) == 1
    parent.complete()


def test_lone_surrogates_become_replacement_characters(experiment: Experiment) -> None:
    bad, good = "a\ud800b", "a\ufffdb"
    run = experiment.start_logging(display_name=bad, description=bad, tags={bad: bad})
    run.log(bad, bad)
    run.log(f"{bad}1", 1, description=bad)
    run.log(f"{bad}1", 2)
    run.log_list(bad, [bad, 1])
    run.log_table("table", {bad: [bad]})
    cells: dict[str, Any] = {bad: 1}
    run.log_row("row", **cells)
    run.set_tags({"set": bad})
    run.remove_tags("never" + bad)
    run.add_properties({bad: bad})
    run.add_properties({bad: bad})  # the same
    run.log_params({bad: {bad: bad}})
    assert run.get_metrics() == {
        good: [good, good, 1],
        f"{good}1": [1, 2],
        "table": {good: good},
        "row": {good: 1},
    }
    assert run.get_metrics(bad) == {good: [good, good, 1]}
    assert run.get_tags() == {good: good, "set": good}
    assert run.get_properties() == {good: good}
    assert run.get_params() == {f"{good}.{good}": good}
    assert (run.display_name, run.description) == (good, good)
    run.fail(bad, bad)
    assert run.get_details()["error"]["error"] == {"code": good, "message": good}
    for call in (
        lambda: Run(experiment, bad),
        lambda: Run.get(experiment.workspace, bad),
        lambda: Workspace(workspace_name=bad),
        lambda: Experiment(experiment.workspace, bad),
        lambda: run.upload_file(bad, __file__),
        lambda: run.register_model(bad, "outputs"),
    ):
        with pytest.raises(UserError):
            call()
