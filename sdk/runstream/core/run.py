"""Runs: what scripts log to. The parts of the class are in modules of their own."""

from collections.abc import Iterator
from time import time_ns
from typing import TYPE_CHECKING, Any, Final

from runstream.capture import console, folders
from runstream.core import delivery, display, exit, outputs, reads, values, waiting
from runstream.core.attributes import RunAttributes
from runstream.core.experiment import Experiment
from runstream.core.figures import RunFigures
from runstream.core.hierarchy import RunHierarchy
from runstream.core.lifecycle import RunLifecycle
from runstream.core.logging import RunLogging
from runstream.core.logs import RunLogs
from runstream.core.record import RunRecord
from runstream.core.registration import RunModels
from runstream.core.sharing import RunSharing
from runstream.core.snapshots import RunSnapshots
from runstream.core.state import ATTACHED, MAIN, WORKER, RunState, attach, known
from runstream.core.storage import RunStorage
from runstream.core.workspace import Workspace
from runstream.errors import UserError
from runstream.spool import layout

if TYPE_CHECKING:
    from runstream.core.search import Wanted

_SUBMITTED: Final = "azureml.scriptrun"
_classes: "dict[str, type[Run]]" = {}


class Run(
    RunFigures,
    RunLogging,
    RunModels,
    RunSnapshots,
    RunAttributes,
    RunHierarchy,
    RunLifecycle,
    RunLogs,
    RunSharing,
    RunStorage,
):
    """A run.

    Logging to it costs about half a microsecond, never waits for a server and never fails because of one.
    """

    def __init__(self, experiment: Experiment, run_id: str, outputs: object = None, **_: Any) -> None:
        """A run that exists, by its id. Asks no server.

        What is logged through it is added to the run; the run's end is not this process's affair.
        """
        if not isinstance(experiment, Experiment):
            raise UserError(f"a run belongs to an Experiment, not to {experiment!r}")
        if not values.is_id(run_id, 256):
            raise UserError(f"a run id is a text of 1 to 256 characters, not {run_id!r:.300}")
        self._experiment = experiment
        self._state: RunState = attach(experiment.workspace.target, experiment.name, run_id, ATTACHED)

    @classmethod
    def _start(
        cls,
        experiment: Experiment,
        run_id: str,
        launch: str,
        restart: int,
        *,
        display_name: str = "",
        parent: str = "",
        run_type: str = "",
        whole: bool = False,
    ) -> "Run":
        """Begin a run, or this rank's part of it, in this process. `whole`: its id was made just now."""
        exit.install()
        exit.before_exit(outputs.capture_all)
        run = cls.__new__(cls)
        run._experiment = experiment
        target = experiment.workspace.target
        state = attach(target, experiment.name, run_id, MAIN, launch, restart)
        if state.role != MAIN:  # it was attached before: a run of its own from here on
            state = RunState(target, experiment.name, run_id, MAIN, launch, restart)
        run._state = state
        now = time_ns()
        facts = state.facts
        facts.whole = whole
        facts.display_name = display_name
        facts.parent = parent
        facts.run_type = run_type
        facts.started_ns = now
        state.status = "Running"
        state.record = None
        content: dict[str, object] = {
            "experiment": experiment.name,
            "launch": launch,
            "display_name": display_name,
            "parent": parent,
            "run_type": run_type,
        }
        state.keep(lambda channel: channel.event(layout.RUN_STARTED, content, now, last_words=True))
        if not parent:  # children that are only made print nothing; a `with` block says who does
            console.begin(state)
            folders.begin(state)
        delivery.nudge_sender()
        return run

    @classmethod
    def _of(cls, workspace: Workspace, found: RunRecord) -> "Run":
        """A run that was found."""
        experiment = Experiment(workspace, found.experiment) if found.experiment else _nameless(workspace)
        run = _class_of(found.run_type)(experiment, found.id)
        run._state.record = found
        return run

    def __reduce__(self) -> tuple[Any, ...]:
        state = self._state
        place = (self._experiment, state.id, state.role, state.launch, state.restart)
        return _restore, (type(self), *place)

    # ----------------------------------------------------------------------------------- finding

    @staticmethod
    def get(workspace: Workspace, run_id: str) -> "Run":
        """A run by its id, of whichever experiment. Raises NotFoundError."""
        if not isinstance(workspace, Workspace):
            raise UserError(f"Run.get needs a Workspace, not {workspace!r:.100}")
        if not values.is_id(run_id, 256):
            raise UserError(f"a run id is a text of 1 to 256 characters, not {run_id!r:.300}")
        state = known(workspace.target, run_id)
        if state is not None and state.facts.whole:  # it was begun here: nobody need be asked
            run = _class_of(state.facts.run_type)
            return run(Experiment(workspace, state.experiment), run_id)
        return Run._of(workspace, reads.find(workspace, run_id))

    @staticmethod
    def list(
        experiment: Experiment,
        type: str | None = None,
        tags: "Wanted" = None,
        properties: "Wanted" = None,
        status: str | None = None,
        include_children: bool = False,
        _rehydrate_runs: bool = True,
    ) -> "Iterator[Run]":
        """Runs of an experiment, newest start first. Parameters as of `Experiment.get_runs`."""
        if not isinstance(experiment, Experiment):
            raise UserError(f"Run.list needs an Experiment, not {experiment!r:.100}")
        return experiment._find(type, tags, properties, status, include_children)

    @classmethod
    def get_context(cls, allow_offline: bool = True, **_: Any) -> "Run":
        """The run that this process belongs to: the one that the script was submitted as.

        Outside of a submission it is a run of its own, begun with the first call: the same object in the
        whole process. With `allow_offline=False` that raises RunEnvironmentError instead.
        """
        from runstream.core.context import current_run

        return current_run(bool(allow_offline))

    @staticmethod
    def add_type_provider(runtype: str, run_factory: "type[Run]") -> None:
        """Have runs of a type found as objects of a subclass."""
        _classes[runtype] = run_factory

    # ----------------------------------------------------------------------------------- waiting

    def wait_for_completion(
        self,
        show_output: bool = False,
        wait_post_processing: bool = False,
        raise_on_error: bool = True,
    ) -> dict[str, Any]:
        """Wait until the run is over, and return `get_details()`.

        `show_output` prints its log as it grows. Raises ActivityFailedError when the run failed, unless
        `raise_on_error` is False, and ExperimentExecutionError when Ctrl-C ended the wait: the run goes on.
        """
        waiting.wait(self, show=bool(show_output), to_the_end=bool(wait_post_processing))
        details = self.get_details()
        if raise_on_error:
            waiting.raise_if_failed(self.id, details)
        return details

    # ----------------------------------------------------------------------------------- display

    def __repr__(self) -> str:
        return display.run_text(self)

    def _repr_html_(self) -> str:
        return display.run_html(self)


