"""What describes a submission: scripts, environments, packages, ranks."""

import sys
from pathlib import Path

import pytest

from runstream.core.conda_dependencies import CondaDependencies
from runstream.core.environment import Environment
from runstream.core.runconfig import MpiConfiguration, PyTorchConfiguration, RunConfiguration
from runstream.core.script_run_config import ScriptRunConfig
from runstream.core.workspace import Workspace
from runstream.errors import RunConfigurationError, UserError
from runstream.submit.interpreter import Progress, describe
from runstream.submit.packages import packages_of
from tests.server import wait_for


def test_a_mistyped_attribute_is_an_error_that_names_the_right_one() -> None:
    environment = Environment("mine")
    with pytest.raises(AttributeError, match="did you mean 'user_managed_dependencies'"):
        environment.python.user_managed_dependancies = True
    with pytest.raises(AttributeError, match="pythn"):
        environment.pythn = None
    with pytest.raises(AttributeError, match="enabled"):
        environment.docker.enable = True
    environment.docker.enabled = True
    environment.python.user_managed_dependencies = True
    with pytest.raises(AttributeError, match="did you mean 'target'"):
        RunConfiguration().targt = "local"


def test_configurations_take_what_scripts_give_them(capsys: pytest.CaptureFixture[str]) -> None:
    mine = Environment("mine")
    config = ScriptRunConfig("src", "train.py", ["--alpha", 0.1], environment=mine)
    assert (config.script, config.arguments, config.command) == ("train.py", ["--alpha", 0.1], None)
    assert config.run_config.environment is mine
    assert config.max_run_duration_seconds == 2_592_000
    other = Environment("other")
    config.run_config.environment = other
    assert config.run_config.environment is other

    given = RunConfiguration(script="a.py", arguments=["x"])
    config = ScriptRunConfig("src", run_config=given, environment=mine)
    assert (config.script, config.arguments) == ("a.py", ["x"])
    assert given.environment is not mine
    assert "environment have no effect" in capsys.readouterr().err

    config = ScriptRunConfig("src", command="echo $HOME")
    assert (config.script, config.command) == (None, "echo $HOME")
    with pytest.raises(UserError, match="not both"):
        ScriptRunConfig("src", "a.py", command="b")
    with pytest.raises(UserError, match="list"):
        ScriptRunConfig("src", "a.py", arguments="--alpha 1")
    with pytest.raises(UserError, match="PyTorchConfiguration"):
        ScriptRunConfig("src", "a.py", distributed_job_config=4)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("ranks", "processes"),
    [
        (PyTorchConfiguration(), 1),
        (PyTorchConfiguration(process_count=4), 4),
        (PyTorchConfiguration("Gloo", 4, 2), 4),
        (MpiConfiguration(3), 3),
        (MpiConfiguration(3, 2), 6),
    ],
)
def test_ranks(ranks: PyTorchConfiguration | MpiConfiguration, processes: int) -> None:
    assert ranks.processes == processes


def test_impossible_ranks() -> None:
    with pytest.raises(RunConfigurationError, match="evenly"):
        PyTorchConfiguration(process_count=3, node_count=2)
    with pytest.raises(RunConfigurationError, match="from 1"):
        MpiConfiguration(0)


def test_packages() -> None:
    packages = CondaDependencies.create(
        pip_packages=["torch", "azureml-defaults", "azureml-sdk[notebooks]==1.61"],
        conda_packages=["scikit-learn=1.7", "numpy>=2", "python=3.11", "scipy=1.16.*"],
        pip_indexurl="https://example.org/simple",
    )
    packages.add_pip_package("torch")
    assert packages.python_version == "3.11"
    found = packages_of(packages)
    assert found.pip == ["torch"]  # runstream stands for the old SDK
    assert found.options == ["--index-url https://example.org/simple"]
    assert found.conda_as_pip() == ["numpy>=2", "scikit-learn==1.7.*", "scipy==1.16.*"]
    assert any(line.startswith("protobuf") for line in found.client)
    assert not any("extra" in line for line in found.client)
    packages.add_pip_package("runstream==1.0")
    assert packages_of(packages).client == []
    packages.remove_conda_package("SciPy")
    assert packages.conda_packages == ["scikit-learn=1.7", "numpy>=2"]
    for wrong in ("", 5, "a\nb"):
        with pytest.raises(UserError, match="a package is"):
            packages.add_pip_package(wrong)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="list of packages"):
        CondaDependencies.create(pip_packages="torch")


