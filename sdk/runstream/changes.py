"""Changes: the run service over HTTP, in the Connect protocol. `Client` has these methods.

Each returns the log positions that a read must wait for to see the change. A call that is repeated, since its
connection broke, counts once.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from runstream.v1.run_pb2 import LogPosition
    from runstream.v1.run_service_pb2 import Share, ShareRunResponse

_SERVICE: Final = "/runstream.v1.RunService/"


class Changes:
    """What people change about runs and experiments.

    All raise NotFoundError for a run that the server doesn't know, and UserError for what it refuses.
    """

    def _call(self, path: str, request: Message, response: type[Any], wait_s: float = 0.0) -> Any:
        """See `Client`."""
        raise NotImplementedError

    def set_tags(
        self, workspace: str, runs: Iterable[str], tags: Mapping[str, str | None]
    ) -> list[LogPosition]:
        """Sets tags of runs; a value may be None."""
        from runstream.v1 import run_service_pb2 as messages

        request = messages.SetTagsRequest(request_id=_new_id())
        for run in runs:
            request.runs.add(workspace=workspace, run=run)
        for key, value in tags.items():
            request.tags.add(key=key, value=value)
        return self._change("SetTags", request, messages.SetTagsResponse)

    def remove_tags(self, workspace: str, runs: Iterable[str], keys: Iterable[str]) -> list[LogPosition]:
        """Removes tags of runs."""
        from runstream.v1 import run_service_pb2 as messages

        request = messages.RemoveTagsRequest(keys=keys, request_id=_new_id())
        for run in runs:
            request.runs.add(workspace=workspace, run=run)
        return self._change("RemoveTags", request, messages.RemoveTagsResponse)

    def archive_runs(self, workspace: str, runs: Iterable[str]) -> list[LogPosition]:
        """Hides runs from searches that don't ask for them."""
        from runstream.v1 import run_service_pb2 as messages

        request = messages.ArchiveRunsRequest(request_id=_new_id())
        for run in runs:
            request.runs.add(workspace=workspace, run=run)
        return self._change("ArchiveRuns", request, messages.ArchiveRunsResponse)

    def restore_runs(self, workspace: str, runs: Iterable[str]) -> list[LogPosition]:
        """Takes runs out of the archive."""
        from runstream.v1 import run_service_pb2 as messages

        request = messages.RestoreRunsRequest(request_id=_new_id())
        for run in runs:
            request.runs.add(workspace=workspace, run=run)
        return self._change("RestoreRuns", request, messages.RestoreRunsResponse)

    def delete_runs(self, workspace: str, runs: Iterable[str]) -> list[LogPosition]:
        """Removes runs for good from all reads. One that lives is refused."""
        from runstream.v1 import run_service_pb2 as messages

        request = messages.DeleteRunsRequest(request_id=_new_id())
        for run in runs:
            request.runs.add(workspace=workspace, run=run)
        return self._change("DeleteRuns", request, messages.DeleteRunsResponse)

    def cancel_run(self, workspace: str, run: str, reason: str = "") -> list[LogPosition]:
        """Asks for the end of a run. One that is over is refused."""
        from runstream.v1 import point_pb2
        from runstream.v1 import run_service_pb2 as messages

        request = messages.CancelRunRequest(
            run=point_pb2.RunRef(workspace=workspace, run=run), reason=reason, request_id=_new_id()
        )
        return self._change("CancelRun", request, messages.CancelRunResponse)

    def update_experiment(
        self,
        workspace: str,
        experiment: str,
        *,
        set_tags: Mapping[str, str | None] | None = None,
        remove_tags: Iterable[str] = (),
        description: str | None = None,
        archived: bool | None = None,
    ) -> list[LogPosition]:
        """Changes what is said about an experiment. What is None stays."""
        from runstream.v1 import run_service_pb2 as messages

        request = messages.UpdateExperimentRequest(
            workspace=workspace,
            experiment=experiment,
            remove_tags=remove_tags,
            description=description,
            archived=archived,
            request_id=_new_id(),
        )
        for key, value in (set_tags or {}).items():
            request.set_tags.add(key=key, value=value)
        return self._change("UpdateExperiment", request, messages.UpdateExperimentResponse)

    def share_runs(
        self, workspace: str, runs: Iterable[str], *, expires_s: int = 0, note: str = ""
    ) -> ShareRunResponse:
        """Makes a link that shows runs to whoever has it. 0 seconds are the server's default: 7 days."""
        from runstream.v1 import run_service_pb2 as messages

        request = messages.ShareRunRequest(workspace=workspace, expires_s=expires_s, note=note)
        for run in runs:
            request.scope.runs.add(workspace=workspace, run=run)
        made: ShareRunResponse = self._call(_SERVICE + "ShareRun", request, messages.ShareRunResponse)
        return made

    def list_shares(self, workspace: str) -> list[Share]:
        """Links that have not ended, the newest first."""
        from runstream.v1 import run_service_pb2 as messages

        request = messages.ListSharesRequest(workspace=workspace)
        return list(self._call(_SERVICE + "ListShares", request, messages.ListSharesResponse).shares)

    def revoke_share(self, workspace: str, share: bytes) -> list[LogPosition]:
        """Ends a link."""
        from runstream.v1 import run_service_pb2 as messages

        request = messages.RevokeShareRequest(workspace=workspace, share=share)
        return self._change("RevokeShare", request, messages.RevokeShareResponse)

    def _change(self, method: str, request: Message, response: type[Any]) -> list[LogPosition]:
        return list(self._call(_SERVICE + method, request, response).positions)


def _new_id() -> str:
    return os.urandom(16).hex()