class _OfflineRun(Run):
    """What `Run.get_context()` gives a script that was not submitted. It lacks nothing."""


class _SubmittedRun(Run):
    """What `Run.get_context()` gives a submitted script. Its launcher says how the run ended."""


def get_run(experiment: Experiment, run_id: str, rehydrate: bool = True, clean_up: bool = True) -> Run:
    """A run of an experiment by its id. Raises NotFoundError when the experiment has no such run."""
    from runstream.errors import NotFoundError

    if not isinstance(experiment, Experiment):
        raise UserError(f"get_run needs an Experiment, not {experiment!r:.100}")
    run = Run.get(experiment.workspace, run_id)
    if run.experiment.name != experiment.name:
        raise NotFoundError(
            f"run {run_id} is none of experiment {experiment.name}: it belongs to {run.experiment.name}"
        )
    return run


def _class_of(run_type: str) -> type[Run]:
    """The class for runs of a type."""
    if run_type == _SUBMITTED and run_type not in _classes:
        from runstream.core.script_run import ScriptRun

        return ScriptRun
    return _classes.get(run_type, Run)


def _nameless(workspace: Workspace) -> Experiment:
    """Stands for the experiment of a run of which only points have arrived yet."""
    return Experiment(workspace, "unknown")


def _restore(
    kind: type[Run], experiment: Experiment, run_id: str, role: str, launch: str, restart: int
) -> Run:
    """A run that came from another process, or a copy in the same one."""
    run = kind.__new__(kind)
    run._experiment = experiment
    target = experiment.workspace.target
    here = known(target, run_id)
    run._state = here or attach(
        target, experiment.name, run_id, WORKER if role == MAIN else role, launch, restart
    )
    exit.install()
    return run


__all__ = ["Experiment", "Run", "Workspace", "get_run"]
