"""Scripts that are submitted: how they run, how they end, what is kept of them; with a whole server."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.server import Place, wait_for

BEGIN = """
import json, os, signal, subprocess, sys, time
from runstream.core import Experiment, Run, Workspace, ScriptRunConfig, Environment
from runstream.core.runconfig import PyTorchConfiguration, RunConfiguration
experiment = Experiment(Workspace.from_config(), "submitted")
"""


@pytest.fixture(scope="module")
def user(lodger: Place) -> Place:
    """One user for all tests here."""
    lodger.settings["RUNSTREAM_CANCEL_GRACE_S"] = "1"
    return lodger


@pytest.fixture
def source(user: Place) -> Iterator[Path]:
    folder = user.work / "source"
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)


def said(done: subprocess.CompletedProcess[str]) -> Any:
    """What a script printed last, as JSON."""
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def own_lines(text: str) -> list[str]:
    """Without what runstream says of its own, as when the delivery takes long."""
    return [line for line in text.splitlines() if not line.startswith("runstream: ")]


def lives(pid: int) -> bool:
    """Whether there is such a process, other than as a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def job(user: Place, run_id: str) -> Path:
    (found,) = (user.home / "jobs").glob(f"{run_id}-*")
    return found


def test_the_document_s_way(user: Place, source: Path) -> None:
    """Train on this machine, as the notebook does; the script ends its run and goes on logging."""
    (source / "mylib.py").write_text("def alphas():\n    return [0.1 * i for i in range(5)]\n")
    (source / "train.py").write_text(
        """
import os, sys
import mylib
from runstream.core.run import Run
run = Run.get_context()
os.makedirs("./outputs", exist_ok=True)
for alpha in mylib.alphas():
    run.log("alpha", alpha)
    run.log("mse", alpha ** 2)
    print("alpha", alpha)
    with open(f"ridge_{alpha:.2f}.pkl", "w") as file:
        file.write(str(alpha))
    run.upload_file(f"ridge_{alpha:.2f}.pkl", f"ridge_{alpha:.2f}.pkl")
with open("outputs/best.pkl", "w") as file:
    file.write("best")
print(sys.argv[1:], type(run).__name__, os.path.samefile(os.getcwd(), os.path.dirname(__file__)))
run.complete()
run.log("after", "the end")
"""
    )
    (source / "data.bin").write_bytes(b"large")
    (source / ".amlignore").write_text("*.bin\n")
    done = user.script(
        BEGIN
        + """
env = Environment("user-managed-env")
env.python.user_managed_dependencies = True
src = ScriptRunConfig(source_directory="source", script="train.py", arguments=["--alpha", 0.5])
src.run_config.environment = env
run = experiment.submit(src, tags={"kind": "ridge"})
details = run.wait_for_completion(show_output=True)
again = Run.get(experiment.workspace, run.id)
print(json.dumps([
    run.id, type(again).__name__, run.type, details["status"], run.get_metrics(),
    sorted(run.get_file_names()), run.get_tags(), run.get_snapshot_id(),
    run.restore_snapshot(path="snapshots"),
    details["runDefinition"], list(run.get_details_with_logs()["logFiles"].items()),
]))
"""
    )
    (run, kind, run_type, status, metrics, files, tags, snapshot, archive, definition, logs) = said(done)
    name, started, suffix = run.rsplit("_", 2)
    assert (name, len(started), len(suffix)) == ("submitted", 10, 8)
    assert (kind, run_type, status) == ("ScriptRun", "azureml.scriptrun", "Completed")
    alphas = [0.1 * i for i in range(5)]
    assert metrics == {"alpha": alphas, "mse": [alpha**2 for alpha in alphas], "after": "the end"}
    assert files == ["outputs/best.pkl", *(f"ridge_{alpha:.2f}.pkl" for alpha in alphas)]
    assert tags == {"kind": "ridge"}
    with zipfile.ZipFile(archive) as opened:
        assert sorted(opened.namelist()) == [".amlignore", "mylib.py", "train.py"]
        assert opened.read("train.py") == (source / "train.py").read_bytes()
    assert archive.endswith(f"/snapshots/{snapshot}.zip")
    assert (definition["script"], definition["arguments"]) == ("train.py", ["--alpha", "0.5"])
    printed = own_lines(dict(logs)["user_logs/std_log.txt"])
    assert printed == [f"alpha {alpha}" for alpha in alphas] + ["['--alpha', '0.5'] _SubmittedRun True"]
    shown = own_lines(done.stdout)
    assert shown[0] == f"RunId: {run}"
    assert shown[1].startswith("Web View: http")
    assert shown[2:4] == ["Streaming user_logs/std_log.txt", "=" * 31]
    assert shown[5 : 5 + len(printed)] == printed
    assert "Execution Summary" in shown
    assert not (job(user, run) / "code").exists()


