"""Experiments: what runs are grouped by."""

import os
import re
import time
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from runstream.core import values
from runstream.core.workspace import Workspace
from runstream.errors import UserError
from runstream.spool import process

if TYPE_CHECKING:
    from runstream.context.ranks import Launch
    from runstream.core.run import Run

_NAME: Final = re.compile(r"[a-zA-Z0-9][\w\-]{0,254}")
_RUN_ID: Final = re.compile(r"[\w.:\-]{1,256}")

_launch: "Launch | None" = None
_starts: dict[str, int] = {}  # by experiment, in this process
_watching = False


class Experiment:
    """An experiment of a workspace. It exists from its first run on; making the object asks no server."""

    def __init__(self, workspace: Workspace, name: str, **_: Any) -> None:
        if not isinstance(workspace, Workspace):
            raise UserError(f"an experiment needs a Workspace, not {workspace!r}")
        if not values.is_text(name, 255) or not _NAME.fullmatch(name):
            raise UserError(
                f"{name!r} is no name for an experiment: it has 1 to 255 letters, digits, _ and -, "
                "and begins with a letter or digit"
            )
        self._workspace = workspace
        self._name = name
        import_module("runstream.core.run")  # so that start_logging has nothing left to load
        import_module("runstream.context.ranks")

    @property
    def name(self) -> str:
        """Name of the experiment."""
        return self._name

    @property
    def workspace(self) -> Workspace:
        """The workspace it belongs to."""
        return self._workspace

    def start_logging(
        self,
        *_: Any,
        run_id: str | None = None,
        outputs: bool | str | list[str] | None = None,
        display_name: str | None = None,
        tags: dict[str, object] | None = None,
        **__: Any,
    ) -> "Run":
        """Start a run that this process logs to. It is running when this returns.

        In a launch of several ranks each of them calls this, and all get the same run.

        `outputs`: folders to make, None or True for `./outputs`, False for none.
        """
        from runstream.core.run import Run

        launch = _current_launch()
        if run_id is None:
            run_id = self._new_run_id(launch)
        elif not values.is_text(run_id, 256) or not _RUN_ID.fullmatch(run_id):
            raise UserError(f"{run_id!r} is no run id: 1 to 256 letters, digits, and _ - . :")
        _make_folders(outputs)
        run = Run._start(self, run_id, launch.id, launch.restart, display_name or "")
        for key, value in (tags or {}).items():
            run.tag(key, value)
        return run

    def _new_run_id(self, launch: "Launch") -> str:
        nth = _starts.get(self._name, 0)
        _starts[self._name] = nth + 1
        suffix = launch.run_suffix(self._name, nth)
        started = launch.started_at() if launch.shared else int(time.time())
        return f"{self._name}_{suffix}" if started is None else f"{self._name}_{started}_{suffix}"

    def __repr__(self) -> str:
        return f"Experiment(Name: {self._name},\nWorkspace: {self._workspace.name})"

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Experiment)
            and other._name == self._name
            and other._workspace == self._workspace
        )

    def __hash__(self) -> int:
        return hash(self._name)


def _current_launch() -> "Launch":
    """The launch of this process, found out once, and again after a fork."""
    global _launch, _watching
    if _launch is None:
        from runstream.context.ranks import read_launch

        _launch = read_launch(os.environ)
        if not _launch.shared:
            _launch.export(os.environ)
        if not _watching:
            _watching = True
            process.watch_forks()
            process.on_fork(_forked)
    return _launch


def _forked() -> None:
    """A fork is no rank of its own: runs that it starts are its own."""
    global _launch
    from runstream.context import ranks

    job = ranks.mint()
    _launch = ranks.Launch(job, job, 0, ranks.Ranks(), shared=False)
    _starts.clear()


def _make_folders(outputs: bool | str | list[str] | None) -> None:
    """Make the folders that a script may expect to write to."""
    if outputs is False:
        return
    names = ["outputs"] if outputs in (None, True) else outputs
    for name in [names] if isinstance(names, str) else names or ():  # type: ignore[union-attr]
        try:
            os.makedirs(name, exist_ok=True)
        except OSError:
            pass  # a working directory that can't be written is no reason not to train