def test_files_of_packages(tmp_path: Path) -> None:
    packages = CondaDependencies.create(pip_packages=["a==1"], conda_packages=["b"], python_version="3.12")
    name = packages.save_to_file(tmp_path)
    assert CondaDependencies(tmp_path / name).as_dict() == packages.as_dict()
    (tmp_path / "requirements.txt").write_text(
        "# all\na==1  # why\n\n-r more.txt\nb[x]>=2 ; python_version>'3'\n"
    )
    environment = Environment.from_pip_requirements("mine", tmp_path / "requirements.txt")
    found = environment.python.conda_dependencies
    assert found is not None
    assert found.pip_packages == ["a==1", "b[x]>=2 ; python_version>'3'"]
    assert found.pip_options == [f"-r {tmp_path / 'more.txt'}"]
    with pytest.raises(UserError, match="can't be read"):
        Environment.from_pip_requirements("mine", tmp_path / "missing.txt")


def test_what_makes_an_environment_ends_as_a_whole(tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    log = tmp_path / "log"

    def check() -> None:
        if "ready" in log.read_text().splitlines():
            raise Stop

    inner = "import os, time; print(os.getpid(), 'ready', sep='\\n', flush=True); time.sleep(600)"
    outer = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {inner!r}])"
    with pytest.raises(Stop):
        Progress(log, check).run([sys.executable, "-c", outer])
    pid = int(log.read_text().splitlines()[-2])
    wait_for(lambda: _is_gone(pid), "the process that it started to end")
    with pytest.raises(RunConfigurationError, match=r"ended with 3\nthe reason"):
        Progress(log, lambda: None).run([sys.executable, "-c", "print('the reason'); raise SystemExit(3)"])


def _is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def test_which_interpreter(tmp_path: Path) -> None:
    environment = Environment("mine")
    assert describe(environment)["interpreter"] == sys.executable
    environment.python.user_managed_dependencies = True
    assert describe(environment)["interpreter"] == sys.executable
    link = tmp_path / "python3"
    link.symlink_to(sys.executable)
    environment.python.interpreter_path = str(link)
    assert describe(environment)["interpreter"] == str(link)
    environment.python.interpreter_path = str(tmp_path / "missing")
    with pytest.raises(RunConfigurationError, match="missing"):
        describe(environment)


def test_registered_environments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNSTREAM_HOME", str(tmp_path / "home"))
    here, elsewhere = Workspace(workspace_name="here"), Workspace(workspace_name="elsewhere")
    assert here.environments == {}
    made = Environment("mine")
    made.python.conda_dependencies = CondaDependencies.create(
        pip_indexurl="https://example.org",
        pip_packages=["a==1"],
        conda_packages=["b=2"],
        python_version="3.11",
    )
    made.docker.enabled = True
    made.environment_variables = {"A": "1"}
    first = made.register(here)
    assert (first.name, first.version, made.version) == ("mine", "1", None)
    assert made.register(here).version == "1"  # it says the same
    made.environment_variables["A"] = "2"
    assert made.register(here).version == "2"
    newest = Environment.get(here, "mine")
    assert (newest.version, newest.environment_variables, newest.docker.enabled) == ("2", {"A": "2"}, True)
    assert describe(newest) == describe(made)
    assert Environment.get(here, "mine", version=1).environment_variables == {"A": "1"}
    assert newest.register(here).version == "2"
    assert list(Environment.list(here)) == list(here.environments) == ["mine"]
    assert Environment.list(elsewhere) == {}
    for name, version in (("mine", 3), ("mine", "x"), ("other", None)):
        with pytest.raises(UserError, match="registered: mine"):
            Environment.get(here, name, version)
    with pytest.raises(UserError, match="registered: none"):
        Environment.get(elsewhere, "mine")
    made.environment_variables = {"A": object()}  # type: ignore[dict-item]
    with pytest.raises(UserError, match="can't be kept"):
        made.register(here)
    assert Environment.get(here, "mine").version == "2"
