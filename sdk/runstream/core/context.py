"""The run that a process belongs to, as `Run.get_context()` gives it.

A launcher that runs a submitted script sets RUNSTREAM_RUN_ID, RUNSTREAM_EXPERIMENT, RUNSTREAM_WORKSPACE and
RUNSTREAM_LAUNCH_ID. The first process that asks (each rank's) is a main one of the run; processes that it
starts in turn are workers.
"""

import os
import re
import sys
from typing import Final

from runstream.core import delivery, exit, mode, values
from runstream.core.experiment import Experiment, current_launch
from runstream.core.notices import say
from runstream.core.run import Run, _OfflineRun, _SubmittedRun
from runstream.core.state import MAIN, WORKER, attach
from runstream.core.workspace import Workspace
from runstream.errors import RunEnvironmentError

RUN_ID: Final = "RUNSTREAM_RUN_ID"
EXPERIMENT: Final = "RUNSTREAM_EXPERIMENT"
_TAKEN: Final = "RUNSTREAM_RUN_TAKEN"  # by the main process, whose children are workers

_current: Run | None = None


def current_run(allow_offline: bool) -> Run:
    """One object for the whole process, and for its forks."""
    global _current
    submitted = os.environ.get(RUN_ID)
    if not submitted and not allow_offline:
        raise RunEnvironmentError(
            "this script was not submitted: start it with Experiment.submit, or call Run.get_context() "
            "without allow_offline=False to log to a run of its own"
        )
    if _current is None or (submitted and _current.id != submitted):
        _current = _submitted_run(submitted) if submitted else _own_run()
    return _current


def _submitted_run(run_id: str) -> Run:
    launch = current_launch()
    taken = os.environ.get(_TAKEN) == run_id
    os.environ[_TAKEN] = run_id
    experiment = Experiment(Workspace.from_config(), os.environ.get(EXPERIMENT) or "default")
    run = _SubmittedRun.__new__(_SubmittedRun)
    run._experiment = experiment
    run._state = attach(
        experiment.workspace.target,
        experiment.name,
        run_id,
        WORKER if taken and not launch.ranks.many else MAIN,
        launch.id,
        launch.restart,
    )
    run._state.submitted = True
    exit.install()
    delivery.nudge_sender()
    return run


def _own_run() -> Run:
    experiment = Experiment(Workspace.from_config(), os.environ.get(EXPERIMENT) or _name_of_script())
    launch = current_launch()
    suffix = experiment._new_run_id(launch).removeprefix(f"{experiment.name}_")
    run = experiment._begin(run_id=f"OfflineRun_{suffix}", outputs=None, kind=_OfflineRun, whole=True)
    told = mode.mode()
    if told != mode.DISABLED:
        where = run.get_portal_url() if told == mode.ONLINE else run.id
        say(f"this script was not submitted: it logs to a run of its own, {where}", once="own run")
    return run


def _name_of_script() -> str:
    """A name for an experiment: that of the script."""
    path = getattr(sys.modules.get("__main__"), "__file__", None) or ""
    stem = re.sub(r"[^\w\-]", "-", os.path.splitext(os.path.basename(path))[0], flags=re.ASCII).strip("-_")
    return stem[:255] if values.is_text(stem, 10_000) else "interactive"
