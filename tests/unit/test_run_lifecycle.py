"""Workspaces, experiments, run ids; how processes end, and what their spools say of it."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import runstream
from runstream import Experiment, Run, Workspace
from runstream.context.ranks import Launch, Ranks, read_launch, read_ranks
from runstream.errors import UserError
from runstream.exceptions import UserErrorException
from tests import spools


def outcome(tmp_path: Path, code: str, expected: int = 0) -> dict[str, Any]:
    """What the exit record of a script says that has a run going on."""
    spools.run(
        tmp_path, "mmap", "run = experiment.start_logging(outputs=False)\n" + code, code_expected=expected
    )
    (event,) = spools.only(tmp_path / "spool").events(19)
    return event


@pytest.mark.parametrize(
    ("code", "status", "expected"),
    [
        ("", 0, "clean"),
        ("sys.exit()", 0, "clean"),
        ("sys.exit(0)", 0, "clean"),
        ("exit()", 0, "clean"),
        ("sys.exit(1)", 1, "exception"),
        ("sys.exit(3)", 3, "exception"),
        ("raise SystemExit", 0, "clean"),
        ("raise SystemExit(0)", 0, "clean"),
        ("raise SystemExit(3)", 3, "exception"),
        ("raise SystemExit('in words')", 1, "exception"),
        ("class Own(SystemExit): pass\nraise Own(4)", 4, "exception"),
        ("try: raise SystemExit(3)\nexcept SystemExit as e: assert e.code == 3", 0, "clean"),
        ("e = SystemExit(3)\ne.code = 5\nassert e.code == 5\nraise e", 5, "exception"),
        ("assert SystemExit(3).code == 3 and SystemExit(1, 2).code == (1, 2)", 0, "clean"),
        ("import pickle\nraise pickle.loads(pickle.dumps(SystemExit(6)))", 6, "exception"),
        ("import argparse\nargparse.ArgumentParser().parse_args(['--bad'])", 2, "exception"),
        ("sys.exit(True)", 1, "exception"),
        ("exit(4)", 4, "exception"),
        ("quit(5)", 5, "exception"),
        ("sys.exit('in words')", 1, "exception"),
        ("raise ValueError('the reason')", 1, "exception"),
        ("import os; os.kill(os.getpid(), signal.SIGINT); time.sleep(5)", -2, "interrupted"),
        ("raise KeyboardInterrupt", -2, "interrupted"),
        ("try: sys.exit(3)\nexcept SystemExit: pass", 0, "clean"),
        ("try: sys.exit(3)\nexcept SystemExit as e: assert e.code == 3", 0, "clean"),
        ("try: sys.exit(3)\nexcept SystemExit as e: e.code = 0; raise", 0, "clean"),
        ("try: raise ValueError\nexcept ValueError: sys.exit(2)", 2, "exception"),
        ("t = threading.Thread(target=sys.exit, args=(3,)); t.start(); t.join()", 0, "clean"),
        (
            "threading.excepthook = lambda *_: None\nt = threading.Thread(target=lambda: 1/0); t.start()",
            0,
            "clean",
        ),
        ("import runpy; runpy.run_path(sys.argv[0].replace('script', 'other'))", 7, "exception"),
        ("sys.excepthook = lambda *_: None\nraise KeyError", 1, "exception"),
    ],
)
def test_the_end_of_a_process(tmp_path: Path, code: str, status: int, expected: str) -> None:
    (tmp_path / "other.py").write_text("import sys; sys.exit(7)")
    found = outcome(tmp_path, code, status)
    assert found["outcome"] == expected
    assert found["exit_code"] == (130 if expected == "interrupted" else status)
    if "reason" in code:
        assert "ValueError: the reason" in found["error_message"]
    if "words" in code:
        assert found["error_message"] == "in words"


def test_exit_prints_what_it_did_before(tmp_path: Path) -> None:
    out = spools.run(
        tmp_path,
        "mmap",
        "experiment.start_logging(outputs=False); sys.exit('in words')",
        code_expected=1,
    )
    assert out == "in words\n"


def test_a_script_that_never_started_a_run_has_no_hooks(tmp_path: Path) -> None:
    spools.run(
        tmp_path, "mmap", "assert sys.excepthook is sys.__excepthook__; assert sys.exit.__module__ == 'sys'"
    )
    assert not (tmp_path / "spool").exists()


@pytest.mark.parametrize(
    ("code", "status", "expected"),
    [
        ("pass", 0, "Completed"),
        ("sys.exit(0)", 0, "Completed"),
        ("raise SystemExit", 0, "Completed"),
        ("sys.exit(2)", 2, "Failed"),
        ("raise SystemExit(2)", 2, "Failed"),
        ("raise ValueError", 1, "Failed"),
        ("raise KeyboardInterrupt", -2, "Canceled"),
        ("run.fail('by hand')", 0, "Failed"),
        ("run.cancel()", 0, "Canceled"),
    ],
)
def test_with_block(tmp_path: Path, code: str, status: int, expected: str) -> None:
    spools.run(
        tmp_path,
        "mmap",
        f"with experiment.start_logging(outputs=False) as run:\n  run.log('x', 1)\n  {code}",
        code_expected=status,
    )
    (event,) = spools.only(tmp_path / "spool").events(17)
    assert event["status"] == expected


def test_a_fork_that_exits_is_no_end_of_the_run(tmp_path: Path) -> None:
    spools.run(
        tmp_path,
        "mmap",
        """
