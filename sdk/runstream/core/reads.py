"""Reads of runs, from the process that may have logged to them: what it logged is included.

Never over gRPC, because the training process may fork; `runstream.client` speaks HTTP. Where no server
answers, what this process knows of its own runs is the answer; where it knows nothing, that is an error.
"""

import atexit
import os
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import quote

from runstream import home
from runstream.capture.system import PREFIX as SYSTEM_PREFIX
from runstream.core import delivery
from runstream.core.attempts import Attempt, attempts_of
from runstream.core.metrics import shapes
from runstream.core.mode import OFFLINE, ONLINE, is_offline, mode, offline_root
from runstream.core.record import FINAL, RunRecord, record_of, record_of_facts, status_of
from runstream.core.state import RunState
from runstream.core.workspace import Workspace
from runstream.errors import (
    AuthenticationError,
    DeadlineError,
    NotFoundError,
    ServiceError,
    ServiceUnavailableError,
)
from runstream.spool import process
from runstream.spool.listing import find_writers
from runstream.spool.writer import Target

if TYPE_CHECKING:
    from runstream.client import Client
    from runstream.verification import Verification

T = TypeVar("T")

_WAIT_S: Final = 30.0
_RUNS_AT_ONCE: Final = 10_000  # as many as one request may name
_OTHERS_S: Final = 5.0

# What reads of a target must wait for beside what was logged: changes that the server has made for us.
_changes: dict[Target, dict[tuple[str, int, bytes], Any]] = {}
_submitted: set[Target] = set()  # to which a script was submitted that may not have arrived
_clients: dict[tuple[int, str, str | None], "Client"] = {}


# ------------------------------------------------------------------------------------- metrics


def get_metrics(
    workspace: Workspace, state: RunState, name: str | None, ranks: tuple[int, ...] = (), attempt: int = 0
) -> dict[str, Any]:
    """The run's metrics in the shapes of the compatible API."""
    if state.silent:
        return {}
    try:
        return get_metrics_of(workspace, state, [state.id], name, ranks, attempt).get(state.id, {})
    except NotFoundError:
        if not state.used:
            raise
        return {}  # it is known here; whatever was logged to it could not be kept, or was refused


def get_metrics_of(
    workspace: Workspace,
    state: RunState,
    runs: Sequence[str],
    name: str | None,
    ranks: tuple[int, ...] = (),
    attempt: int = 0,
) -> dict[str, dict[str, Any]]:
    """Metrics of several runs by run id, in the order given; runs without any are left out.

    :param attempt: of each run, from 1; 0 for what counts of all.
    """
    folders = _offline_folders(state.target)
    if folders and attempt:
        raise ServiceUnavailableError(f"attempts are counted by the server, and RUNSTREAM_MODE is {OFFLINE}")
    if folders:
        from runstream.unsent import unsent_series

        names = () if name is None else (name,)
        kept = unsent_series(folders, runs, names, ranks)
        return {run: shapes(of_run) for run in runs if (of_run := [s for s in kept if s.run == run])}
    from runstream.client import Selection

    positions, http = flushed(state.target)
    selection = Selection(metrics=() if name is None else (name,), ranks=ranks, attempt=attempt)
    by_run: dict[str, list[Any]] = {}
    for low in range(0, len(runs), _RUNS_AT_ONCE):
        part = runs[low : low + _RUNS_AT_ONCE]
        found = _delivered(
            workspace,
            state,
            lambda part=part: client(workspace, http).get_metrics(  # type: ignore[misc]
                workspace.name, part, selection, positions=positions, timeout_s=_WAIT_S
            ),
        )
        for series in found.series:
            if name is None and series.metric.startswith(SYSTEM_PREFIX):
                continue  # what was measured beside is given to who names it
            by_run.setdefault(series.run, []).append(series)
    return {run: shapes(by_run[run]) for run in runs if run in by_run}


def _offline_folders(target: Target) -> list[Path]:
    """Where everything is that was logged offline; empty when this process is not offline."""
    writer = process.writer_of(target)
    try:
        if writer is None:
            root = offline_root() if mode() == OFFLINE else None
        else:
            root = writer.folder.root if is_offline(writer.folder.root) else None
        return list(find_writers(root)) if root is not None else []
    except OSError:
        return []