def test_lists_have_what_was_submitted_and_ended_a_moment_ago(user: Place, source: Path) -> None:
    """Also when the sender had no time for it yet: it is stopped meanwhile."""
    (source / "train.py").write_text("import time\ntime.sleep(600)\n")
    done = user.script(
        BEGIN
        + """
import threading
from runstream.sender.ask import ask

OTHER = '''
from runstream.core import Experiment, Workspace
other = Experiment(Workspace.from_config(), "submitted").start_logging()
other.complete()
print(other.id)
'''

def while_stopped(action):
    os.kill(sender, signal.SIGSTOP)
    result = action()
    threading.Timer(0.7, os.kill, (sender, signal.SIGCONT)).start()
    return result

first = experiment.submit(ScriptRunConfig("source", "train.py"))
assert first.id in [run.id for run in experiment.get_runs()]
sender = ask(os.environ["RUNSTREAM_SPOOL"], {"op": "info"}, 30)["pid"]
second = while_stopped(lambda: experiment.submit(ScriptRunConfig("source", "train.py")))
listed = [run.id for run in experiment.get_runs()][:2]
other = while_stopped(lambda: subprocess.run(
    [sys.executable, "-c", OTHER], capture_output=True, text=True, check=True).stdout.strip())
newest = next(experiment.get_runs())
print(json.dumps([listed == [second.id, first.id], newest.id == other, newest.status]))
for run in first, second:
    run.cancel()
"""
    )
    assert said(done) == [True, True, "Completed"]


def test_a_failure_keeps_exit_code_and_traceback(user: Place, source: Path) -> None:
    (source / "bad.py").write_text("print('before')\nimport sys\nraise ValueError('the reason')\n")
    done = user.script(
        BEGIN
        + """
from runstream.exceptions import ActivityFailedException
run = experiment.submit(ScriptRunConfig("source", "bad.py"))
try:
    run.wait_for_completion()
except ActivityFailedException as error:
    message = str(error)
shell = experiment.submit(ScriptRunConfig("source", command="echo one; echo two >&2; exit 7"))
details = shell.wait_for_completion(raise_on_error=False)
print(json.dumps([run.get_status(), message, details["error"]["error"]["message"]]))
"""
    )
    status, message, shell = said(done)
    assert status == "Failed"
    assert "exit code 1" in message
    assert "Traceback (most recent call last)" in message
    assert message.endswith("ValueError: the reason")
    assert "before" not in message
    assert shell == "the command ended: exit code 7\n\none\ntwo"


STUBBORN = """
import os, signal, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print(os.getpid(), child.pid, flush=True)
time.sleep(600)
"""


def pids(user: Place, run_id: str) -> list[int]:
    log = job(user, run_id) / "std_log.txt"
    said = wait_for(lambda: log.read_text() if log.exists() else None, "the script")
    return [int(word) for word in said.split()]


def submit(user: Place, script: str, more: str = "") -> str:
    """Submit from a process that ends at once."""
    run_id = said(
        user.script(
            BEGIN
            + f"run = experiment.submit(ScriptRunConfig('source', {script!r}{more}))\n"
            + "print(json.dumps(run.id))"
        )
    )
    assert isinstance(run_id, str)
    return run_id


def status_of(user: Place, run_id: str) -> tuple[str, str]:
    """As another process sees it that waits for it: status and error."""
    status, message = said(
        user.script(
            BEGIN
            + f"""
details = Run.get(experiment.workspace, {run_id!r}).wait_for_completion(raise_on_error=False)
print(json.dumps([details["status"], details.get("error", {{}}).get("error", {{}}).get("message", "")]))
"""
        )
    )
    return status, message


def test_cancel_from_the_command_line_ends_the_whole_group(user: Place, source: Path) -> None:
    (source / "stubborn.py").write_text(STUBBORN)
    run_id = submit(user, "stubborn.py")
    script, child = pids(user, run_id)
    assert lives(script)
    assert lives(child)
    asked = user.runstream("cancel", run_id)
    assert asked.returncode == 0, asked.stderr
    assert status_of(user, run_id) == ("Canceled", "canceled on request")
    assert not lives(script)
    assert not lives(child)


