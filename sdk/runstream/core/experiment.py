"""Experiments: what runs are grouped by."""

import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from runstream.core import display, values
from runstream.core import outputs as outputs_of_run
from runstream.core.workspace import Workspace
from runstream.errors import NotFoundError, RunstreamError, UserError
from runstream.spool import process

if TYPE_CHECKING:
    from datetime import datetime

    from runstream.client import ArchiveView
    from runstream.context.ranks import Launch
    from runstream.core.run import Run
    from runstream.core.script_run import ScriptRun
    from runstream.core.script_run_config import ScriptRunConfig
    from runstream.core.search import Wanted

_NAME: Final = re.compile(r"[a-zA-Z0-9][\w\-]{0,254}")
_RUN_ID: Final = re.compile(r"[\w.:\-]{1,256}")

_launch: "Launch | None" = None
# So that neither start_logging nor a run's end has anything left to load.
_NEEDED_SOON: Final = (
    "fcntl",
    "_blake2",
    "runstream.core.run",
    "runstream.context.ranks",
    "runstream.sender.start",
    "runstream.sender.ask",
)

_starts: dict[str, int] = {}  # by experiment, in this process
_watching = False


class ViewType:
    """Which experiments a list has."""

    ActiveOnly: Final = "ActiveOnly"
    All: Final = "All"
    ArchivedOnly: Final = "ArchivedOnly"