def wait_for_others(workspace: Workspace) -> bool:
    """Wait a little for what other processes have logged on this machine. False when it did not arrive."""
    from runstream.sender.wait import wait_arrived

    server = _resolve(workspace)
    return server is not None and wait_arrived(server.grpc, _OTHERS_S)


def _delivered(workspace: Workspace, state: RunState, read: Callable[[], T]) -> T:
    """What is read of a run; of one that the server doesn't know, once what other processes of this user have
    logged on this machine has arrived: it may have been started by one of them a moment ago."""
    try:
        return read()
    except NotFoundError as error:
        if state.used:
            raise
        if wait_for_others(workspace):
            return read()
        try:
            return read()
        except NotFoundError:
            waits = "not all that was logged on this machine is delivered yet"
            raise NotFoundError(f"{error}; {waits}") from None


# ---------------------------------------------------------------------------------------- runs


def get_status(workspace: Workspace, state: RunState) -> str:
    """The run's status as the server has it; as this process knows it when it can't be asked."""
    if state.silent or (state.decides() and state.status in FINAL):
        return state.status or "NotStarted"
    try:
        changed = list(_changes.get(state.target, {}).values())
        run = _delivered(
            workspace,
            state,
            lambda: client(workspace).get_run(workspace.name, state.id, positions=changed),
        )
    except (ServiceError, AuthenticationError):
        if state.status is None:
            raise
        return state.status
    status = status_of(run)
    if status == "NotStarted" or (status == "NotResponding" and state.decides()):
        return state.status or status  # of this process we know better than a server that waits for its lease
    return status


def record(
    workspace: Workspace, state: RunState, *, fresh: bool = False, wait_s: float = _WAIT_S
) -> RunRecord:
    """The run as it is. Unless `fresh` it may be as old as the last reading."""
    if state.record is not None and not fresh:
        return state.record
    if state.silent:
        return record_of_facts(state.id, state.experiment, state.facts)
    try:
        positions, http = flushed(state.target, wait_s)
        run = client(workspace, http).get_run(workspace.name, state.id, positions=positions, timeout_s=wait_s)
    except (ServiceError, AuthenticationError):
        if not state.facts.whole:
            raise
        return record_of_facts(state.id, state.experiment, state.facts)
    found = record_of(run)
    if state.decides() and state.status in FINAL:
        found = found._replace(status=str(state.status))
    state.record = found
    return found


def attempts(workspace: Workspace, state: RunState) -> list[Attempt]:
    """The run's attempts, the first one first."""
    if state.silent:
        return []
    positions, http = flushed(state.target)
    run = _delivered(
        workspace,
        state,
        lambda: client(workspace, http).get_run(workspace.name, state.id, positions=positions),
    )
    return attempts_of(run)


def find(workspace: Workspace, run_id: str) -> RunRecord:
    """A run by its id. Raises NotFoundError."""
    return record_of(client(workspace).get_run(workspace.name, run_id))


def portal_url(workspace: Workspace, run_id: str) -> str:
    """Address of the run's page."""
    return f"{portal_base(workspace)}/w/{quote(workspace.name, safe='')}/r/{quote(run_id, safe='')}"


def portal_base(workspace: Workspace) -> str:
    """Address of the portal, without a slash at the end."""
    config = workspace.config
    base = os.environ.get("RUNSTREAM_PUBLIC_URL") or (config.public_url if config else None)
    if not base:
        target = _resolve(workspace)
        base = target.http if target else f"http://127.0.0.1:{home.DEFAULT_HTTP_PORT}"
    return base.rstrip("/")


