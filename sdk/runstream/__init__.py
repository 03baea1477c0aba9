"""The runstream client: what a training script imports.

Names load when they are first used, so that importing a submodule (the generated messages do) costs nothing.
"""

TYPE_CHECKING = False  # as in `typing`, which takes longer to load than the rest of this

if TYPE_CHECKING:
    from runstream import errors, exceptions
    from runstream.core.experiment import Experiment
    from runstream.core.model import Model
    from runstream.core.run import Run, get_run
    from runstream.core.workspace import Workspace

__version__ = "0.1.0.dev0"

_MODULES = {
    "Experiment": "runstream.core.experiment",
    "Model": "runstream.core.model",
    "Run": "runstream.core.run",
    "Workspace": "runstream.core.workspace",
    "get_run": "runstream.core.run",
}

__all__ = ["Experiment", "Model", "Run", "Workspace", "__version__", "errors", "exceptions", "get_run"]


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
