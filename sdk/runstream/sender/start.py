"""Starts the sender of a spool root when none runs. Light: a training process calls this.

The sender's lock file has two bytes, each with a lock of its own: byte 0 is held by the sender, byte 1 by
its supervisor from before the sender is there. So a sender that is just starting is not started twice.
"""

import os
import sys
from pathlib import Path

from runstream import __version__, home

SENDER_BYTE = 0
SUPERVISOR_BYTE = 1

_started: list[int] = []  # processes that began to detach and are to be reaped

_asked: set[str] = set()  # versions of senders that were asked to make room
_locks: dict[tuple[str, str | None], Path] = {}


def ensure_sender(root: str | os.PathLike[str]) -> bool:
    """Make sure that a sender serves the spool root. Returns at once, usually before it does.

    False when none can be started here. Never raises.
    """
    try:
        _reap()
        if sys.platform == "win32" or not sys.executable:
            return False
        lock = _lock_of(os.path.abspath(root))
        if _is_held(lock, SENDER_BYTE):
            if not _is_older(lock):
                return True
            _ask_for_room(os.fspath(root))
            _spawn(os.path.abspath(root), lock, wait_s=5)
        elif not _is_held(lock, SUPERVISOR_BYTE):
            _spawn(os.path.abspath(root), lock)
    except (OSError, ValueError, NotImplementedError):
        return False
    return True


def _lock_of(root: str) -> Path:
    """The lock file. Working it out costs more than looking at it."""
    key = root, os.environ.get("RUNSTREAM_HOME")
    if key not in _locks:
        _locks[key] = home.sender_lock(root)
    return _locks[key]


def _is_held(lock: Path, byte: int) -> bool:
    """Whether another process has the lock. It isn't taken: a sender that starts meanwhile must get it."""
    if sys.platform == "win32":
        return False
    else:
        import fcntl
        import struct

        try:
            descriptor = os.open(lock, os.O_RDWR)
        except FileNotFoundError:
            return False
        try:
            form, at, fields = "hhqqi", 0, (fcntl.F_WRLCK, os.SEEK_SET, byte, 1, 0)
            if sys.platform == "darwin":
                form, at, fields = "qqihh", 3, (byte, 1, 0, fcntl.F_WRLCK, os.SEEK_SET)
            answer = struct.unpack(form, fcntl.fcntl(descriptor, fcntl.F_GETLK, struct.pack(form, *fields)))
            return bool(answer[at] != fcntl.F_UNLCK)
        finally:
            os.close(descriptor)


def _is_older(lock: Path) -> bool:
    """Whether the sender that holds the lock is of an earlier version. Each is asked only once."""
    theirs = lock.read_text()
    if theirs in ("", __version__) or theirs in _asked:
        return False
    _asked.add(theirs)
    return _order(theirs) < _order(__version__)


def _order(version: str) -> tuple[list[int], float]:
    """Sorts versions: `1.2.0.dev3` is before `1.2.0`."""
    release, _, dev = version.partition(".dev")
    numbers = ["".join(c for c in part if c.isdigit()) for part in release.split(".")]
    return [int(number or 0) for number in numbers], float(dev) if dev.isdigit() else float("inf")


def _ask_for_room(root: str) -> None:
    from runstream.sender.ask import NoSenderError, ask

    try:
        ask(root, {"op": "handover", "version": __version__}, 1.0)
    except (NoSenderError, TimeoutError, ValueError):
        pass  # it ends, or is busy: the next look tries again


def _spawn(root: str, lock: Path, wait_s: int = 0) -> None:
    if sys.platform == "win32":
        raise NotImplementedError
    else:
        here = os.path.dirname(os.path.abspath(__file__))
        log = home.sender_log(root)
        if log.exists() and log.stat().st_size > 4 << 20:
            os.replace(log, f"{log}.old")
        arguments = [sys.executable, "-I", "-S", os.path.join(here, "supervisor.py")]
        arguments += [sys.executable, os.path.join(here, "__main__.py"), str(lock), root, str(wait_s)]
        environment = {**os.environ, "RUNSTREAM_HOME": str(home.home())}  # as seen from here, not from /
        files = (
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        )
        try:
            pid = os.posix_spawn(sys.executable, arguments, environment, file_actions=files, setsid=True)
        except NotImplementedError:  # the supervisor makes its session itself then
            pid = os.posix_spawn(sys.executable, arguments, environment, file_actions=files)
        _started.append(pid)


def _reap() -> None:
    """The started process forks and ends, so that the sender is nobody's child; take its exit code."""
    for pid in _started[:]:
        try:
            done, _ = os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            done = pid
        if done:
            _started.remove(pid)
