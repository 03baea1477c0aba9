"""The writers of this process: one for each workspace and server, a new one after every fork.

A spool is one per process, not per run: starting a run is one record in it.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from runstream.spool.folder import WriterFolder, spool_root
from runstream.spool.writer import Origin, Target, Writer

_RETRY_NS: Final = 500_000_000

# Replaced as a whole after a fork, changed only by operations that are one step of the interpreter.
_writers: dict[Target, Writer] = {}
_all: list[Writer] = []  # also those that were lost but may have been written to
_parents: dict[Target, str] = {}
_retry_at: dict[Target, int] = {}
_forks: list[Callable[[], None]] = []
_hooked = False
_forked_times = 0


class SpoolUnavailableError(OSError):
    """There is no place to keep records just now."""


def writer_for(
    target: Target,
    origin: Callable[[], Origin],
    prepare: Callable[[Writer], None],
    root: Callable[[], Path] = spool_root,
) -> Writer:
    """This process's writer for a target, made under `root` when there is none. Raises SpoolUnavailableError.

    `prepare` sees a new writer before anybody else does.
    """
    writer = _writers.get(target)
    if writer is not None and not writer.lost:
        return writer
    now = time.monotonic_ns()
    if now < _retry_at.get(target, 0):
        raise SpoolUnavailableError("tried a moment ago")
    watch_forks()
    forked = _forked_times
    made: Writer | None
    try:
        made = Writer(WriterFolder(root()), target, origin()._replace(parent=_parents.get(target)))
        prepare(made)
    except OSError as error:
        if forked == _forked_times:
            _retry_at[target] = now + _RETRY_NS
            raise SpoolUnavailableError(str(error)) from error
        made = None
    if forked != _forked_times or made is None:  # a signal handler has forked: this was the parent's
        return writer_for(target, origin, prepare, root)
    if writer is not None and _writers.get(target) is writer:
        _writers.pop(target, None)
    kept = _writers.setdefault(target, made)
    if forked != _forked_times:  # just now
        if _writers.get(target) is made:
            _writers.pop(target)
        return writer_for(target, origin, prepare, root)
    if kept is made:
        _all.append(made)
    else:  # another thread, or a signal handler, was faster
        made.close()
        made.folder.discard()
    return kept


def writers() -> list[Writer]:
    """Writers that this process made and that can still be written to."""
    return [writer for writer in list(_all) if not writer.lost]


def writer_of(target: Target) -> Writer | None:
    """The writer of a target, if it was made."""
    writer = _writers.get(target)
    return None if writer is None or writer.lost else writer


def on_fork(action: Callable[[], None]) -> None:
    """Have something done in each forked child, after the writers were given up there."""
    _forks.append(action)


def watch_forks() -> None:
    """Give up the writers in forked children, so that two processes never continue one spool."""
    global _hooked
    if not _hooked and hasattr(os, "register_at_fork"):
        _hooked = True
        os.register_at_fork(after_in_child=_forked)


def _forked() -> None:
    # What other threads of the parent were in the middle of is of no interest: everything is replaced.
    global _writers, _all, _retry_at, _forked_times
    _forked_times += 1
    for target, writer in list(_writers.items()):
        _parents[target] = writer.id.hex()
    for writer in {*_all, *_writers.values()}:
        writer.close()
    _writers, _all, _retry_at = {}, [], {}
    for action in _forks:
        action()
