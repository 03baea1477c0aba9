"""What the server keeps of a run, and whether it is shown."""

from runstream.core import changes
from runstream.core.handle import RunHandle


class RunStorage(RunHandle):
    """Archives and deletes a run. Each asks the server, and raises ServiceError when it doesn't answer."""

    def archive(self) -> None:
        """Hide the run from lists that don't ask for archived ones. Nothing else changes."""
        changes.archive(self._experiment.workspace, self._state)

    def reactivate(self) -> None:
        """Take the run out of the archive."""
        changes.restore(self._experiment.workspace, self._state)

    def delete(self) -> None:
        """Remove the run for good from all that is shown and read. One that lives is refused."""
        changes.delete(self._experiment.workspace, self._state)