def test_ends_by_calls_from_other_processes(user: Place, source: Path) -> None:
    (source / "stubborn.py").write_text(STUBBORN)
    done = user.script(
        BEGIN
        + """
parent = experiment.start_logging()
first = experiment.submit(ScriptRunConfig("source", "stubborn.py"))
second = parent.submit_child(ScriptRunConfig("source", "stubborn.py"), tags={"nth": 2})
time.sleep(0.5)
subprocess.run([sys.executable, "-c", f'''
from runstream.core import Run, Workspace
Run.get(Workspace.from_config(), {first.id!r}).cancel()
'''], check=True)
second.fail("not good enough", "Mine")
details = second.get_details()
first.cancel()
print(json.dumps([first.get_status(), details["status"], details["error"]["error"], second.parent.id,
    [child.id for child in parent.get_children()], first.id, second.id, parent.id]))
parent.complete()
"""
    )
    first, second, error, parent, children, first_id, second_id, parent_id = said(done)
    assert (first, second) == ("Canceled", "Failed")
    assert error == {"code": "Mine", "message": "not good enough"}
    assert (parent, children) == (parent_id, [second_id])
    for run_id in first_id, second_id:
        assert not any(lives(pid) for pid in pids(user, run_id))


def test_a_killed_supervisor_takes_the_script_along(user: Place, source: Path) -> None:
    (source / "slow.py").write_text("import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(600)\n")
    run_id = submit(user, "slow.py")
    (script,) = pids(user, run_id)
    os.kill(json.loads((job(user, run_id) / "state.json").read_text())["pid"], signal.SIGKILL)
    assert status_of(user, run_id)[0] == "Failed"
    wait_for(lambda: not lives(script), "the script to end")


def test_a_run_that_takes_too_long_is_canceled(user: Place, source: Path) -> None:
    (source / "slow.py").write_text("import time\ntime.sleep(600)\n")
    run_id = submit(user, "slow.py", ", max_run_duration_seconds=0.5")
    status, message = status_of(user, run_id)
    assert status == "Canceled"
    assert "max_run_duration_seconds" in message


def test_ranks_log_to_one_run(user: Place, source: Path) -> None:
    (source / "ranks.py").write_text(
        """
import os, socket, sys
from runstream.core import Run
run = Run.get_context()
rank = int(os.environ["RANK"])
run.log("rank", rank)
print("rank", rank, "of", os.environ["WORLD_SIZE"], os.environ["LOCAL_RANK"], os.environ["MASTER_ADDR"])
sys.exit(3 if sys.argv[1:] == [str(rank)] else 0)
"""
    )
    done = user.script(
        BEGIN
        + """
runs = []
for arguments in ([], ["1"]):
    src = ScriptRunConfig("source", "ranks.py", arguments,
                          distributed_job_config=PyTorchConfiguration(process_count=3))
    runs.append(experiment.submit(src))
ends = [run.wait_for_completion(raise_on_error=False) for run in runs]
print(json.dumps([[end["status"] for end in ends], sorted(runs[0].get_metrics()["rank"]),
    ends[1]["error"]["error"]["message"],
    {k: v for k, v in runs[0].get_details_with_logs()["logFiles"].items() if k.startswith("user_logs")}]))
"""
    )
    statuses, ranks, message, logs = said(done)
    assert statuses == ["Completed", "Failed"]
    assert ranks == [0, 1, 2]
    assert message.startswith("rank 1 of 3 ended: exit code 3")
    assert {name: own_lines(text) for name, text in logs.items()} == {
        "user_logs/std_log.txt": ["rank 0 of 3 0 127.0.0.1"],
        "user_logs/std_log_process_1.txt": ["rank 1 of 3 1 127.0.0.1"],
        "user_logs/std_log_process_2.txt": ["rank 2 of 3 2 127.0.0.1"],
    }


SBATCH = """#!{python}
# Stands for SLURM: keeps the script, and runs it as a job once a file says that there is room.
import os, subprocess, sys, time
assert sys.argv[1] == "--parsable", sys.argv
queue = os.environ["QUEUE"]
number = str(1 + len([name for name in os.listdir(queue) if name.endswith(".sh")]))
text = open(sys.argv[2]).read()
open(os.path.join(queue, number + ".sh"), "w").write(text)
code = '''
import os, subprocess, sys, time
queue, number = sys.argv[1:]
while not os.path.exists(os.path.join(queue, "room")):
    time.sleep(0.05)
    if os.path.exists(os.path.join(queue, number + ".gone")): sys.exit()
if os.path.exists(os.path.join(queue, number + ".gone")): sys.exit()
script = os.path.join(queue, number + ".sh")
log = [line.split("=", 1)[1].strip() for line in open(script) if "--output=" in line][0]
subprocess.run(["/bin/sh", script], stdout=open(log, "a"), stderr=subprocess.STDOUT,
    env=dict(os.environ, SLURM_JOB_ID=number, SLURM_PROCID="0"))
'''
subprocess.Popen([sys.executable, "-c", code, queue, number], start_new_session=True,
    stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
print(number)
"""
SCANCEL = """#!{python}
import os, sys
open(os.path.join(os.environ["QUEUE"], sys.argv[-1] + ".gone"), "w").close()
"""