def verify(workspace: Workspace, state: RunState, timeout_s: float) -> "Verification":
    """What became of all that was logged to the run."""
    from runstream import verification

    if state.silent or mode() != ONLINE:
        raise ServiceUnavailableError(f"RUNSTREAM_MODE is {mode()}: nothing is delivered")
    started = time.monotonic()
    http = None
    if process.writer_of(state.target) is not None:
        _, http, _ = delivery.flush(timeout_s, state.target)  # what is undelivered then is told
    local = verification.Local(delivery.spools(), workspace.name, state.id)
    left_s = max(timeout_s - (time.monotonic() - started), 0.0)
    return verification.verify(lambda: client(workspace, http), local, left_s)


# ------------------------------------------------------------------------------------- the way


def wait_for(target: Target, positions: Iterable[Any]) -> None:
    """Have the next reads of a target wait for these positions."""
    changed = _changes.setdefault(target, {})
    for position in positions:
        key = position.topic, position.partition, position.epoch
        if key not in changed or changed[key].offset < position.offset:
            changed[key] = position


def flushed(
    target: Target, wait_s: float = _WAIT_S, *, files: bool = False, logs: bool = False
) -> tuple[list[Any], str | None]:
    """Have delivered what this process has logged, with its files or logs if they are wished. Returns what
    the read must wait for, and where to read."""
    changed = list(_changes.get(target, {}).values())
    if process.writer_of(target) is None:
        return changed, None
    positions, http, problem = delivery.flush(wait_s, target, files=files, logs=logs)
    if problem is None:
        return [*changed, *positions], http
    detail = problem.get("detail") or problem.get("error")
    if delivery.key_refused(problem):
        raise AuthenticationError(
            "the server refuses the API key (RUNSTREAM_API_KEY, api_key_file); "
            f"what was logged is kept: {detail}"
        )
    if problem.get("error") == "timeout":
        raise DeadlineError(f"what was logged is not in the server's log after {wait_s:.0f} s: {detail}")
    advice = f". {delivery.ELSEWHERE.format('DIR')}" if target.server else ""
    raise ServiceUnavailableError(
        f"no server could be reached, so what was logged can't be read yet; it is kept. {detail}{advice}"
    )


def submitted(target: Target) -> None:
    """A process that this one has started logs to the target: lists are to have its run."""
    _submitted.add(target)


def arrived(workspace: Workspace) -> tuple[list[Any], str | None]:
    """As `flushed`, for lists of runs: what other processes have logged on this machine is delivered too.

    For runs that this process has submitted the wait is as long as for what it has logged itself, and they
    are not left out: DeadlineError. For others it is short.
    """
    target = workspace.target
    positions, http = flushed(target)
    server = _resolve(workspace) if mode() == ONLINE else None
    if server is not None:
        from runstream.sender.wait import wait_arrived

        own = target in _submitted
        deadline = time.monotonic() + (_WAIT_S if own else _OTHERS_S)
        roots = [root for root in map(Path, delivery.spools()) if not is_offline(root)]
        whole = [wait_arrived(server.grpc, deadline - time.monotonic(), root) for root in roots]
        if all(whole):
            _submitted.discard(target)
        elif own:
            raise DeadlineError(
                f"the run that was submitted is not in the log of the server at {server.grpc} yet; it is kept"
            )
    return positions, http


def _resolve(workspace: Workspace, http: str | None = None) -> home.Target | None:
    try:
        return home.resolve_server(workspace.target.server, config=workspace.config, told_http=http)
    except OSError:  # no folder for state: nothing can have been found there
        return None


def client(workspace: Workspace, http: str | None = None) -> "Client":
    """What asks the workspace's server, which said that it is read at `http`. Raises ServiceUnavailableError
    when none is known."""
    from runstream.client import Client

    if mode() != ONLINE:
        raise ServiceUnavailableError(f"RUNSTREAM_MODE is {mode()}: no server is asked")
    target = _resolve(workspace, http)
    url = target.http if target else http
    if url is None:
        raise ServiceUnavailableError(
            "no server is known: start one with `runstream up`, or name one in RUNSTREAM_SERVER"
        )
    key = os.getpid(), url, target.token if target else None
    found = _clients.get(key)
    if found is None:
        found = _clients.setdefault(key, Client(url, key[2], advice=target.advice() if target else ""))
        atexit.register(found.close)
    return found
