"""The folder `logs/` of a run: says in the spool what was there when the run began and ended.

The sender follows the files meanwhile, so that no thread of the script has to.
"""

import os
import stat
import time
from typing import Final

from runstream.capture.switches import wanted
from runstream.core.state import RunState
from runstream.spool import process
from runstream.spool.folder import is_local

NAME: Final = "logs"
_MOST_FILES: Final = 1000
_DEEPEST: Final = 4


def begin(state: RunState) -> None:
    """Let the run have what is written into `./logs` from here on. Never raises."""
    try:
        if state.silent or state.submitted or not wanted("RUNSTREAM_CAPTURE_LOGS"):
            return
        folder = os.path.join(os.getcwd(), NAME)
        writer = process.writer_of(state.target)
        if writer is not None and follows(writer.origin.rank, writer.origin.local_rank, folder):
            follow(state, folder, f"{NAME}/")
            state.logs_folder = folder
    except Exception:
        pass  # a working directory that is gone is no reason not to train


def end(state: RunState) -> None:
    """What is written later is not the run's. Never raises."""
    folder, state.logs_folder = state.logs_folder, None
    if folder is not None:
        try:
            leave(state, folder, f"{NAME}/")
        except Exception:
            pass


def follow(state: RunState, folder: str, prefix: str) -> None:
    """Have the sender follow the files in a folder: what is appended to them from here on is logs of the run.

    A launcher that has a process write its output to a file makes that file a log of the run so.

    :param folder: absolute path.
    :param prefix: as `user_logs/`.
    """
    _say(state, folder, prefix, True)


def leave(state: RunState, folder: str, prefix: str) -> None:
    """What was in the files until now is the run's, what comes later is not."""
    _say(state, folder, prefix, False)


def _say(state: RunState, folder: str, prefix: str, opens: bool) -> None:
    content: dict[str, object] = {
        "folder": folder,
        "prefix": prefix,
        "time_ns": time.time_ns(),
        "open": opens,
        "files": sizes(folder),
    }
    state.keep(lambda channel: channel.log_folder(content))


def follows(rank: int | None, local_rank: int | None, folder: str) -> bool:
    """Whether it is this rank whose sender follows the folder: the first of a machine, and of all the first
    where machines share the folder."""
    if not rank:
        return True
    place = folder if os.path.isdir(folder) else os.path.dirname(folder)
    return local_rank == 0 and is_local(place)


def sizes(folder: str) -> dict[str, list[int]] | None:
    """Inode and size of the files in a folder, by path; None when there are more than a thousand."""
    found: dict[str, list[int]] = {}
    waiting = [(folder, "", 0)]
    while waiting:
        place, under, depth = waiting.pop()
        try:
            with os.scandir(place) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    status = entry.stat(follow_symlinks=False)
                    if stat.S_ISREG(status.st_mode):
                        found[under + entry.name] = [status.st_ino, status.st_size]
                    elif stat.S_ISDIR(status.st_mode) and depth < _DEEPEST:
                        waiting.append((entry.path, f"{under}{entry.name}/", depth + 1))
                    if len(found) > _MOST_FILES:
                        return None
        except OSError:
            continue
    return found
