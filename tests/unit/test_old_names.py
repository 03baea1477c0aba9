"""`python -m runstream.azureml`: scripts that import the old names run unchanged, in all their processes."""

import subprocess
import sys
from pathlib import Path

import runstream
import runstream.azureml

SCRIPT = """
import multiprocessing, subprocess, sys
import azureml.core
from azureml.core import Experiment, Run, Workspace
from azureml.core.experiment import Experiment as OfModule
from azureml.core.run import Run as RunOfModule
from azureml.exceptions import UserErrorException
from azureml.widgets import RunDetails
import runstream.core.run

def in_child(_):
    import azureml.core.run
    return azureml.core.run.Run.__module__

if __name__ == "__main__":
    assert azureml.core.run is runstream.core.run
    assert azureml.core is runstream.core
    assert Run is RunOfModule is runstream.Run
    assert OfModule is Experiment
    assert RunDetails.__module__ == "runstream.widgets.details"
    assert UserErrorException is runstream.errors.UserError
    assert runstream.core.run.__spec__.name == runstream.core.run.__name__ == "runstream.core.run"
    print(sys.argv[1:], azureml.core.VERSION == runstream.__version__, sys.flags.dev_mode)
    code = "from azureml.core import VERSION; print(VERSION)"
    print(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip())
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(pool.map(in_child, [0]))
    try:
        import azureml.train.hyperdrive
    except ModuleNotFoundError as error:
        print(error.name)
    sys.exit(7)
"""


def run(*arguments: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-X", "dev", "-m", "runstream.azureml", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_a_script(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    done = run("script.py", "--alpha", "0.5", cwd=tmp_path)
    assert done.returncode == 7, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "['--alpha', '0.5'] True True"
    assert lines[1] == runstream.__version__
    assert lines[2:] == ["['runstream.core.run']", "azureml.train"]


def test_a_module(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("import azureml.core, sys; print(azureml.core.__name__, *sys.argv[1:])")
    done = run("-m", "mine", "x", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "runstream.core x\n"), done.stderr


def test_in_a_notebook(tmp_path: Path) -> None:
    code = """
import runstream.azureml
runstream.azureml.install(); runstream.azureml.install()
from azureml.core import Run
import runstream
assert Run is runstream.Run
import importlib, azureml.core
importlib.reload(azureml.core)
import subprocess, sys  # what a notebook submits has the old names, too
below = "import azureml.core, runstream.core; assert azureml.core is runstream.core"
subprocess.run([sys.executable, "-c", below], check=True)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_wrong_usage(tmp_path: Path) -> None:
    done = run(cwd=tmp_path)
    assert done.returncode == 2
    assert "usage" in done.stderr
    isolated = subprocess.run(
        [sys.executable, "-E", "-m", "runstream.azureml", "x.py"], capture_output=True, text=True
    )
    assert isolated.returncode == 2
    assert "PYTHONPATH" in isolated.stderr


def test_without_runstream_the_reason_is_said(tmp_path: Path) -> None:
    path = Path(runstream.azureml.__file__).parent / "path"
    code = f"import sys; sys.path[:] = [{str(path)!r}, *[p for p in sys.path if 'site-packages' not in p]]"
    done = subprocess.run(
        [sys.executable, "-S", "-c", f"{code}\nimport azureml"], cwd=tmp_path, capture_output=True, text=True
    )
    assert "this interpreter has no runstream" in done.stderr
