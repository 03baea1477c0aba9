"""Looks into folders of logs, in threads of their own: a file system that hangs holds up nothing else."""

import threading
from queue import SimpleQueue
from typing import Any, Final

from runstream.sender.log_folder import LogFolder, Read

_MOST_THREADS: Final = 16
_USUAL_S: Final = 0.02  # a look at a folder on a disk takes less

_waiting: "SimpleQueue[Look]" = SimpleQueue()
_lock = threading.Lock()
_threads = 0
_busy = 0


class Look:
    """One look. It works on a copy of the folder, which is the folder's state once the look is taken."""

    def __init__(self, folder: LogFolder) -> None:
        self._told = folder.until, folder.closed
        self._copy = LogFolder(**_copied(folder.dump()))
        self._read: Read | None = None
        self._done = threading.Event()
        _start(self)

    def run(self) -> None:
        """Look; in its thread."""
        try:
            self._read = self._copy.next()
        except Exception:  # next time again
            self._copy.finished = False
        finally:
            self._done.set()

    def ended(self, *, patiently: bool) -> bool:
        """Whether it is over; `patiently` gives it the time that it usually needs."""
        return self._done.wait(_USUAL_S if patiently else 0.0)

    def take(self, folder: LogFolder) -> Read | None:
        """What it has found. Nothing, when the folder's run has ended since: then another limit counts."""
        if (folder.until, folder.closed) != self._told:
            return None
        folder.before, folder.places = self._copy.before, self._copy.places
        folder.finished = self._copy.finished
        return self._read


def _copied(dumped: dict[str, Any]) -> dict[str, Any]:
    places = {path: list(place) for path, place in dumped["places"].items()}
    return {**dumped, "places": places}


def _start(look: Look) -> None:
    """Give it to a thread. When all of them hang it waits."""
    global _threads, _busy
    with _lock:
        _busy += 1
        if _busy > _threads and _threads < _MOST_THREADS:
            _threads += 1
            threading.Thread(target=_work, name="folders of logs", daemon=True).start()
    _waiting.put(look)


def _work() -> None:
    global _busy
    while True:
        _waiting.get().run()
        with _lock:
            _busy -= 1
