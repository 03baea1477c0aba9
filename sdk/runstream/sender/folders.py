"""Finds the writers' folders under a spool root."""

import logging
import os
import re
import shutil
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from runstream.sender.header import Header, HeaderError, read_header
from runstream.sender.liveness import LockFile
from runstream.spool import folder as places
from runstream.spool import layout

log = logging.getLogger("runstream.sender")

SENDER_LOCK = "sender.lock"
_WRITER = re.compile(r"[0-9a-f]{32}")
_REMOVED = ".removed-"
_UNBORN_S = 60.0  # a folder without a header is a leftover when it is older
_RESCAN_S = 5.0
_RETRY_S = 5.0


class Found(NamedTuple):
    """A folder to deliver, with its sender's lock held."""

    path: Path
    header: Header
    lock: LockFile


def is_own(path: Path) -> bool:
    """Whether the path is a folder of this user, and no link to somewhere else."""
    try:
        found = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and (os.name != "posix" or found.st_uid == os.getuid())


class Folders:
    """Watches the folders of this host under the spool root, those of earlier boots too."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._host = places.machine().folder.removesuffix(places.machine().boot_id)
        self._changed: dict[Path, int] = {}  # folder of a boot → when its list of writers was last taken
        self._known: set[Path] = set()
        self._waiting: dict[Path, float] = {}  # without a header, or served by another sender → next look
        self._said: set[Path] = set()
        self._next_scan = 0.0

    @property
    def unborn(self) -> bool:
        """Whether a folder waits for its header."""
        return bool(self._waiting)

    def look(self, now: float, thoroughly: bool = False) -> Iterator[Found]:
        """Folders that are new, or can be served now."""
        if thoroughly or now >= self._next_scan:
            self._next_scan = now + _RESCAN_S
            self._changed = dict.fromkeys(self._boots(), 0)
        for boot, before in self._changed.items():
            try:
                changed = os.stat(boot).st_mtime_ns
            except OSError:
                continue
            if changed != before:
                # A change in the same tick of the clock would not show: look again while it is fresh.
                fresh = abs(time.time_ns() - changed) < 50_000_000
                self._changed[boot] = 0 if fresh else changed
                self._scan(boot, now)
        for path, due in list(self._waiting.items()):
            if thoroughly or now >= due:
                found = self._try(path, now)
                if found is not None:
                    yield found

    def forget(self, path: Path, retry_at: float | None = None) -> None:
        """The folder is no longer served: it is gone, or is to be tried again."""
        self._known.discard(path)
        if retry_at is not None:
            self._known.add(path)
            self._waiting[path] = retry_at

    def _boots(self) -> list[Path]:
        """This machine's folders of ours. The root itself may be another's: several users may share one."""
        try:
            names = os.listdir(self.root)
        except OSError:
            return []
        return [path for name in names if name.startswith(self._host) and is_own(path := self.root / name)]

    def _scan(self, boot: Path, now: float) -> None:
        for name in os.listdir(boot):
            path = boot / name
            if path in self._known:
                continue
            if name.startswith(_REMOVED) and is_own(path):
                shutil.rmtree(path, ignore_errors=True)
            elif _WRITER.fullmatch(name):
                self._known.add(path)
                if is_own(path):
                    self._waiting[path] = now
                else:
                    log.error("%s belongs to another user and is left alone", path)

    def _try(self, path: Path, now: float) -> Found | None:
        """The folder, if it can be served. Else it waits, or is forgotten."""
        try:
            header = read_header(path)
        except HeaderError as error:
            if path not in self._said:
                log.error("%s", error)
                self._said.add(path)
            del self._waiting[path]
            return None
        if header is None:
            self._unborn(path, now)
            return None
        try:
            lock = LockFile(path / SENDER_LOCK, make=True)
        except OSError as error:
            log.error("%s: %s", path, error)
            self._waiting[path] = now + _RETRY_S
            return None
        if not lock.take() or not lock.is_the_file():
            lock.close()
            self._waiting[path] = now + _RETRY_S
            return None
        del self._waiting[path]
        return Found(path, header, lock)

    def _unborn(self, path: Path, now: float) -> None:
        self._waiting[path] = now
        try:
            age = time.time() - os.stat(path).st_mtime
        except FileNotFoundError:
            del self._waiting[path]
            self._known.discard(path)
            return
        if age > 1.0:
            self._waiting[path] = now + 1.0
        if age > _UNBORN_S and remove_unborn(path):
            del self._waiting[path]
            self._known.discard(path)


def remove_unborn(path: Path) -> bool:
    """Remove a folder without a header. False when its writer lives, or another sender is at it."""
    locks: list[LockFile] = []
    try:
        for name in (layout.LOCK, SENDER_LOCK):
            locks.append(LockFile(path / name, make=True))
            if not locks[-1].take():
                return False
        if (path / layout.HEADER).exists():
            return False
        removed = path.with_name(_REMOVED + path.name)
        os.rename(path, removed)
        shutil.rmtree(removed, ignore_errors=True)
    except OSError:
        return False
    finally:
        for lock in locks:
            lock.close()
    return True
