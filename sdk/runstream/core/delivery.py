"""Between a script and its sender: who delivers, what is waited for, what the person is told.

Whatever goes wrong here is no reason for a script to fail: it is told in one line, and the spool keeps the
records.
"""

import os
import sys
import time
from pathlib import Path
from typing import Any, Final

from runstream import __version__, home
from runstream.capture.itself import self_description
from runstream.core.mode import is_offline
from runstream.core.notices import say, was_said
from runstream.core.sizes import size_in_bytes
from runstream.spool import process
from runstream.spool.folder import spool_root
from runstream.spool.writer import DEFAULT_CAP, Origin, Target, Writer

_NUDGE_NS: Final = 10_000_000_000
_SHORT_WAIT_S: Final = 2.0
_LONG_WAIT_S: Final = 60.0
_BETWEEN_WAITS_S: Final = 1.0
_SENDER_START_S: Final = 15.0
ELSEWHERE: Final = (
    "set RUNSTREAM_SERVER to the gRPC port of the right one (7300 unless it was changed), "
    "and `runstream sync --delete --server HOST:PORT {}` delivers this there"
)

_last_nudge_ns = 0
_no_wait_before = float("-inf")


# ------------------------------------------------------------------------------------- targets


def target_for(workspace: str, config: home.ClientConfig | None) -> Target:
    """Where a workspace's records go: RUNSTREAM_SERVER, else its configuration, else what is found later."""
    server = os.environ.get("RUNSTREAM_SERVER") or (config.server if config else None)
    key = os.environ.get("RUNSTREAM_API_KEY") or _read_key(config.api_key_file if config else None)
    address = home.normal_address(server) if server else None
    return Target(workspace, address, key or None, _cap_bytes())


def _read_key(path: str | None) -> str | None:
    if not path:
        return None
    try:
        with open(path, encoding="utf-8") as file:
            return file.read(10_000).strip()
    except (OSError, ValueError) as error:
        say(f"the API key file can't be read: {error}", once="key file")
        return None


def _cap_bytes() -> int:
    return size_in_bytes(os.environ.get("RUNSTREAM_SPOOL_CAP", ""), DEFAULT_CAP, "RUNSTREAM_SPOOL_CAP")


def drains() -> bool:
    """Whether disk or process tree end with this job, so that what is left behind is lost."""
    told = os.environ.get("RUNSTREAM_DRAIN")
    if told is not None and told != "":
        return told != "0"
    return os.getpid() == 1 or any(name in os.environ for name in ("SLURM_JOB_ID", "KUBERNETES_SERVICE_HOST"))


def _may_be_interrupted() -> bool:
    """Whether a request to cancel may end this process as Ctrl-C would: RUNSTREAM_INTERRUPT.

    Not a submitted script, whose launcher ends it.
    """
    told = os.environ.get("RUNSTREAM_INTERRUPT")
    return told != "0" if told else "RUNSTREAM_RUN_ID" not in os.environ


def origin() -> Origin:
    """What a new writer says about this process."""
    from runstream.context.ranks import read_ranks

    ranks = read_ranks(os.environ)
    return Origin(None, *ranks, drains(), __version__, _may_be_interrupted(), self_description())


def attend(writer: Writer) -> None:
    """Have a new writer's troubles told, and its records delivered."""
    writer.on_trouble = _tell_trouble
    writer.on_segment = nudge_sender


def _tell_trouble(writer: Writer, error: OSError | None) -> None:
    if error is None:
        say(
            f"the spool {writer.folder.path} has reached its cap of {writer.target.cap_bytes:,} bytes "
            "(RUNSTREAM_SPOOL_CAP): training goes on, what can't be kept is dropped and counted",
            once="spool full",
        )
    else:
        say(
            f"the spool {writer.folder.path} can't be written ({error.strerror or error}): "
            "training goes on, what can't be kept is dropped and counted",
            once="spool full",
        )


# -------------------------------------------------------------------------------------- sender


def nudge_sender(*, now: bool = False) -> None:
    """See that a sender is there. Looks at most every ten seconds, unless `now`; never for offline spools."""
    global _last_nudge_ns
    clock = time.monotonic_ns()
    if not now and _last_nudge_ns and clock - _last_nudge_ns < _NUDGE_NS:
        return
    _last_nudge_ns = clock
    for root in _roots():
        if is_offline(Path(root)):
            continue
        try:
            from runstream.sender.start import ensure_sender

            ensure_sender(root)
        except Exception as error:
            say(f"no sender could be started, records stay in {root}: {error!r}", once="no sender")


def _roots() -> list[str]:
    return sorted({str(writer.folder.root) for writer in process.writers()})


def spools() -> list[str]:
    """Roots of the spools that may hold something of this user on this machine."""
    roots = _roots()
    try:
        roots.append(str(spool_root()))
    except OSError:  # there is no place for one
        pass
    return sorted(set(roots))


def ask_flush(writer: Writer, timeout_s: float, *, files: bool = False, logs: bool = False) -> dict[str, Any]:
    """Have everything delivered that the writer holds now, and wait for it. Never raises.

    Returns the sender's answer, or one like it when there is none.
    """
    request = {
        "op": "flush",
        "writer": writer.id.hex(),
        "seq_end": writer.seq_end,
        "logs": logs,
        "timeout_ms": max(1, int(timeout_s * 1000)),
        "files": files,
    }
    try:
        from runstream.sender.ask import ask

        return dict(ask(str(writer.folder.root), request, timeout_s + 1.0))
    except Exception as error:
        return {"ok": False, "error": "no_sender", "detail": repr(error)}


