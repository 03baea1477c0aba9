"""The old names: `python -m runstream.azureml script.py` runs a script that imports `azureml`, unchanged.

In a notebook whose Jupyter was not started that way:

    import runstream.azureml
    runstream.azureml.install()

The modules are not copies: `azureml.core.run` is `runstream.core.run`. What runstream has no counterpart of
can't be imported; docs/compat.md lists what it has.
"""

import importlib
import os
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Final

_OLD: Final = "azureml"
_NEW: Final = "runstream"
_TOPS: Final = ("core", "exceptions", "widgets")
_PATH: Final = str(Path(__file__).parent / "path")


class OldNames(MetaPathFinder, Loader):
    """Finds modules of ours under their old names."""

    def __init__(self) -> None:
        self._specs: dict[str, ModuleSpec | None] = {}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """See `importlib`."""
        top, _, rest = fullname.partition(".")
        if top != _OLD:
            return None
        if not rest:
            return ModuleSpec(fullname, self, is_package=True)
        found = None
        if rest.partition(".")[0] in _TOPS:
            try:
                found = find_spec(f"{_NEW}.{rest}")
            except ModuleNotFoundError:
                pass
        if found is None:
            raise ModuleNotFoundError(
                f"runstream has no counterpart of {fullname} (docs/compat.md lists what it has)",
                name=fullname,
            )
        return ModuleSpec(fullname, self, is_package=found.submodule_search_locations is not None)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """The module of ours itself."""
        if spec.name == _OLD:
            return ModuleType(_OLD, __doc__)
        module = importlib.import_module(f"{_NEW}{spec.name[len(_OLD) :]}")
        self._specs[spec.name] = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """It was executed when it was imported under its own name; that it keeps."""
        spec = module.__spec__
        if spec is not None and spec.name in self._specs:
            module.__spec__ = self._specs.pop(spec.name)


def install() -> None:
    """Make the old names importable in this process and those that it starts, as scripts that it submits.
    Does nothing the second time.

    An `azureml` that was imported before is left as it is; one that is only installed is not found any more.
    """
    if not any(isinstance(finder, OldNames) for finder in sys.meta_path):
        sys.meta_path.insert(0, OldNames())
    os.environ["PYTHONPATH"] = python_path()


def python_path() -> str:
    """PYTHONPATH of processes that are to have the old names."""
    others = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path and path != _PATH]
    return os.pathsep.join([_PATH, *others])
