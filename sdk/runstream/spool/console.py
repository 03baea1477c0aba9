"""A writer's files of logs: what the process prints, beside the slots so that neither waits for the other."""

import os
import threading
import time
from time import time_ns
from typing import TYPE_CHECKING, Final

from runstream.spool import layout
from runstream.spool.segments import FolderGoneError, RecordFile

if TYPE_CHECKING:
    from runstream.spool.folder import WriterFolder

MOST_BYTES: Final = 256 << 20  # that wait for their delivery
_RETRY_S: Final = 0.25  # after a full disk, or the cap


class Console:
    """Appends pieces of logs. What can't be kept is left out, and a line in its place says how much it was.

    Never raises OSError. Safe in threads and signal handlers; a forked child has a console of its own.
    """

    def __init__(self, folder: "WriterFolder", cap_bytes: int) -> None:
        self._folder = folder
        self._cap = cap_bytes
        self._lock = threading.RLock()
        self._files: dict[int, RecordFile] = {}
        self._number = 0
        self._size = 0  # of the file
        self._retry_at = 0.0
        self._left_out: dict[tuple[int, bytes], int] = {}  # bytes by run and path
        self.gone = False  # the folder was removed

    def piece(self, run: int, path: bytes, data: bytes, time_ns: int) -> None:
        """Append what was printed."""
        with self._lock:
            if time.monotonic() < self._retry_at:
                self._leave_out(run, path, len(data))
                return
            if self._left_out:
                self._tell(time_ns)
            for at in range(0, len(data), layout.MOST_PIECE_BYTES):
                part = data[at : at + layout.MOST_PIECE_BYTES]
                if not self._append(run, layout.LOG_PIECE, _piece(time_ns, path, part)):
                    self._leave_out(run, path, len(data) - at)
                    return

    def folder(self, run: int, content: dict[str, object]) -> None:
        """State which folder of logs a run has from now on, or no longer has."""
        with self._lock:
            self._append(run, layout.LOG_FOLDER, [layout.json_bytes(content)])

    def tell_left_out(self) -> None:
        """Say what was left out, if that can be said now."""
        with self._lock:
            if self._left_out:
                self._tell(time_ns(), last=True)

    def _leave_out(self, run: int, path: bytes, size: int) -> None:
        key = run, path
        if not self._left_out:
            line = b"[runstream: what follows is left out, the spool is full]\n"
            self._append(run, layout.LOG_PIECE, _piece(time_ns(), path, line), last=True)
        self._left_out[key] = self._left_out.get(key, 0) + size

    def _tell(self, time_ns: int, last: bool = False) -> None:
        for key, size in list(self._left_out.items()):
            line = f"[runstream: {size:,} bytes were left out here]\n".encode()
            run, path = key
            if not self._append(run, layout.LOG_PIECE, _piece(time_ns, path, line), last):
                return
            self._left_out.pop(key, None)

    def _append(self, run: int, kind: int, pieces: list[layout.Bytes], last: bool = False) -> bool:
        """Append a record. False when there is no room for it; `last` words take what is beyond the bound."""
        record = layout.record(self._folder.writer, kind, run, pieces)
        size = sum(map(len, record))
        try:
            while True:
                if self._size >= layout.CONSOLE_BYTES and not self._next() and not last:
                    return self._no_room()
                number = self._number
                file = self._files.get(number)
                if file is None:
                    name = layout.console_name(number)
                    file = self._files.setdefault(number, RecordFile(self._folder, name))
                file.append(record)
                self._size += size
                if self._number == number:  # else a signal handler has left this file: readers may have, too
                    return True
        except FolderGoneError:
            self.gone = not os.path.exists(self._folder.path)
            if not self.gone:  # somebody removed the file alone
                self._files.pop(self._number, None)
            return self._no_room()
        except (OSError, ValueError):  # full, or closed: the process has forked
            return self._no_room()

    def _no_room(self) -> bool:
        self._retry_at = time.monotonic() + _RETRY_S
        return False

    def _next(self) -> bool:
        """Leave the file for the next. False when too many wait for their delivery."""
        names = [name for name in os.listdir(self._folder.path) if name.endswith(layout.CONSOLE_ENDING)]
        if len(names) * layout.CONSOLE_BYTES >= self._cap:
            return False
        left = self._files.pop(self._number, None)
        self._number += 1
        self._size = 0
        if left is not None:
            left.close()
        return True

    def close(self) -> None:
        """Give the descriptor back."""
        for file in list(self._files.values()):
            file.close()


def _piece(time_ns: int, path: bytes, data: bytes) -> list[layout.Bytes]:
    return [layout.LOG_PIECE_HEADER.pack(time_ns, len(path)), path, data]
