"""The run of a submitted script, as the process that submitted it, and others, see it."""

import json
import sys
import time
from codecs import getincrementaldecoder
from collections.abc import Mapping
from typing import Any, Final

from runstream.core import changes, exit, reads
from runstream.core.experiment import Experiment
from runstream.core.logs import LogFollower
from runstream.core.notices import say
from runstream.core.record import FINAL, RunRecord
from runstream.core.run import Run
from runstream.errors import UserError
from runstream.submit.job import Job, job_of

_LOOK_S: Final = 0.05
_END_S: Final = 20.0  # for what a supervisor does after the script is gone


class ScriptRun(Run):
    """A submitted run. Its supervisor says how it ends.

    Where its folder is on this machine it can be followed and ended without a server.
    """

    RUN_TYPE = "azureml.scriptrun"

    @classmethod
    def _of_job(cls, experiment: Experiment, told: dict[str, Any]) -> "ScriptRun":
        """A run that this process has just submitted."""
        run = cls(experiment, told["run"])
        facts = run._state.facts
        facts.whole = True
        facts.run_type = cls.RUN_TYPE
        facts.parent = told["parent"]
        facts.display_name = told["display_name"]
        facts.tags = dict(told["tags"])
        facts.properties = dict(told["properties"])
        facts.started_ns = told["time_ns"]
        run._known()
        reads.submitted(run._state.target)
        return run

    # ------------------------------------------------------------------------------------ state

    def get_status(self) -> str:
        """Status of the run, as the server has it; without one as its supervisor on this machine has it."""
        said = self._known()
        status = super().get_status()
        if said in FINAL and status not in FINAL:
            reads.wait_for_others(self._experiment.workspace)
            status = super().get_status()
            return status if status in FINAL else said
        return status

    def _record(self, *, fresh: bool = False) -> RunRecord:
        self._known()
        return super()._record(fresh=fresh)

    def _definition(self, run: RunRecord) -> Any:
        job = self._job()
        if run.system or job is None:
            return super()._definition(run)
        return json.loads(job.read("job.json")["definition"])  # no server has been asked

    def _job(self) -> Job | None:
        return job_of(self._experiment.workspace.name, self.id)

    def _known(self) -> str:
        """What the supervisor says, if that can be seen from here; it stands in for the server's word."""
        job = self._job()
        if job is None:
            return ""
        status = job.status()
        state, facts = job.read("state.json"), self._state.facts
        facts.status = status
        if status in FINAL:
            facts.ended_ns = int(state.get("ended_ns") or state.get("time_ns") or 0)
            facts.error_message = str(state.get("error_message") or "")
            facts.error_code = str(state.get("error_code") or "")
            if status == "Failed" and not facts.error_message:
                facts.error_message = "its supervisor was killed"
        return status

    # -------------------------------------------------------------------------------------- end

    def cancel(self) -> None:
        """End the run: the script's process group gets SIGTERM, and after a grace SIGKILL.

        Returns when it has ended, if it was submitted from here. Else the server is asked, and the status is
        CancelRequested until the run's processes are gone; raises ServiceError then when none answers.
        """
        if self._state.submitted:
            super().cancel()
        elif not self._end_job("Canceled", "", ""):
            changes.cancel(self._experiment.workspace, self._state)

    def fail(self, error_details: str | BaseException | None = None, error_code: str | None = None) -> None:
        """End the run as failed, and its processes. Raises UserError when its folder is not here."""
        if self._state.submitted:
            super().fail(error_details, error_code)
            return
        if isinstance(error_details, BaseException):
            message = exit.describe(type(error_details), error_details, error_details.__traceback__)
        elif error_details is None or isinstance(error_details, str):
            message = error_details or ""
        else:
            raise TypeError(f"error_details is a text or an exception, not {type(error_details).__name__}")
        if not self._end_job("Failed", message, "UserError" if error_code is None else str(error_code)):
            raise UserError(f"run {self.id} was not submitted from here: cancel() ends it from elsewhere")

    def _end_job(self, status: str, message: str, code: str) -> bool:
        """Have the supervisor end it. False when the run's folder is not here."""
        job = self._job()
        if job is None:
            return False
        if job.status() in FINAL:
            say(f"run {self.id} is over: {job.status()}")
            return True
        from runstream.submit.submission import executor_of

        told = job.read("job.json")
        if executor_of(told["target"]).withdraw(job):
            self._end_withdrawn(job, told, status, message, code)
            return True
        job.ask(status, message, code)
        deadline = time.monotonic() + float(told.get("grace_s") or 0) + _END_S
        while job.status() not in FINAL and time.monotonic() < deadline:
            time.sleep(_LOOK_S)
        self._state.record = None
        return True

    def _end_withdrawn(self, job: Job, told: dict[str, Any], status: str, message: str, code: str) -> None:
        """It never began, so nobody else can say of it that it is over."""
        run = self._experiment._begin(
            run_id=self.id,
            outputs=False,
            tags=told["tags"],
            parent=told["parent"],
            run_type=self.RUN_TYPE,
            display_name=told["display_name"] or None,
        )
        run._end(status, message, code)
        job.set_state(status, ended_ns=time.time_ns(), error_message=message, error_code=code)

    # ---------------------------------------------------------------------------------- waiting

    def wait_for_completion(
        self,
        show_output: bool = False,
        wait_post_processing: bool = False,
        raise_on_error: bool = True,
    ) -> dict[str, Any]:
        """See `Run.wait_for_completion`. It also waits for the outputs to be collected."""
        if self._state.silent:
            while (self._known() or "Canceled") not in FINAL:
                time.sleep(_LOOK_S)
        return super().wait_for_completion(show_output, True, raise_on_error)

    def _follower(self) -> LogFollower:
        job = self._job()
        return LogFollower(self) if job is None or not job.log(0).parent.exists() else JobFollower(self, job)


class JobFollower(LogFollower):
    """Prints what a script on this machine prints, as it is written."""

    def __init__(self, run: ScriptRun, job: Job) -> None:
        super().__init__(run)
        self._job = job
        self._offset = 0
        self._named = False
        self._decoder = getincrementaldecoder("utf-8")("replace")  # a character may be cut

    def _show(self) -> None:
        with open(self._job.log(0), "rb") as file:  # OSError: it is still being prepared
            file.seek(self._offset)
            data = file.read()
        if not self._named:
            self._named = True
            title = "Streaming user_logs/std_log.txt"
            print(f"{title}\n{'=' * len(title)}\n", flush=True)
        self._offset += len(data)
        sys.stdout.write(self._decoder.decode(data))
        sys.stdout.flush()


def submitted(
    experiment: Experiment,
    config: object,
    tags: Mapping[str, object] | None,
    run_id: str | None,
    display_name: str | None,
    parent: str = "",
) -> ScriptRun:
    """Submit a script. See `Experiment.submit`."""
    from runstream.core import values
    from runstream.core.script_run_config import ScriptRunConfig
    from runstream.submit import submission

    if not isinstance(config, ScriptRunConfig):
        raise UserError(f"submit takes a ScriptRunConfig, not {config!r:.100}")
    texts = {} if tags is None else values.texts_by_key("tags", tags)
    name = values.run_name(display_name)
    chosen = submission.run_id_for(experiment.name) if run_id is None else submission.checked_id(run_id)
    _, told = submission.submit(
        experiment,
        chosen,
        config,
        tags=texts,
        parent=parent,
        display_name=name,
    )
    return ScriptRun._of_job(experiment, told)
