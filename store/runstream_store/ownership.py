"""One process at a time for a file or a folder, and the name of that process for the others."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from pathlib import Path


class OwnedByOther(Exception):
    """Another process, or another opener in this one, is the owner."""

    def __init__(self, owner: str) -> None:
        super().__init__(owner)
        self.owner = owner


class Ownership:
    """Holds a lock file until `release`, or the end of the process.

    It is an flock: it also keeps a second opener of the same process out, which a POSIX record lock does not.
    A forked child would share it; servers spawn.
    """

    def __init__(self, lock_file: Path) -> None:
        """Takes the lock, or raises OwnedByOther at once."""
        fd = os.open(lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = _describe(fd)
            os.close(fd)
            if isinstance(error, BlockingIOError):
                raise OwnedByOther(owner) from None
            raise
        self._fd = fd
        note = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "since": time.strftime("%Y-%m-%d %H:%M:%S%z"),
        }
        try:
            os.ftruncate(fd, 0)
            os.pwrite(fd, json.dumps(note).encode(), 0)
        except OSError:
            pass  # a full disk: the lock counts, the note is only for people

    def release(self) -> None:
        """Gives the lock up. The file stays: removing it would let two owners in."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _describe(fd: int) -> str:
    try:
        note = json.loads(os.pread(fd, 4096, 0))
        return f"process {note['pid']} on {note['host']} since {note['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "an unknown process"