def test_slurm(user: Place, source: Path) -> None:
    """With stand-ins for `sbatch` and `scancel`."""
    (source / "train.py").write_text(
        "from runstream.core import Run\nRun.get_context().log('a', 1)\nprint('ran')\n"
    )
    tools, queue = user.root / "tools", user.root / "queue"
    for folder in (tools, queue):
        folder.mkdir()
    for name, text in (("sbatch", SBATCH), ("scancel", SCANCEL)):
        (tools / name).write_text(text.replace("{python}", sys.executable))
        (tools / name).chmod(stat.S_IRWXU)
    environment = {
        "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
        "QUEUE": str(queue),
        "RUNSTREAM_SLURM_OPTIONS": "--partition=gpu --gres=gpu:1",
    }
    done = user.script(
        BEGIN
        + """
run_config = RunConfiguration()
run_config.target = "slurm"
src = ScriptRunConfig("source", "train.py", run_config=run_config, max_run_duration_seconds=3600)
taken_back, run = experiment.submit(src), experiment.submit(src)
queued = run.get_status()
taken_back.cancel()
open(os.path.join(os.environ["QUEUE"], "room"), "w").close()
details = run.wait_for_completion()
print(json.dumps([queued, taken_back.get_status(), details["status"], details["target"], run.get_metrics()]))
""",
        **environment,
    )
    assert said(done) == ["Queued", "Canceled", "Completed", "slurm", {"a": 1}]
    script = (queue / "2.sh").read_text().splitlines()
    assert script[0] == "#!/bin/sh"
    assert "#SBATCH --time=65" in script
    assert script[-3:-1] == ["#SBATCH --partition=gpu", "#SBATCH --gres=gpu:1"]
    refused = user.script(
        BEGIN
        + """
from runstream.exceptions import ExperimentExecutionException
try:
    experiment.submit(ScriptRunConfig("source", "train.py", compute_target="slurm"))
except ExperimentExecutionException as error:
    print(json.dumps(str(error)))
""",
        PATH="/nowhere",
    )
    assert "sbatch is not in the path" in said(refused)


def test_the_command_line_and_the_example(user: Place, source: Path) -> None:
    (source / "train.py").write_text("import sys\nprint(sys.argv[1:])\nsys.exit(len(sys.argv) - 1)\n")
    command = ("submit", "--experiment", "line", "--tag", "a=b", "--follow", "source/train.py")
    done = user.runstream(*command)
    assert done.returncode == 0, done.stderr
    assert "\n[]\n" in done.stdout
    done = user.runstream(*command, "--", "--alpha", "1")
    assert done.returncode == 1
    assert "['--alpha', '1']" in done.stdout
    assert "Status: Failed" in done.stdout
    done = user.runstream("submit", "--experiment", "line", "source/missing.py")
    assert done.returncode == 1
    assert "missing.py" in done.stderr
    example = user.python([str(Path(__file__).parents[2] / "examples" / "submit.py")], {})
    assert example.returncode == 0, example.stdout + example.stderr
    lines = [line.split() for line in example.stdout.splitlines() if line.startswith("alpha ")]
    assert len(lines) == 10
    best = min(lines, key=lambda words: float(words[3]))[1].rstrip(":")
    assert f"best alpha: {best}" in example.stdout
    assert "outputs/ridge_1.80.pkl" in example.stdout


def test_an_interactive_run_keeps_a_folder(user: Place, source: Path) -> None:
    (source / "a.py").write_text("a")
    done = user.script(
        BEGIN
        + """
from runstream.exceptions import SnapshotException
run = experiment.start_logging(snapshot_directory="source")
made = []
for folder in ("source", "nowhere"):
    try:
        run.take_snapshot(folder)
    except SnapshotException as error:
        made.append(str(error))
run.complete()
try:
    experiment.start_logging(run_id="no-folder", snapshot_directory="nowhere")
except SnapshotException as error:
    made.append(str(error))
again = Run(experiment, run.id)
print(json.dumps([made, run.get_file_names(), again.get_snapshot_id(), again.restore_snapshot(path="kept"),
    Run(experiment, "no-folder").get_status()]))
"""
    )
    made, files, snapshot, archive, status = said(done)
    assert len(made) == 3
    assert (files, status) == ([], "Failed")  # it has a call of its own
    with zipfile.ZipFile(archive) as opened:
        assert (opened.namelist(), opened.read("a.py")) == (["a.py"], b"a")
    assert Path(archive).name == f"{snapshot}.zip"