run = experiment.start_logging(outputs=False)
if os.fork() == 0:
    run.log("child", 1)
    run.complete()
    sys.exit(3)
os.wait()
run.log("parent", 1)
""",
    )
    parent, child = spools.spools(tmp_path / "spool")
    assert [event["outcome"] for event in parent.events(19)] == ["clean"]
    assert [event["exit_code"] for event in child.events(19)] == [3]
    assert child.events(17) == parent.events(17) == []


def test_completing_twice_is_completing_once(tmp_path: Path) -> None:
    spools.run(
        tmp_path,
        "mmap",
        """
run = experiment.start_logging(outputs=False)
run.complete(); run.complete()
run.log("after", 1)
assert run.get_status() == "Completed"
again = Run(experiment, run.id)
again.log("again", 2)
import copy, pickle
copy.copy(run).log("copy", 3)
pickle.loads(pickle.dumps(run)).log("pickle", 4)
""",
    )
    spool = spools.only(tmp_path / "spool")
    assert len(spool.events(17)) == 1
    assert len(spool.runs) == 1
    assert [spool.values(name) for name in ("after", "again", "copy", "pickle")] == [[1], [2], [3], [4]]


# ------------------------------------------------------------------------------------- launches


def ids(tmp_path: Path, environment: dict[str, str] | None = None) -> list[str]:
    out = spools.run(
        tmp_path,
        "mmap",
        """
for name in ("exp", "exp", "other"):
    print(Experiment(experiment.workspace, name).start_logging(outputs=False).id)
