"""The folder that a run was made from, kept with it."""

import os
import tempfile
from pathlib import Path

from runstream.core import keeping
from runstream.core.attributes import RunAttributes
from runstream.core.files import RunFiles
from runstream.errors import SnapshotError, UserError

_PROPERTY = "ContentSnapshotId"


class RunSnapshots(RunFiles, RunAttributes):
    """Keeps a folder with the run, and gives it back. A submitted run has the folder that was submitted."""

    def take_snapshot(self, file_or_folder_path: str | os.PathLike[str]) -> str:
        """Keep a folder, without what its `.amlignore`, else `.gitignore`, leaves out. Returns its id.

        Raises SnapshotError when the run has a snapshot, or the folder is missing or too large.
        """
        from runstream.submit import snapshot

        known = self._known_properties().get(_PROPERTY)
        if known:
            raise SnapshotError(f"run {self.id} has a snapshot, {known}: a run has one")
        with tempfile.TemporaryDirectory(prefix="runstream-snapshot-") as folder:
            made = snapshot.take(file_or_folder_path, Path(folder) / "snapshot.zip")
            keeping.keep_path(self._state, snapshot.name_of(made.id), made.path)
        self.add_properties({_PROPERTY: made.id})
        return made.id

    def get_snapshot_id(self) -> str:
        """Id of the run's snapshot. Raises SnapshotError when it has none."""
        found = self._state.facts.properties.get(_PROPERTY) or self.get_properties().get(_PROPERTY)
        if not found:
            raise SnapshotError(f"run {self.id} has no snapshot: take_snapshot keeps one")
        return found

    def restore_snapshot(
        self, snapshot_id: str | None = None, path: str | os.PathLike[str] | None = None
    ) -> str:
        """Write the snapshot to `<id>.zip` in a folder (default: a temporary one). Returns its absolute path.

        Raises SnapshotError when the run has no such snapshot, ServiceError when the server can't be asked.
        """
        from runstream.submit import snapshot

        wanted = snapshot_id if snapshot_id is not None else self.get_snapshot_id()
        if not wanted.isalnum():
            raise SnapshotError(f"{wanted!r:.100} is no id of a snapshot")
        folder = Path(path) if path is not None else Path(tempfile.mkdtemp(prefix="runstream-snapshot-"))
        folder.mkdir(parents=True, exist_ok=True)
        target = (folder / f"{wanted}.zip").absolute()
        try:
            self.download_file(snapshot.name_of(wanted), target)
        except UserError:
            raise SnapshotError(f"run {self.id} has no snapshot {wanted}") from None
        return str(target)
