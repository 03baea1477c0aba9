"""What the server has of a run: its state, its details, its metrics."""

from typing import TYPE_CHECKING, Any

from runstream.core import reads, values
from runstream.core.artifact import populated
from runstream.core.attempts import Attempt, no_attempt
from runstream.core.handle import RunHandle
from runstream.core.record import FINAL, RunRecord, iso_time
from runstream.errors import NotFoundError, RunstreamError, UserError

if TYPE_CHECKING:
    from runstream.verification import Verification

_GLANCE_S = 2.0


class RunReading(RunHandle):
    """Reads a run back. What this process has logged to it is included.

    Without a server, the process that began a run still knows what it said of it itself. Else these raise
    ServiceUnavailableError, and NotFoundError for a run that the server doesn't know.
    """

    # ------------------------------------------------------------------------------------ state

    @property
    def number(self) -> int | None:
        """Number of the run in its experiment, from 1. None until a server has seen the run."""
        return self._record().number

    @property
    def type(self) -> str | None:
        """What kind of run it is: None for an interactive one, `azureml.scriptrun` for a submitted script."""
        facts = self._state.facts
        return (facts.run_type if facts.whole else self._record().run_type) or None

    @property
    def status(self) -> str:
        """The status as it was last read."""
        state = self._state
        if state.record is None and state.decides() and state.status is not None:
            return state.status
        return self._record().status

    def get_status(self) -> str:
        """Status of the run, such as Running or Completed. Without a server it is what this process knows."""
        return reads.get_status(self._experiment.workspace, self._state)

    def get_detailed_status(self) -> dict[str, str | None]:
        """The status, and a sentence about it: why the run failed, for example."""
        run = self._record(fresh=True)
        return {"status": run.status, "details": run.error_message or None}

    def get_details(self) -> dict[str, Any]:
        """State, times, properties and log files of the run, under the keys of the compatible API."""
        run = self._record(fresh=True)
        details: dict[str, Any] = {
            "runId": run.id,
            "target": run.system.get("target") or "local",
            "status": run.status,
            "startTimeUtc": iso_time(run.started_ns),
            "properties": dict(run.properties),
            "inputDatasets": [],
            "outputDatasets": [],
            "runDefinition": self._definition(run),
            "logFiles": self._log_files(),
            "submittedBy": run.system.get("user") or "",
        }
        if run.status in FINAL:
            details["endTimeUtc"] = iso_time(run.ended_ns)
        if run.error_message or run.error_code:
            error = {"code": run.error_code or "UserError", "message": run.error_message}
            details["error"] = {"error": error, "time": iso_time(run.ended_ns)}
        return details

    def _definition(self, run: RunRecord) -> Any:
        """How it was submitted; None for an interactive run."""
        import json

        try:
            return json.loads(run.system.get("run_definition") or "null")
        except ValueError:
            return None

    def _log_files(self) -> dict[str, str]:
        """Names of the logs, and where to get them."""
        return {}

    def _record(self, *, fresh: bool = False) -> RunRecord:
        return reads.record(self._experiment.workspace, self._state, fresh=fresh)

    def _glance(self) -> tuple[RunRecord | None, Exception | None]:
        """The run as far as it is known at once, for display, and why it could not be read. Never raises."""
        state = self._state
        if state.record is not None and state.record.status in FINAL:
            return state.record, None
        try:
            return reads.record(self._experiment.workspace, state, fresh=True, wait_s=_GLANCE_S), None
        except (RunstreamError, OSError) as error:
            return state.record, error

    # ---------------------------------------------------------------------------------- metrics

    def get_metrics(
        self,
        name: str | None = None,
        recursive: bool = False,
        run_type: str | None = None,
        populate: bool = False,
        *,
        rank: int | None = None,
        attempt: int | None = None,
    ) -> dict[str, Any]:
        """What was logged, by name: a value, a list of them, or a dictionary of columns.

        Includes all that this process has logged before. One value is given as it is; more are a list, in
        order of step if all have one, else of time. `rank` selects what one rank logged.

        Of a run that was launched more than once, each metric is what counts: of each rank the newest attempt
        from its first step on, and what older ones logged before that step. `attempt` selects all that one
        attempt logged, also what newer ones have superseded; `get_attempts` says which there are.

        With `recursive` the result is by run id, of the run and all below it, and runs without metrics are
        left out; `run_type` takes only runs of that type; attempts are counted in each run. Of images and the
        like the value is the file's address; with `populate` it is an `Artifact` with the file's bytes.

        Raises UserError for arguments of wrong types, NotFoundError for a run that the server doesn't know
        and for an attempt that it does not have, ServiceError when the server can't be asked.
        """
        if name is not None:
            name = values.metric_name(name)
        if rank is not None and (type(rank) is not int or rank < 0):
            raise UserError(f"a rank is a number from 0, not {rank!r}")
        if attempt is not None and (type(attempt) is not int or not 0 < attempt < 2**32):
            raise UserError(f"an attempt is a number from 1, not {attempt!r:.100}")
        if run_type is not None and not isinstance(run_type, str):
            raise UserError(f"run_type is a text, not {run_type!r:.100}")
        ranks = () if rank is None else (rank,)
        workspace, state = self._experiment.workspace, self._state
        if not recursive:
            found = reads.get_metrics(workspace, state, name, ranks, attempt or 0)
            self._check_attempt(attempt, found)
            return populated(workspace, found) if populate else found
        if state.silent:
            return {}
        from runstream.core.search import Family, Query, records_of

        ids = [] if run_type is not None and self.type != run_type else [self.id]
        below = Query(run_type=run_type, family=Family(self.id, True))
        ids += [found.id for found in records_of(workspace, below, state)]
        metrics = reads.get_metrics_of(workspace, state, ids, name, ranks, attempt or 0)
        if self.id in ids:
            self._check_attempt(attempt, metrics.get(self.id))
        return populated(workspace, metrics) if populate else metrics

    def get_attempts(self) -> list[Attempt]:
        """The attempts of the run, the first one first: each launch of it, by a launcher or by
        `start_logging(run_id=…)`, is one. Empty for a run that was never launched, only logged to by its id.

        Raises NotFoundError for a run that the server doesn't know, ServiceError when the server can't be
        asked.
        """
        return reads.attempts(self._experiment.workspace, self._state)

    def _check_attempt(self, attempt: int | None, found: object) -> None:
        """Tell an attempt that logged nothing from one that is not there."""
        if attempt is None or found or self._state.silent:
            return
        there = self.get_attempts()
        if all(attempt != one.number for one in there):
            raise NotFoundError(no_attempt(self.id, attempt, there))

    def verify(self, timeout_seconds: float = 30) -> "Verification":
        """Find out what became of all that was logged to the run, by every process: compares what is stored
        with what was logged, identity by identity.

        Waits at most `timeout_seconds` for what is on its way. The result is true when all that was logged is
        stored, prints as a report, and says of each process what is stored, in a spool, refused and why, or
        missing. Of a process that still logs on another machine it can only say that more may come.

        Raises NotFoundError for a run that is known neither here nor to the server, and ServiceError when the
        server can't be asked and nothing of the run is on this machine.
        """
        return reads.verify(self._experiment.workspace, self._state, timeout_seconds)

    def get_portal_url(self) -> str:
        """Address of the run's page. Made without asking a server."""
        return reads.portal_url(self._experiment.workspace, self._state.id)
