"""The server's data folder, and its lock.

::

    DATA/log.sqlite   the event log
    DATA/tables/      chDB's tables
    DATA/token        this machine's token (0600)
    DATA/keys.json    API keys, hashed (0600)
    DATA/server.lock  held by the server that works on the folder; says who it is
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from pathlib import Path

from runstream_server.errors import ConfigError, DataFolderInUse


class DataFolder:
    """A data folder that this process owns until `release`, or its end."""

    def __init__(self, path: Path) -> None:
        """Makes the folder if need be and takes its lock. Raises DataFolderInUse, ConfigError."""
        self.path = path
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Not a POSIX record lock: that is lost when any descriptor of the file is closed, and does not
            # keep a second server in the same process out.
            self._lock = os.open(path / "server.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigError(
                f"the data folder {path} can't be used: {error.strerror}. Choose another with --data DIR."
            ) from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = _describe(os.pread(self._lock, 4096, 0))
            os.close(self._lock)
            raise DataFolderInUse(
                f"{owner} works on {path} already. Use it, or give this one another folder with --data DIR."
            ) from None
        self.describe({})

    def describe(self, addresses: Mapping[str, str]) -> None:
        """Leave this process's id, and where it listens, for whoever finds the folder locked."""
        note = json.dumps({"pid": os.getpid(), **addresses}).encode()
        try:
            os.ftruncate(self._lock, 0)
            os.pwrite(self._lock, note, 0)
        except OSError:
            pass  # a full disk: the lock counts, the note is only for people

    def release(self) -> None:
        """Give the folder free. The lock file stays: removing it would let two servers in."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def _describe(note: bytes) -> str:
    try:
        owner = json.loads(note)
        where = f" at {owner['http']} (gRPC {owner['grpc']})" if "http" in owner else ", still starting,"
        return f"the server with pid {owner['pid']}{where}"
    except (ValueError, KeyError, TypeError):
        return "another server"
