"""The API that scripts use, under the names of the SDK it is compatible with."""

from runstream import __version__ as VERSION

TYPE_CHECKING = False  # as in `typing`

if TYPE_CHECKING:
    from runstream.core.conda_dependencies import CondaDependencies
    from runstream.core.environment import Environment
    from runstream.core.experiment import Experiment
    from runstream.core.model import Model
    from runstream.core.run import Run, get_run
    from runstream.core.runconfig import MpiConfiguration, PyTorchConfiguration, RunConfiguration
    from runstream.core.script_run import ScriptRun
    from runstream.core.script_run_config import ScriptRunConfig
    from runstream.core.workspace import Workspace

_MODULES = {
    "CondaDependencies": "conda_dependencies",
    "Environment": "environment",
    "Experiment": "experiment",
    "Model": "model",
    "MpiConfiguration": "runconfig",
    "PyTorchConfiguration": "runconfig",
    "Run": "run",
    "RunConfiguration": "runconfig",
    "ScriptRun": "script_run",
    "ScriptRunConfig": "script_run_config",
    "Workspace": "workspace",
    "get_run": "run",
}

__all__ = [
    "VERSION",
    "CondaDependencies",
    "Environment",
    "Experiment",
    "Model",
    "MpiConfiguration",
    "PyTorchConfiguration",
    "Run",
    "RunConfiguration",
    "ScriptRun",
    "ScriptRunConfig",
    "Workspace",
    "get_run",
]


def __getattr__(name: str) -> object:
    from importlib import import_module

    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module 'runstream.core' has no attribute {name!r}")
    value: object = getattr(import_module(f"runstream.core.{module}"), name)
    globals()[name] = value
    return value
