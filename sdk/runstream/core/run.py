"""Runs: what scripts log to. The parts of the class are in modules of their own."""

from time import time_ns
from typing import Any

from runstream.core import delivery, exit, values
from runstream.core.attributes import RunAttributes
from runstream.core.experiment import Experiment
from runstream.core.lifecycle import RunLifecycle
from runstream.core.logging import RunLogging
from runstream.core.reading import RunReading
from runstream.core.state import ATTACHED, MAIN, WORKER, RunState, attach, known
from runstream.core.workspace import Workspace
from runstream.errors import UserError
from runstream.spool import layout


class Run(RunLogging, RunAttributes, RunLifecycle, RunReading):
    """A run.

    Logging to it costs about half a microsecond, never waits for a server and never fails because of one.
    """

    def __init__(self, experiment: Experiment, run_id: str, outputs: object = None, **_: Any) -> None:
        """A run that exists, by its id. Asks no server.

        What is logged through it is added to the run; the run's end is not this process's affair.
        """
        if not isinstance(experiment, Experiment):
            raise UserError(f"a run belongs to an Experiment, not to {experiment!r}")
        if not values.is_text(run_id, 256):
            raise UserError(f"a run id is a text of 1 to 256 characters, not {run_id!r}")
        self._experiment = experiment
        self._state: RunState = attach(experiment.workspace.target, experiment.name, run_id, ATTACHED)

    @classmethod
    def _start(
        cls, experiment: Experiment, run_id: str, launch: str, restart: int, display_name: str
    ) -> "Run":
        """Begin a run, or this rank's part of it, in this process."""
        exit.install()
        run = cls.__new__(cls)
        run._experiment = experiment
        target = experiment.workspace.target
        state = attach(target, experiment.name, run_id, MAIN, launch, restart)
        if state.role != MAIN:  # it was attached before: a run of its own from here on
            state = RunState(target, experiment.name, run_id, MAIN, launch, restart)
        run._state = state
        state.status = "Running"
        content: dict[str, object] = {
            "experiment": experiment.name,
            "launch": launch,
            "display_name": values.description_text(display_name),
            "parent": "",
            "run_type": "",
        }
        now = time_ns()
        state.keep(lambda channel: channel.event(layout.RUN_STARTED, content, now, last_words=True))
        delivery.nudge_sender()
        return run

    def __reduce__(self) -> tuple[Any, ...]:
        state = self._state
        place = (self._experiment, state.id, state.role, state.launch, state.restart)
        return _restore, place

    def __repr__(self) -> str:
        status = self._state.status or "unknown"
        return f"Run(Experiment: {self._experiment.name},\nId: {self.id},\nType: None,\nStatus: {status})"


def _restore(experiment: Experiment, run_id: str, role: str, launch: str, restart: int) -> Run:
    """A run that came from another process, or a copy in the same one."""
    run = Run.__new__(Run)
    run._experiment = experiment
    target = experiment.workspace.target
    here = known(target, run_id)
    run._state = here or attach(
        target, experiment.name, run_id, WORKER if role == MAIN else role, launch, restart
    )
    exit.install()
    return run


__all__ = ["Experiment", "Run", "Workspace"]
