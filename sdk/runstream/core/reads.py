"""Reads of a run, from the process that may have logged to it: what it logged is included.

Never over gRPC, because the training process may fork; `runstream.client` speaks HTTP.
"""

import atexit
import os
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from runstream import home
from runstream.core import delivery
from runstream.core.metrics import shapes
from runstream.core.state import RunState
from runstream.core.workspace import Workspace
from runstream.errors import AuthenticationError, DeadlineError, ServiceError, ServiceUnavailableError
from runstream.spool import process

if TYPE_CHECKING:
    from runstream.client import Client

_WAIT_S: Final = 30.0
_FINAL: Final = ("Completed", "Failed", "Canceled")

_clients: dict[tuple[int, str, str | None], "Client"] = {}


def get_metrics(
    workspace: Workspace, state: RunState, name: str | None, ranks: tuple[int, ...] = ()
) -> dict[str, Any]:
    """The run's metrics in the shapes of the compatible API."""
    from runstream.client import Selection

    positions, http = _flushed(state)
    client = _client(workspace, http)
    selection = Selection(metrics=() if name is None else (name,), ranks=ranks)
    found = client.get_metrics(workspace.name, [state.id], selection, positions=positions, timeout_s=_WAIT_S)
    if not found.series and not state.used:
        client.get_run(workspace.name, state.id)  # an unknown run is an error, not an empty one
    return shapes(found.series)


def get_status(workspace: Workspace, state: RunState) -> str:
    """The run's status as the server has it; as this process knows it when it can't be asked."""
    if state.decides() and state.status in _FINAL:
        return str(state.status)
    try:
        run = _client(workspace, None).get_run(workspace.name, state.id)
        enum = run.DESCRIPTOR.fields_by_name["status"].enum_type
        status = _status_name(enum.values_by_number[run.status].name if enum else "")
    except (ServiceError, AuthenticationError):
        if state.status is None:
            raise
        return state.status
    if status == "Unspecified":
        return state.status or "NotStarted"
    return status


def portal_url(workspace: Workspace, run_id: str) -> str:
    """Address of the run's page."""
    config = workspace.config
    base = os.environ.get("RUNSTREAM_PUBLIC_URL") or (config.public_url if config else None)
    if not base:
        target = _resolve(workspace)
        base = target.http if target else f"http://127.0.0.1:{home.DEFAULT_HTTP_PORT}"
    return f"{base.rstrip('/')}/w/{quote(workspace.name, safe='')}/r/{quote(run_id, safe='')}"


def _flushed(state: RunState) -> tuple[list[dict[str, Any]], str | None]:
    """Have delivered what this process has logged. Returns what the read must wait for, and where to read."""
    if process.writer_of(state.target) is None:
        return [], None
    positions, http, problem = delivery.flush(_WAIT_S, state.target)
    if problem is None:
        return positions, http
    detail = problem.get("detail") or problem.get("error")
    if delivery.key_refused(problem):
        raise AuthenticationError(
            "the server refuses the API key (RUNSTREAM_API_KEY, api_key_file); "
            f"what was logged is kept: {detail}"
        )
    if problem.get("error") == "timeout":
        raise DeadlineError(f"what was logged is not in the server's log after {_WAIT_S:.0f} s: {detail}")
    raise ServiceUnavailableError(
        f"no server could be reached, so what was logged can't be read yet; it is kept: {detail}"
    )


def _resolve(workspace: Workspace) -> home.Target | None:
    try:
        return home.resolve_server(workspace.target.server, config=workspace.config)
    except OSError:  # no folder for state: nothing can have been found there
        return None


def _client(workspace: Workspace, http: str | None) -> "Client":
    from runstream.client import Client

    target = _resolve(workspace)
    url = http or (target.http if target else None)
    if url is None:
        raise ServiceUnavailableError(
            "no server is known: start one with `runstream up`, or name one in RUNSTREAM_SERVER"
        )
    key = os.getpid(), url, target.token if target else None
    client = _clients.get(key)
    if client is None:
        client = _clients.setdefault(key, Client(url, key[2]))
        atexit.register(client.close)
    return client


def _status_name(name: str) -> str:
    """RUN_STATUS_NOT_RESPONDING → NotResponding."""
    return "".join(part.capitalize() for part in name.removeprefix("RUN_STATUS_").split("_"))
