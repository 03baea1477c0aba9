"""Whether a writer lives: the kernel says it, by the lock that it drops when the process dies."""

import os
import struct
import sys
import time
from pathlib import Path

from runstream.sender.header import Header
from runstream.spool import folder as places
from runstream.spool import layout

FOREIGN_NAMESPACE_S = 10.0  # a lock that is free for so long in another PID namespace: its process is gone


class LockFile:
    """A lock file in a writer's folder. Testing it disturbs nobody, since nothing is taken."""

    def __init__(self, path: Path, make: bool = False) -> None:
        """Open it. Raises OSError."""
        self.path = path
        flags = os.O_RDWR | (os.O_CREAT if make else 0)
        self._fd = os.open(path, flags | getattr(os, "O_CLOEXEC", 0), 0o600)

    def is_free(self) -> bool:
        """Whether no other process holds it."""
        if sys.platform == "win32":
            taken = self.take()
            self.release()
            return taken
        else:
            import fcntl

            if sys.platform == "darwin":
                form, kind_at = "qqihh", 3
                asked = struct.pack(form, 0, 0, 0, fcntl.F_WRLCK, os.SEEK_SET)
            else:
                form, kind_at = "hhqqi", 0
                asked = struct.pack(form, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
            answer = struct.unpack(form, fcntl.fcntl(self._fd, fcntl.F_GETLK, asked))
            return bool(answer[kind_at] == fcntl.F_UNLCK)

    def take(self) -> bool:
        """Take it until `close`. False when another process has it."""
        try:
            if sys.platform == "win32":
                import msvcrt

                os.lseek(self._fd, 0, os.SEEK_SET)
                msvcrt.locking(self._fd, msvcrt.LK_NBLCK, 1)
            else:
                import fcntl

                fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

    def release(self) -> None:
        """Let others take it."""
        if sys.platform == "win32":
            import msvcrt

            try:
                msvcrt.locking(self._fd, msvcrt.LK_UNLCK, 1)
            except OSError:
                pass
        else:
            import fcntl

            fcntl.lockf(self._fd, fcntl.LOCK_UN)

    def is_the_file(self) -> bool:
        """Whether the path still names this file."""
        try:
            named, mine = os.stat(self.path), os.fstat(self._fd)
        except OSError:
            return False
        return (named.st_dev, named.st_ino) == (mine.st_dev, mine.st_ino)

    def close(self) -> None:
        """Close it, which also releases it."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Liveness:
    """Follows one writer's process. What is dead stays dead."""

    def __init__(self, folder: Path, header: Header) -> None:
        """Open the lock file. Raises OSError."""
        self.lock = LockFile(folder / layout.LOCK)
        self._header = header
        self._free_since: float | None = None
        self._same_boot = header.boot_id == places.machine().boot_id
        self._same_namespace = header.pid_ns is not None and header.pid_ns == places.pid_namespace()

    def is_dead(self, closed: bool) -> bool:
        """Whether the process is gone, or has let go of the writer and said so (`closed`). What it had
        stored can be read after this returned.
        """
        if not self.lock.is_free():
            self._free_since = None
            return False
        if closed or not self._same_boot:
            return True
        if self._same_namespace and self._header.pid_start is not None:
            return not places.lives(self._header.pid, self._header.pid_start)
        now = time.monotonic()
        if self._free_since is None:
            self._free_since = now
        return now - self._free_since >= FOREIGN_NAMESPACE_S

    def close(self) -> None:
        """Close the lock file."""
        self.lock.close()