""",
        environment=environment,
    )
    return out.split()


def test_run_ids_of_one_process(tmp_path: Path) -> None:
    first = ids(tmp_path)
    assert len({*first, *ids(tmp_path)}) == 6
    experiment, started, suffix = first[0].split("_")
    assert experiment == "exp"
    assert abs(int(started) - (tmp_path / "script.py").stat().st_mtime) < 300
    assert len(suffix) == 12
    assert set(suffix) <= set("0123456789abcdef")


@pytest.mark.parametrize(
    "environment",
    [
        {"TORCHELASTIC_RUN_ID": "abc", "WORLD_SIZE": "2", "RANK": "{}", "LOCAL_RANK": "{}"},
        {"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "2", "RANK": "{}", "MASTER_ADDR": "127.0.0.1"},
        {
            "SLURM_JOB_ID": "77",
            "SLURM_STEP_ID": "0",
            "SLURM_STEP_NUM_TASKS": "2",
            "SLURM_PROCID": "{}",
            "SLURM_LOCALID": "{}",
        },
        {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "{}", "PMIX_NAMESPACE": "p1"},
        {"PMI_SIZE": "2", "PMI_RANK": "{}"},
        {"WORLD_SIZE": "2", "RANK": "{}", "RUNSTREAM_LAUNCH_ID": "mine"},
        {"WORLD_SIZE": "2", "NODE_RANK": "0", "LOCAL_RANK": "{}", "MASTER_ADDR": "localhost"},
    ],
    ids=lambda environment: next(iter(environment)),
)
def test_all_ranks_start_the_same_runs(tmp_path: Path, environment: dict[str, str]) -> None:
    ranks = [
        ids(tmp_path, {key: value.format(rank) for key, value in environment.items()}) for rank in (0, 1)
    ]
    assert ranks[0] == ranks[1]
    assert len(set(ranks[0])) == 3
    headers = [spool.header for spool in spools.spools(tmp_path / "spool")]
    assert [header["rank"] for header in headers] == [0, 1]
    assert {header["world_size"] for header in headers} == {2}
    definitions = [spool.runs[0] for spool in spools.spools(tmp_path / "spool")]
    assert {definition["role"] for definition in definitions} == {"main"}
    assert len({definition["launch"] for definition in definitions}) == 1


def test_a_restart_is_another_launch_of_the_same_run() -> None:
    base = {"TORCHELASTIC_RUN_ID": "abc", "WORLD_SIZE": "4", "RANK": "1"}
    first = read_launch({**base, "TORCHELASTIC_RESTART_COUNT": "0"})
    again = read_launch({**base, "TORCHELASTIC_RESTART_COUNT": "1"})
    assert (first.restart, again.restart) == (0, 1)
    assert first.id != again.id
    assert first.run_suffix("exp", 0) == again.run_suffix("exp", 0)
    assert first.run_suffix("exp", 0) != first.run_suffix("exp", 1) != first.run_suffix("other", 1)


def test_processes_without_ranks_share_nothing() -> None:
    environment: dict[str, str] = {}
    parent = read_launch(environment)
    parent.export(environment)
    child = read_launch(environment)
    assert child.job != parent.job
    assert read_launch({**environment, "RUNSTREAM_LAUNCH_ID": "x"}).id == "x"


def test_ranks_that_a_script_starts_belong_to_its_launch() -> None:
    """As Lightning does it: the script is started anew for each further rank."""
    environment: dict[str, str] = {}
    parent = read_launch(environment)
    parent.export(environment)
    ranks = {"WORLD_SIZE": "2", "NODE_RANK": "0", "LOCAL_RANK": "1", "MASTER_ADDR": "127.0.0.1"}
    child = read_launch({**environment, **ranks})
    assert child.job == parent.job
    assert child.ranks == Ranks(1, 1, 2)
    assert child.started_at() == parent.started_at() is not None
    other = read_launch({**environment, **ranks, "RUNSTREAM_LAUNCH_ID": "set for them"})
    assert other.job == "set for them"


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"RANK": "0"},
        {"RANK": "x", "WORLD_SIZE": "2"},
        {"RANK": "5", "WORLD_SIZE": "2"},
        {"RANK": "-1", "WORLD_SIZE": "2"},
        {"SLURM_PROCID": "0", "SLURM_NTASKS": "8"},
    ],
)
def test_no_ranks(environment: dict[str, str]) -> None:
    assert read_ranks(environment) == Ranks()
    assert not read_launch(environment).shared


def test_launch_of_a_shell_job_is_not_shared() -> None:
    launch = read_launch({"SLURM_JOB_ID": "5"})
    assert isinstance(launch, Launch)
    assert not launch.shared


# ---------------------------------------------------------------------------- workspace, names


def config(folder: Path, place: str, **content: object) -> None:
    path = folder / place / "config.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(content))


def test_from_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RUNSTREAM_SERVER", raising=False)
    monkeypatch.delenv("RUNSTREAM_STRICT", raising=False)
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    monkeypatch.chdir(deep)
    assert Workspace.from_config().name == "local"
    monkeypatch.setenv("RUNSTREAM_STRICT", "1")
    with pytest.raises(UserErrorException):
        Workspace.from_config()
    config(tmp_path, ".azureml", workspace_name="old", subscription_id="x", resource_group="y")
    assert Workspace.from_config().name == "old"
    config(tmp_path, ".runstream", workspace_name="new", server="example:7300")
    workspace = Workspace.from_config()
    assert (workspace.name, workspace.location) == ("new", "example:7300")
    config(deep, ".azureml", workspace_name="near")
    assert Workspace.from_config().name == "near"
    assert Workspace.from_config(tmp_path).name == "new"
    assert Workspace.from_config(str(tmp_path / ".azureml" / "config.json")).name == "old"
    (deep / ".azureml" / "config.json").write_text("{no json")
    for path in (None, deep / ".azureml" / "config.json", deep / "nothing"):
        with pytest.raises(UserErrorException):
            Workspace.from_config(path)
    for text in (workspace.location, workspace.subscription_id, workspace.resource_group):
        assert isinstance(text, str)


@pytest.mark.parametrize("name", ["", "with space", "a.b", "_x", "-x", "ä", "x" * 256, None, 3])
def test_experiment_names(name: Any) -> None:
    with pytest.raises(UserError):
        Experiment(Workspace(), name)
    assert Experiment(workspace=Workspace(), name="A-b_9").name == "A-b_9"
    with pytest.raises(UserError):
        Experiment("no workspace", "x")  # type: ignore[arg-type]


def test_run_arguments() -> None:
    experiment = Experiment(Workspace(), "x")
    assert Run(experiment, "some id").id == "some id"
    assert Run(experiment=experiment, run_id="y") == Run(experiment, "y")
    for wrong in ("", None, 3, "x" * 257):
        with pytest.raises(UserError):
            Run(experiment, wrong)  # type: ignore[arg-type]
    with pytest.raises(UserError):
        Run("x", "y")  # type: ignore[arg-type]
    with pytest.raises(UserError):
        experiment.start_logging(run_id="no spaces")


def test_outputs_are_made(tmp_path: Path) -> None:
    os.mkdir(tmp_path / "work")
    spools.run(
        tmp_path,
        "mmap",
        f"""
