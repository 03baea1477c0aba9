"""Shows a run to others."""

from typing import TYPE_CHECKING

from runstream.core import reads
from runstream.core.handle import RunHandle

if TYPE_CHECKING:
    from datetime import timedelta

    from runstream.core.share import Share


class RunSharing(RunHandle):
    """Shares a run. Each asks the server, and raises ServiceError when it doesn't answer."""

    def share(self, expires: "timedelta | float | None" = None, note: str = "") -> "Share":
        """Make a link that shows the run to whoever has it, without signing in and only to read.

        :param expires: how long it is good, as a timedelta or in seconds: at least a second, at most a year.
            Default: 7 days.
        :param note: for people who look at the list of links.

        Raises UserError for another time.
        """
        from runstream.core.share import Share, seconds_of

        seconds = seconds_of(expires)
        workspace = self._experiment.workspace
        reads.flushed(self._state.target)
        made = reads.client(workspace).share_runs(workspace.name, [self.id], expires_s=seconds, note=note)
        reads.wait_for(workspace.target, made.positions)
        return Share.of(workspace, made.share, made.url)

    def get_shares(self) -> "list[Share]":
        """The links that show this run and have not ended, the newest first; without their addresses."""
        from runstream.core.share import Share

        workspace = self._experiment.workspace
        return [
            Share.of(workspace, found)
            for found in reads.client(workspace).list_shares(workspace.name)
            if any(run.run == self.id for run in found.scope.runs)
        ]
