"""What is asked of the server: to cancel, archive and delete runs; what it keeps of experiments.

Each is durable in the server's log when it returns, and this process's next read sees it.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from runstream.core import reads
from runstream.core.state import RunState
from runstream.core.workspace import Workspace
from runstream.errors import NotFoundError

if TYPE_CHECKING:
    from runstream.client import ArchiveView
    from runstream.v1.query_service_pb2 import Experiment


# ----------------------------------------------------------------------------------------- runs


def cancel(workspace: Workspace, state: RunState) -> None:
    """Ask for the end of a run. Raises ServiceError when it is over, or no server answers."""
    reads.flushed(state.target)
    _changed(state, reads.client(workspace).cancel_run(workspace.name, state.id))


def archive(workspace: Workspace, state: RunState) -> None:
    """Hide a run."""
    reads.flushed(state.target)
    _changed(state, reads.client(workspace).archive_runs(workspace.name, [state.id]))


def restore(workspace: Workspace, state: RunState) -> None:
    """Show a run again."""
    reads.flushed(state.target)
    _changed(state, reads.client(workspace).restore_runs(workspace.name, [state.id]))


def delete(workspace: Workspace, state: RunState) -> None:
    """Remove a run."""
    reads.flushed(state.target)
    _changed(state, reads.client(workspace).delete_runs(workspace.name, [state.id]))


def _changed(state: RunState, positions: Iterable[Any]) -> None:
    reads.wait_for(state.target, positions)
    state.record = None


# ---------------------------------------------------------------------------------- experiments


def experiments(workspace: Workspace, archive: "ArchiveView" = "all") -> "Iterable[Experiment]":
    """Those of a workspace, the last active first."""
    positions, http = reads.arrived(workspace)
    return reads.client(workspace, http).list_experiments(
        workspace.name, archive=archive, positions=positions, all_events=True
    )


def experiment(workspace: Workspace, name: str) -> "Experiment":
    """What the server has of an experiment. Raises NotFoundError."""
    for found in experiments(workspace):
        if found.name == name:
            return found
    raise NotFoundError(
        f"workspace {workspace.name!r} has no experiment {name!r} yet: it begins with its first run"
    )


def update_experiment(
    workspace: Workspace,
    name: str,
    *,
    set_tags: Mapping[str, str | None] | None = None,
    remove_tags: Iterable[str] = (),
    archived: bool | None = None,
) -> None:
    """Change what the server keeps of an experiment."""
    positions = reads.client(workspace).update_experiment(
        workspace.name, name, set_tags=set_tags, remove_tags=remove_tags, archived=archived
    )
    reads.wait_for(workspace.target, positions)