_VIEWS: "Final[Mapping[str, ArchiveView]]" = {
    ViewType.ActiveOnly: "active",
    ViewType.All: "all",
    ViewType.ArchivedOnly: "archived",
}


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
        self._tags: dict[str, str | None] | None = None
        for module in _NEEDED_SOON:
            try:
                import_module(module)
            except ImportError:  # there is no fcntl on Windows
                continue

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
        description: str | None = None,
        tags: Mapping[str, object] | None = None,
        name: str | None = None,
        snapshot_directory: str | os.PathLike[str] | None = None,
        **__: Any,
    ) -> "Run":
        """Start a run that this process logs to. It is running when this returns.

        In a launch of several ranks each of them calls this, and all get the same run. With the `run_id` of
        an earlier run this is a new attempt of it: what the earlier ones logged is kept.

        `outputs`: folders to make, None or True for `./outputs`, False for none. What the script writes there
        while the run goes on becomes part of its record when it ends. `name` is the display name.
        `snapshot_directory`: a folder to keep with the run, as `Run.take_snapshot` does; None for none.
        """
        run = self._begin(
            run_id=run_id,
            outputs=outputs,
            display_name=name if display_name is None else display_name,
            description=description,
            tags=tags,
        )
        if snapshot_directory is not None:
            try:
                run.take_snapshot(snapshot_directory)
            except RunstreamError as error:
                run.fail(error)
                raise
        return run

    def submit(
        self,
        config: "ScriptRunConfig",
        tags: Mapping[str, object] | None = None,
        run_id: str | None = None,
        display_name: str | None = None,
        **_: Any,
    ) -> "ScriptRun":
        """Run a script under a run of its own. Returns as soon as its supervisor has begun; asks no server.

        The whole of the configuration's folder is kept as a snapshot, and the script runs in a copy of it,
        supervised by a process that outlives this one.

        Raises UserError, RunConfigurationError or SnapshotError for what can't be run, and
        ExperimentExecutionError when it could not be started: then there is no run.
        """
        from runstream.core.script_run import submitted

        return submitted(self, config, tags, run_id, display_name)

    def _begin(
        self,
        *,
        run_id: str | None = None,
        outputs: bool | str | list[str] | None = None,
        display_name: str | None = None,
        description: str | None = None,
        tags: Mapping[str, object] | None = None,
        parent: str = "",
        run_type: str = "",
        kind: "type[Run] | None" = None,
        whole: bool = False,
    ) -> "Run":
        from runstream.core.run import Run

        launch = current_launch()
        if run_id is None:
            run_id = self._new_run_id(launch)
            whole = not launch.shared
        elif not values.is_text(run_id, 256) or not _RUN_ID.fullmatch(run_id):
            raise UserError(f"{run_id!r:.300} is no run id: 1 to 256 letters, digits, and _ - . :")
        # Whatever is wrong is said before there is a run.
        texts = {} if tags is None else values.texts_by_key("tags", tags)
        display_name, description = values.run_name(display_name), values.run_description(description)
        folders = outputs_of_run.folders(outputs)
        _make_folders(folders)
        run = (kind or Run)._start(
            self,
            run_id,
            launch.id,
            launch.restart,
            display_name=display_name,
            parent=parent,
            run_type=run_type,
            whole=whole,
        )
        if not launch.ranks.local_rank:  # ranks on one machine share the folder
            outputs_of_run.watch(run._state, folders, run._state.facts.started_ns)
        for key, value in texts.items():
            run.tag(key, value)
        if description:
            run.description = description
        return run

    # -------------------------------------------------------------------------------------- runs

    def get_runs(
        self,
        type: str | None = None,
        tags: "Wanted" = None,
        properties: "Wanted" = None,
        include_children: bool = False,
        *,
        filter: str | None = None,
        archived: bool = False,
    ) -> "Iterator[Run]":
        """Its runs, newest start first. Without their children, unless asked for.

        `tags`, `properties`: a key that they have, or a dictionary of keys and values that they all have.
        `filter` is a condition in the filter language, as `metrics.loss.min < 0.3 and params.lr >= 0.1`.
        """
        return self._find(type, tags, properties, None, include_children, filter, archived)

    def _find(
        self,
        run_type: str | None,
        tags: "Wanted",
        properties: "Wanted",
        status: str | None,
        include_children: bool,
        filter: str | None = None,
        archived: bool = False,
    ) -> "Iterator[Run]":
        from runstream.core.search import Query, runs_of

        query = Query(
            tags,
            properties,
            run_type,
            status,
            experiment=self._name,
            top_level=not include_children,
            filter=filter,
            archived=bool(archived),
        )
        return runs_of(self._workspace, query)

    # -------------------------------------------------------------------------- what is kept of it

    @property
    def id(self) -> str:
        """Id of the experiment: its name, which is unique in the workspace."""
        return self._name

    @property
    def tags(self) -> dict[str, str | None]:
        """Its tags, as they were last read. Raises ServiceError when no server answers."""
        if self._tags is None:
            self.refresh()
        return dict(self._tags or {})

    def refresh(self) -> None:
        """Read its tags again."""
        from runstream.core import changes

        try:
            found = changes.experiment(self._workspace, self._name)
        except NotFoundError:  # its first run is still to come
            self._tags = {}
            return
        self._tags = {
            attribute.key: attribute.value if attribute.HasField("value") else None
            for attribute in found.attributes
            if attribute.kind == 1  # tag
        }

    def tag(self, key: str, value: object = None) -> None:
        """Set a tag, at the server and at once: raises ServiceError when none answers."""
        self.set_tags({key: value})

    def set_tags(self, tags: Mapping[str, object]) -> None:
        """Set several tags."""
        from runstream.core import changes

        texts = values.texts_by_key("tags", tags)
        changes.update_experiment(self._workspace, self._name, set_tags=texts)
        self._tags = None

    def remove_tags(self, tags: Iterable[str]) -> None:
        """Remove tags by their keys."""
        from runstream.core import changes

        changes.update_experiment(self._workspace, self._name, remove_tags=values.keys_of(tags))
        self._tags = None

    def archive(self) -> None:
        """Hide the experiment from lists that don't ask for archived ones."""
        from runstream.core import changes

        changes.update_experiment(self._workspace, self._name, archived=True)

    def reactivate(self, new_name: str | None = None) -> None:
        """Take it out of the archive. Renaming is refused: runs say which experiment they belong to."""
        from runstream.core import changes

        if new_name is not None and new_name != self._name:
            raise UserError(
                f"experiment {self._name!r} can't be renamed to {new_name!r}: start new runs under that name"
            )
        changes.update_experiment(self._workspace, self._name, archived=False)

    @property
    def archived(self) -> bool:
        """Whether it is archived, as the server has it now."""
        from runstream.core import changes

        try:
            return bool(changes.experiment(self._workspace, self._name).archived)
        except NotFoundError:
            return False

    @property
    def archived_time(self) -> "datetime | None":
        """When it was archived, in UTC, as the server has it now; None while it is active."""
        from datetime import UTC, datetime

        from runstream.core import changes

        try:
            found = changes.experiment(self._workspace, self._name)
        except NotFoundError:
            return None
        times = [one.value for one in found.attributes if one.kind == 4 and one.key == "archived"]  # system
        return datetime.fromtimestamp(int(times[0]) / 1e9, UTC) if times else None

    @staticmethod
    def list(
        workspace: Workspace,
        experiment_name: str | None = None,
        view_type: str = ViewType.ActiveOnly,
        tags: "Wanted" = None,
    ) -> "list[Experiment]":
        """Experiments of a workspace, the last active first."""
        from runstream.core import changes
        from runstream.core.search import has_all

        if not isinstance(workspace, Workspace):
            raise UserError(f"Experiment.list needs a Workspace, not {workspace!r:.100}")
        if view_type not in _VIEWS:
            raise UserError(f"view_type is one of {', '.join(_VIEWS)}, not {view_type!r}")
        made = []
        for found in changes.experiments(workspace, _VIEWS[view_type]):
            tags_of = {
                attribute.key: attribute.value if attribute.HasField("value") else None
                for attribute in found.attributes
                if attribute.kind == 1  # tag
            }
            if found.name and experiment_name in (None, found.name) and has_all(tags_of, tags):
                experiment = Experiment(workspace, found.name)
                experiment._tags = tags_of
                made.append(experiment)
        return made

    @staticmethod
    def delete(workspace: Workspace, experiment_id: str) -> None:
        """Remove an experiment that has no runs any more. One that has some is refused: delete them first."""
        from runstream.core import changes

        found = changes.experiment(workspace, experiment_id)
        if found.runs:
            raise UserError(
                f"experiment {experiment_id!r} has {found.runs:,} runs: delete them first (run.delete()), "
                "or archive the experiment"
            )
        changes.update_experiment(workspace, experiment_id, archived=True)

    # ----------------------------------------------------------------------------------- display

    def get_portal_url(self) -> str:
        """Address of its page. Made without asking a server."""
        return display.experiment_url(self)

    def get_docs_url(self) -> str:
        """Address of the documentation."""
        return display.docs_url(self._workspace)

    def _repr_html_(self) -> str:
        return display.experiment_html(self)

    def _new_run_id(self, launch: "Launch") -> str:
        nth = _starts.get(self._name, 0)
        _starts[self._name] = nth + 1
        suffix = launch.run_suffix(self._name, nth)
        started = launch.started_at() if launch.shared else int(time.time())
        return f"{self._name}_{suffix}" if started is None else f"{self._name}_{started}_{suffix}"

    def __repr__(self) -> str:
        return display.experiment_text(self)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Experiment)
            and other._name == self._name
            and other._workspace == self._workspace
        )

    def __hash__(self) -> int:
        return hash(self._name)


def current_launch() -> "Launch":
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


def _make_folders(names: list[str]) -> None:
    """Make the folders that a script may expect to write to."""
    for name in names:
        try:
            os.makedirs(name, exist_ok=True)
        except (OSError, ValueError):  # ValueError: a character that no path has
            pass  # a working directory that can't be written is no reason not to train