os.chdir({str(tmp_path / "work")!r})
experiment.start_logging(outputs=False); assert os.listdir() == []
experiment.start_logging(); assert os.listdir() == ["outputs"]
experiment.start_logging(outputs=["a", "b/c"]); assert os.path.isdir("b/c") and os.path.isdir("a")
experiment.start_logging(outputs="d"); assert os.path.isdir("d")
""",
    )


def test_portal_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RUNSTREAM_SERVER", "RUNSTREAM_PUBLIC_URL", "RUNSTREAM_HTTP_SERVER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RUNSTREAM_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    run = Run(Experiment(Workspace(workspace_name="my space"), "x"), "run/1")
    assert run.get_portal_url() == "http://127.0.0.1:7301/w/my%20space/r/run%2F1"
    monkeypatch.setenv("RUNSTREAM_SERVER", "example:8000")
    assert run.get_portal_url() == "http://example:8001/w/my%20space/r/run%2F1"
    monkeypatch.setenv("RUNSTREAM_PUBLIC_URL", "https://public/base/")
    assert run.get_portal_url() == "https://public/base/w/my%20space/r/run%2F1"


def test_public_names() -> None:
    assert runstream.Run is Run
    assert sorted(runstream.__all__) == [
        "CondaDependencies", "Environment", "Experiment", "Model", "MpiConfiguration", "PyTorchConfiguration",
        "Run", "RunConfiguration", "ScriptRun", "ScriptRunConfig", "Workspace",
        "__version__", "errors", "exceptions", "get_run",
    ]  # fmt: skip
    assert set(runstream.__all__) <= set(dir(runstream))
    assert runstream.errors.UserError is UserErrorException
    core = importlib.import_module("runstream.core")
    assert core.Run is Run
    assert runstream.__version__ == core.VERSION
    with pytest.raises(AttributeError):
        _ = runstream.nothing
    with pytest.raises(ImportError):
        exec("from runstream.core import Nothing")


def test_a_run_loads_nothing(tmp_path: Path) -> None:
    """What it needs is there once there is an Experiment: a short run costs no import."""
    spools.run(
        tmp_path,
        "mmap",
        """
before = set(sys.modules)
assert {"runstream.sender.start", "runstream.sender.ask"} <= before  # what finds or starts the sender
assert "html" not in before
run = experiment.start_logging(outputs=False)
run.log("a", 1)
run.log_row("t", x=1, y="text")
run.tag("key", "value")
run.complete()
assert set(sys.modules) == before, sorted(set(sys.modules) - before)
""",
    )


def test_import_is_light() -> None:
    code = "import runstream, sys; print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    bare = subprocess.run(
        [sys.executable, "-I", "-c", code.replace("runstream, ", "")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert set(loaded.stdout.split()) - set(bare.stdout.split()) == {"runstream"}
