"""Which files may be read: all of a run, but of one that was deleted only those of models."""

from __future__ import annotations

from dataclasses import dataclass

from runstream_query.errors import NotFound
from runstream_query.models import ModelReader, Wanted
from runstream_query.runs import RunReader


@dataclass(frozen=True, slots=True)
class KeptFiles:
    """Looks whether runs were deleted."""

    runs: RunReader
    models: ModelReader

    async def check_run(self, workspace: str, run: str) -> None:
        """Checks that the files of a run may be listed.

        :raises NotFound: it was deleted.
        """
        await self.runs.check_kept(workspace, [run])

    async def check_file(self, workspace: str, run: str, path: str) -> None:
        """Checks that a file may be read: a model that was registered outlives its run.

        :raises NotFound: the run was deleted, and no model has the file.
        """
        try:
            await self.check_run(workspace, run)
        except NotFound:
            for model in await self.models.find(Wanted(workspace, run=run)):
                if path == model.path or path.startswith(model.path + "/"):
                    return
            raise
