"""The runstream client: what a training script imports.

Names load when they are first used, so that importing a submodule (the generated messages do) costs nothing.
"""

TYPE_CHECKING = False  # as in `typing`, which takes longer to load than the rest of this

if TYPE_CHECKING:
    from runstream import errors, exceptions
    from runstream.core.conda_dependencies import CondaDependencies
    from runstream.core.environment import Environment
    from runstream.core.experiment import Experiment
    from runstream.core.model import Model
    from runstream.core.run import Run, get_run
    from runstream.core.runconfig import MpiConfiguration, PyTorchConfiguration, RunConfiguration
    from runstream.core.script_run import ScriptRun
    from runstream.core.script_run_config import ScriptRunConfig
    from runstream.core.workspace import Workspace

__version__ = "0.1.0.dev0"

_MODULES = {
    "CondaDependencies": "runstream.core.conda_dependencies",
    "Environment": "runstream.core.environment",
    "Experiment": "runstream.core.experiment",
    "Model": "runstream.core.model",
    "MpiConfiguration": "runstream.core.runconfig",
    "PyTorchConfiguration": "runstream.core.runconfig",
    "Run": "runstream.core.run",
    "RunConfiguration": "runstream.core.runconfig",
    "ScriptRun": "runstream.core.script_run",
    "ScriptRunConfig": "runstream.core.script_run_config",
    "Workspace": "runstream.core.workspace",
    "get_run": "runstream.core.run",
}

__all__ = [
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
    "__version__",
    "errors",
    "exceptions",
    "get_run",
]


def __getattr__(name: str) -> object:
    from importlib import import_module

    if name in ("errors", "exceptions", "core"):
        return import_module(f"runstream.{name}")
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module 'runstream' has no attribute {name!r}")
    value: object = getattr(import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