def test_what_can_t_be_run_is_refused_at_once(user: Place, source: Path) -> None:
    (source / "a.py").write_text("")
    done = user.script(
        BEGIN
        + """
from runstream.exceptions import *
made = []
for config, kind in (
    (ScriptRunConfig("source", "missing.py"), UserErrorException),
    (ScriptRunConfig("nowhere", "a.py"), UserErrorException),
    (ScriptRunConfig("source"), UserErrorException),
    (ScriptRunConfig("source", "a.py", compute_target="cloud"), RunConfigurationException),
    (ScriptRunConfig("source", "a.py", max_run_duration_seconds=-1), RunConfigurationException),
    (ScriptRunConfig("source", "a.py", distributed_job_config=PyTorchConfiguration(node_count=2)),
     RunConfigurationException),
    ("a.py", UserErrorException),
):
    try:
        experiment.submit(config)
    except kind as error:
        made.append(str(error))
run = experiment.submit(ScriptRunConfig("source", "a.py"), run_id="mine")
try:
    experiment.submit(ScriptRunConfig("source", "a.py"), run_id="mine")
except UserErrorException as error:
    made.append(str(error))
run.wait_for_completion()
try:
    run.take_snapshot("source")
except SnapshotException as error:
    made.append(str(error))
print(json.dumps(made))
"""
    )
    assert len(said(done)) == 9
    assert not [path for path in (user.home / "jobs").iterdir() if not (path / "state.json").exists()]


def test_without_a_server(user: Place, source: Path) -> None:
    """Nothing of it needs one; the run is there when one appears."""
    (source / "train.py").write_text(
        "from runstream.core import Run\nrun = Run.get_context()\nrun.log('a', 1)\nprint('ran')\n"
    )
    place = Place(user.root / "alone")
    try:
        (place.work / "source").symlink_to(source)
        done = place.script(
            BEGIN
            + """
run = experiment.submit(ScriptRunConfig("source", "train.py"))
details = run.wait_for_completion(show_output=True)
print(json.dumps([run.id, details["status"], details["runDefinition"]["script"], run.get_status()]))
"""
        )
        run_id, *rest = said(done)
        assert rest == ["Completed", "train.py", "Completed"]
        assert "\nran\n" in done.stdout
        place.up()

        def delivered() -> object:
            found = place.runstream("metrics", run_id, "--json", "--now")
            return found.returncode == 0 and found.stdout

        assert json.loads(str(wait_for(delivered, "the run to be delivered")))["metric"] == "a"
    finally:
        place.close()


def test_a_managed_environment_is_made_once(user: Place, source: Path) -> None:
    package = user.root / "package"
    package.mkdir()
    (package / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
        '[project]\nname = "only-here"\nversion = "1.0"\n'
    )
    (package / "only_here.py").write_text("value = 42\n")
    (source / "train.py").write_text(
        """
import only_here, sys
from runstream.core import Run
Run.get_context().log("prefix", sys.prefix)
"""
    )
    begun = time.monotonic()
    done = user.script(
        BEGIN
        + f"""
from runstream.core.conda_dependencies import CondaDependencies
prefixes = []
for nth in range(2):
    env = Environment(f"mine-{{nth}}")
    packages = ["azureml-defaults", {str(package)!r}]
    env.python.conda_dependencies = CondaDependencies.create(pip_packages=packages)
    run = experiment.submit(ScriptRunConfig("source", "train.py", environment=env))
    run.wait_for_completion()
    prefixes.append(run.get_metrics()["prefix"])
env.python.conda_dependencies.add_pip_package("./no-such-package")
failed = experiment.submit(ScriptRunConfig("source", "train.py", environment=env))
details = failed.wait_for_completion(raise_on_error=False)
print(json.dumps([prefixes, details["status"], details["error"]["error"]["message"],
    run.get_details_with_logs()["logFiles"]["system_logs/environment.txt"]]))
"""
    )
    prefixes, status, message, log = said(done)
    assert prefixes[0] == prefixes[1], f"{time.monotonic() - begun:.0f} s"
    assert Path(prefixes[0]).is_relative_to(user.home / "environments")
    assert "is there" in log
    assert status == "Failed"
    assert "the environment can't be made" in message
    assert "no-such-package" in message
