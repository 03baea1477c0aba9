"""Delivers a spool folder in the foreground: one copied from elsewhere, or one that no sender serves.

Nothing is written into the folder, so syncing it again sends the same again, with the same identities.
"""

import logging
import os
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from runstream import home
from runstream.errors import RunstreamError
from runstream.home import Target
from runstream.sender.ask import NoSenderError, ask
from runstream.sender.folders import SENDER_LOCK
from runstream.sender.header import Header, HeaderError, read_header
from runstream.sender.liveness import LockFile
from runstream.sender.settings import SenderSettings
from runstream.sender.stream import Publisher
from runstream.sender.tail import WriterTail
from runstream.spool import layout
from runstream.spool.listing import find_writers

log = logging.getLogger("runstream.sender")

_AT_ONCE = 64  # writers under way


class SyncError(RunstreamError):
    """The folder can't be synced at all."""


@dataclass(slots=True)
class SyncResult:
    """What a sync did."""

    writers: int = 0  # delivered to their ends
    living: int = 0  # delivered as far as they are: their processes still log
    runs: set[str] = field(default_factory=set)
    logged: int = 0  # elements
    rejected: int = 0  # elements that the server refused
    undelivered: int = 0  # calls
    problems: list[str] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether the server has everything."""
        return not self.undelivered and not self.problems


def sync(
    directory: str | os.PathLike[str],
    target: Target | None = None,
    *,
    delete: bool = False,
    timeout_s: float = 30.0,
    progress: Callable[[SyncResult], None] | None = None,
) -> SyncResult:
    """Deliver every writer under `directory`: a spool root, a folder of one boot, or one writer's folder.

    `target` is the server; by default that of this user's configuration, else the one that each writer names.
    Writers are removed when they are delivered whole if `delete` is set. Gives up when no server was
    reached, or none has acknowledged anything, for `timeout_s`. Raises SyncError when there is no spool.
    """
    folders = list(find_writers(Path(directory)))
    if not folders:
        raise SyncError(f"{directory} holds no spool: no folder in it has a writer.json")
    return _Sync(target or home.resolve_server(), delete, timeout_s, progress).run(folders)


class _CopyLock:
    """Stands for the writer's lock. A copy may lack it, and may be in a folder that nobody can write."""

    def __init__(self, folder: Path) -> None:
        try:
            self.lock: LockFile | None = LockFile(folder / layout.LOCK)
        except OSError:
            self.lock = None

    def is_dead(self, closed: bool) -> bool:
        """Whether nobody holds the lock. Of a copy, that is all that can be known."""
        return self.lock is None or self.lock.is_free()

    def close(self) -> None:
        """Close the lock file."""
        if self.lock is not None:
            self.lock.close()


def _released(folder: Path, header: Header) -> bool:
    """Whether the sender of the folder's root gives the writer up, since it can't reach its server."""
    try:
        request = {"op": "release", "writer": header.writer.hex()}
        return bool(ask(str(folder.parent.parent.absolute()), request, 5.0).get("ok"))
    except (NoSenderError, OSError):
        return False


class _Sync:
    def __init__(
        self,
        target: Target | None,
        delete: bool,
        timeout_s: float,
        progress: Callable[[SyncResult], None] | None,
    ) -> None:
        self._target = target
        self._delete = delete
        self._timeout_s = timeout_s
        self._progress = progress
        self._settings = SenderSettings.read()
        self._wake = threading.Event()
        self._publishers: dict[tuple[str | None, Path | None], Publisher] = {}
        self._active: dict[WriterTail, tuple[Publisher, LockFile | None]] = {}
        self._result = SyncResult()

    def run(self, folders: list[Path]) -> SyncResult:
        waiting = folders[::-1]
        last_progress = time.monotonic()
        try:
            while waiting or self._active:
                while waiting and len(self._active) < _AT_ONCE:
                    self._adopt(waiting.pop())
                now = time.monotonic()
                if self._step(now):
                    last_progress = now
                    if self._progress is not None:
                        self._progress(self._result)
                if now - last_progress > self._timeout_s:
                    self._give_up(waiting)
                    break
                self._wake.wait(0.002)
                self._wake.clear()
        finally:
            for tail in list(self._active):
                self._release(tail)
            for publisher in self._publishers.values():
                publisher.close()
        return self._result

    def _adopt(self, folder: Path) -> None:
        lock: LockFile | None = None
        try:
            header = read_header(folder)
            if header is None:
                return
            if os.access(folder, os.W_OK):
                lock = LockFile(folder / SENDER_LOCK, make=True)
                if not lock.take() and not (_released(folder, header) and lock.take()):
                    lock.close()
                    self._result.problems.append(f"{folder} is being delivered by a running sender")
                    return
            tail = WriterTail(
                folder,
                header,
                _CopyLock(folder),
                request_bytes=self._settings.request_kib * 1024,
                copy=True,
            )
        except (HeaderError, OSError) as error:
            self._result.problems.append(str(error))
            return
        publisher = self._publisher(header)
        self._active[tail] = publisher, lock
        tail.look(thoroughly=True)  # whether it is dead is seen before its slots are read
        publisher.adopt(tail)

    def _publisher(self, header: Header) -> Publisher:
        key = (None, None) if self._target else (header.server, header.credential)
        if key not in self._publishers:
            self._publishers[key] = Publisher(self._settings, self._wake.set, self._target)
        return self._publishers[key]

    def _step(self, now: float) -> bool:
        """One round. True when something was acknowledged, or a writer is done."""
        moved = False
        for tail in list(self._active):
            tail.poll()
        for publisher in self._publishers.values():
            moved |= publisher.step(now) and publisher.ready
            turn = list(publisher.tails)
            while turn and publisher.room > 0:
                turn = [tail for tail in turn if (records := tail.request(now)) and publisher.send(records)]
        for tail in list(self._active):
            living = not tail.dead and tail.read_up and tail.delivered(tail.reader.seen)
            if tail.drained or (living and not tail.uploads.look() and tail.logs_delivered()):
                self._finish(tail)
                moved = True
        return moved

    def _finish(self, tail: WriterTail) -> None:
        result = self._result
        result.writers += tail.dead
        result.living += not tail.dead
        result.runs.update(run.run for run in tail.definitions.runs.values())
        result.logged += sum(run.logged.elements for run in tail.state.runs.values())
        result.rejected += sum(run.rejected.elements for run in tail.state.runs.values())
        result.problems += tail.state.refused
        folder, removable = tail.folder, self._delete and tail.dead and not tail.state.refused
        if removable:
            removed = folder.with_name(f".removed-{folder.name}")
            os.rename(folder, removed)
            folder = removed
        self._release(tail)
        if removable:
            shutil.rmtree(folder, ignore_errors=True)

    def _release(self, tail: WriterTail) -> None:
        publisher, lock = self._active.pop(tail)
        publisher.forget(tail)
        tail.close()
        if lock is not None:
            lock.close()

    def _give_up(self, waiting: list[Path]) -> None:
        reasons = {p.problem for p in self._publishers.values() if p.problem}
        self._result.problems += sorted(reasons) or ["the server has not acknowledged in time"]
        for folder in waiting:
            self._result.problems.append(f"{folder} was not begun")
        self._result.undelivered += sum(tail.undelivered for tail in self._active)
