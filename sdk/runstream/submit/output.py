"""What a submitted script prints: from its file into the run's logs, and its end as why it failed."""

import time
from pathlib import Path
from typing import Final

from runstream.core.state import RunState

_BLOCK: Final = 256 << 10
_TAIL: Final = 64 << 10
_LINES: Final = 30
_MOST_MESSAGE: Final = 30_000
_TRACEBACK: Final = "Traceback (most recent call last):"


class OutputTail:
    """Follows one file into one log."""

    def __init__(self, path: Path, log: str) -> None:
        self._path = path
        self._log = log
        self._offset = 0

    def feed(self, state: RunState) -> bool:
        """Keep what is new. Whether there was something."""
        try:
            with open(self._path, "rb") as file:
                file.seek(self._offset)
                data = file.read(_BLOCK)
        except OSError:
            return False
        if not data:
            return False
        now = time.time_ns()
        state.keep(lambda channel: channel.log(self._log, data, now))
        self._offset += len(data)
        return True

    def feed_all(self, state: RunState) -> None:
        """Keep all that is there."""
        while self.feed(state):
            pass


def log_name(rank: int) -> str:
    """Name of a rank's log in the run."""
    return "user_logs/std_log.txt" if rank == 0 else f"user_logs/std_log_process_{rank}.txt"


def last_words(path: Path) -> str:
    """The last traceback that a script has printed, with what follows it; without one the last lines."""
    try:
        with open(path, "rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - _TAIL))
            text = file.read().decode("utf-8", "replace").rstrip()
    except OSError:
        return ""
    at = text.rfind(_TRACEBACK)
    # Of chained exceptions all belong to it.
    while at > 0 and "During handling of the above" in text[max(0, at - 120) : at]:
        at = text.rfind(_TRACEBACK, 0, at)
    said = text[at:] if at >= 0 else "\n".join(text.splitlines()[-_LINES:])
    return said[-_MOST_MESSAGE:]
