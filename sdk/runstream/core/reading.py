"""What the server has of a run."""

from typing import Any

from runstream.core import reads, values
from runstream.core.handle import RunHandle
from runstream.errors import UserError


class RunReading(RunHandle):
    """Reads a run back. What this process has logged to it is included."""

    def get_metrics(
        self,
        name: str | None = None,
        recursive: bool = False,
        run_type: str | None = None,
        populate: bool = False,
        *,
        rank: int | None = None,
    ) -> dict[str, Any]:
        """What was logged, by name: a value, a list of them, or a dictionary of columns.

        Includes all that this process has logged before. One value is given as it is; more are a list, in
        order of step if all have one, else of time. `rank` selects what one rank logged. With `recursive` the
        result is by run id, and runs without metrics are left out.

        `run_type` and `populate` are accepted for scripts that give them.

        Raises UserError for arguments of wrong types, NotFoundError for a run that the server doesn't know,
        ServiceError when the server can't be asked.
        """
        if name is not None:
            name = values.metric_name(name)
        if rank is not None and (type(rank) is not int or rank < 0):
            raise UserError(f"a rank is a number from 0, not {rank!r}")
        ranks = () if rank is None else (rank,)
        found = reads.get_metrics(self._experiment.workspace, self._state, name, ranks)
        if recursive:
            return {self.id: found} if found else {}
        return found

    def get_status(self) -> str:
        """Status of the run, such as Running or Completed. Without a server it is what this process knows."""
        return reads.get_status(self._experiment.workspace, self._state)

    def get_portal_url(self) -> str:
        """Address of the run's page. Made without asking a server."""
        return reads.portal_url(self._experiment.workspace, self._state.id)