def flush(
    timeout_s: float, target: Target | None = None, *, files: bool = False, logs: bool = False
) -> tuple[list[dict[str, Any]], str | None, dict[str, Any] | None]:
    """Have everything delivered that this process has logged, or has logged for one target; also its files,
    and what it has printed, if that is wished.

    Returns the log positions that hold it, the server's HTTP address if the sender knows it, and the first
    answer of a sender that could not do it.
    """
    nudge_sender(now=True)
    start = time.monotonic()
    deadline = start + timeout_s
    patience = start + min(timeout_s, _SENDER_START_S)
    positions: list[dict[str, Any]] = []
    http: str | None = None
    for writer in process.writers():
        if target is not None and writer.target != target:
            continue
        if is_offline(writer.folder.root):
            return positions, http, {"ok": False, "error": "offline", "detail": "RUNSTREAM_MODE is offline"}
        while True:
            answer = ask_flush(writer, max(0.0, deadline - time.monotonic()), files=files, logs=logs)
            if answer.get("error") not in ("no_sender", "unknown_writer") or time.monotonic() > patience:
                break
            time.sleep(0.02)  # the sender is only just starting, or hasn't seen the folder yet
        if not answer.get("ok"):
            return positions, http, answer
        positions += answer.get("positions", [])
        http = answer.get("http") or http
    return positions, http, None


# --------------------------------------------------------------------------------------- drain


def drain_at_complete() -> None:
    """Wait a while for the delivery of what a run has logged.

    A sweep doesn't wait at the end of each of its runs: for a second after a wait, and for ten times as long
    as that took, the delivery is left to a later one, or to the exit of the process. What is left a script
    says when it exits, in one line for all its runs; a notebook, which doesn't exit, says it here.
    """
    if time.monotonic() >= _no_wait_before:
        problem = _drain()
        if problem is None:
            _tell_server()
        elif hasattr(sys, "ps1"):
            tell_undelivered(problem)


def drain_at_exit() -> None:
    """Wait a while for the delivery of everything, and say what is left. Ctrl-C ends the wait."""
    try:
        problem = _drain()
    except KeyboardInterrupt:
        problem = {"error": "timeout"}
    if problem is not None:
        tell_undelivered(problem)
    else:
        _tell_server()


def _tell_server() -> None:
    """Say where the server is, if it was started by itself and nobody was told yet."""
    try:
        found = home.read_discovery()
        untold = found is not None and found.autostarted and home.tell_start_of(found)
    except OSError:
        return
    if found is not None and untold:
        say(
            f"a server was started: {found.http} (`runstream token` prints the token to sign in)",
            once="server",
        )


def _drain() -> dict[str, Any] | None:
    """Wait for the delivery of everything. Why it did not come about, or None."""
    global _no_wait_before
    long = drains()
    start = time.monotonic()
    deadline = start + (_LONG_WAIT_S if long else _SHORT_WAIT_S)
    try:
        while True:
            _, _, problem = flush(max(0.0, deadline - time.monotonic()), files=True, logs=True)
            if (
                problem is None
                or not long
                or problem.get("error") == "offline"
                or time.monotonic() > deadline - 1
                or not _has_server()
            ):
                break
            time.sleep(1)  # it may only be restarting, and this is the last chance
    finally:
        now = time.monotonic()
        _no_wait_before = now + max(_BETWEEN_WAITS_S, 10 * (now - start))
    return problem


def _has_server() -> bool:
    """Whether it is known where to deliver to."""
    if any(writer.target.server for writer in process.writers()):
        return True
    try:
        return home.read_discovery() is not None
    except OSError:
        return False


def key_refused(problem: dict[str, Any]) -> bool:
    """Whether a sender's answer says that the server is there and doesn't let us in."""
    detail = str(problem.get("detail"))
    return "UNAUTHENTICATED" in detail or "PERMISSION_DENIED" in detail


def _starting_at() -> str:
    """Where a server that is starting will be, in words, as soon as it has chosen its ports."""
    try:
        ports = home.read_ports()
    except OSError:
        ports = None
    return f" at http://127.0.0.1:{ports[1]}" if ports else ""


def tell_undelivered(problem: dict[str, Any]) -> None:
    """Say, once in a process, that something waits in the spool, and for what."""
    if was_said("undelivered"):
        return
    places = ", ".join(_roots())
    count = problem.get("undelivered")
    what = f"{count:,} records" if isinstance(count, int) and count else "what was logged"
    if problem.get("error") == "offline":
        line = f"offline: {what} kept in {places}; `runstream sync` delivers it"
    elif problem.get("error") == "timeout":
        line = f"{what} not delivered yet: kept in {places}, the sender goes on with it"
    elif problem.get("error") == "starting":
        line = (
            f"a server is being started{_starting_at()}: {what} kept in {places}, "
            "to be delivered as soon as it listens"
        )
    elif problem.get("error") in ("no_sender", "unknown_writer") and not was_said("no sender"):
        line = f"the sender is only starting: {what} kept in {places}, to be delivered when it runs"
    elif key_refused(problem):
        line = (
            f"the server refuses the API key: {what} kept in {places}; set RUNSTREAM_API_KEY or api_key_file"
        )
    elif _has_server():
        why = f" ({problem['detail']})" if problem.get("detail") else ""
        line = f"no server could be reached{why}: {what} kept in {places}, to be delivered when there is one"
        if any(writer.target.server for writer in process.writers()):
            line += f". If that is the wrong server: {ELSEWHERE.format(places)}"
    else:
        line = (
            f"{what} kept in {places}; start a server with `runstream up`, "
            "or name one in RUNSTREAM_SERVER, and it will be delivered"
        )
    say(line, once="undelivered")
