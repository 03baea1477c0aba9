"""Keeps what Python code prints while a run is going: a copy of each `write` on standard output and error.

The streams stay what they are, wherever references to them are held (logging's handlers, progress bars,
notebooks): their method `write` is covered as long as a run captures, and uncovered afterwards. Nothing is
piped through another process. What C code or child processes print does not pass here.

IPython covers `write` too, in each cell as long as it runs, and puts back what it found there: a cover that
was made in a cell is gone after it. So in a notebook the covers are looked for when a cell begins and ends.

The run that was begun last, or whose `with` block was entered last, owns what is printed.
"""

import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from runstream.capture.lines import Lines
from runstream.capture.switches import wanted
from runstream.core.state import RunState
from runstream.spool import process

_MOST_OWNERS: Final = 100
_NAMES: Final = ("stdout", "stderr")

_lock = threading.RLock()
_owners: list[RunState] = []  # the last one owns
_covers: "list[_Cover]" = []
_hooked = False
_shell: Any = None  # IPython's, which tells of its cells


def begin(state: RunState) -> None:
    """Let a run own what is printed from here on, if that is to be captured. Never raises."""
    if state.silent or state.submitted or not wanted("RUNSTREAM_CAPTURE_CONSOLE"):
        return  # what a submitted script prints goes to a file of its launcher's
    with _lock:
        _leave(state)
        _settle()
        _owners.append(state)
        del _owners[:-_MOST_OWNERS]
        _cover()


def end(state: RunState) -> None:
    """What is printed is no longer the run's. Never raises."""
    with _lock:
        if any(owner is state for owner in _owners):
            _settle()
            _leave(state)
            if not _owners:
                _uncover()


def settle() -> None:
    """Keep unfinished lines too: the process ends."""
    with _lock:
        _settle()


def log_path(rank: int | None) -> str:
    """Where output of a process is kept in the run's tree."""
    return "logs/user_log.txt" if not rank else f"logs/user_log_rank_{rank}.txt"


def _leave(state: RunState) -> None:
    _owners[:] = [owner for owner in _owners if owner is not state]


def _settle() -> None:
    for cover in _covers:
        cover.settle()


class _Cover:
    """One stream whose `write` is covered."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self._lines = Lines()
        self._feeding = False
        self._passed = False
        self._gone = False
        self._write: Callable[[Any], Any] = stream.write
        self._own = "write" in getattr(stream, "__dict__", {})  # the stream's own attribute, to be put back
        while isinstance(below := getattr(self._write, "__self__", None), _Cover) and below._gone:
            self._write, self._own = below._write, below._own
        self._mine = self._covered
        stream.write = self._mine

    def is_on(self) -> bool:
        """Whether what is written passes here, perhaps below the covers of others."""
        self._passed = False
        try:
            self.stream.write("")
        except Exception:  # a stream that is closed
            return False
        return self._passed

    def _covered(self, text: Any) -> Any:
        self._passed = True
        result = self._write(text)
        try:
            if isinstance(text, str) and text and not self._gone:
                with _lock:
                    self._keep(self._feed(text))
        except Exception:
            pass  # printing goes on, whatever is wrong with the tracker
        return result

    def _feed(self, text: str) -> str:
        if self._feeding:  # a signal handler prints in the middle of that
            return text
        self._feeding = True
        try:
            return self._lines.feed(text, time.monotonic())
        finally:
            self._feeding = False

    def settle(self) -> None:
        """Keep what is held of an unfinished line."""
        try:
            self._keep(self._lines.rest())
        except Exception:
            pass

    def _keep(self, text: str) -> None:
        if text and _owners:
            keep(_owners[-1], text)

    def uncover(self) -> None:
        """Take the cover off; where somebody has put another above it, it lets everything through."""
        self._gone = True
        if self.stream.__dict__.get("write") is self._mine:
            if self._own:
                self.stream.write = self._write
            else:
                del self.stream.write

    def renew(self) -> None:
        """After a fork: what the parent holds it keeps itself."""
        self._lines = Lines()
        self._feeding = False


def keep(state: RunState, text: str) -> None:
    """Add text to the log of a run's process."""
    now = time.time_ns()
    try:
        data = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        data = text.encode("utf-8", "replace")
    state.keep(lambda channel: channel.log(log_path(channel.writer.origin.rank), data, now))


def _cover() -> None:
    """Cover the streams that are there now."""
    global _hooked
    if not _hooked:
        _hooked = True
        process.watch_forks()
        process.on_fork(_forked)
    _watch_cells()
    streams = [stream for name in _NAMES if (stream := getattr(sys, name, None)) is not None]
    there = [cover.stream for cover in _covers]
    if there == list({id(stream): stream for stream in streams}.values()) and all(
        cover.is_on() for cover in _covers
    ):
        return
    _uncover()
    for stream in {id(stream): stream for stream in streams}.values():
        try:
            _covers.append(_Cover(stream))
        except (AttributeError, TypeError):
            pass  # a stream whose methods are fixed: what it prints is not kept


def _watch_cells() -> None:
    """Hear of the cells of a notebook, once."""
    global _shell
    loaded = sys.modules.get("IPython")
    shell = loaded.get_ipython() if loaded is not None else None
    if shell is None or shell is _shell:
        return
    _shell = shell
    shell.events.register("pre_run_cell", _cell_begins)
    shell.events.register("post_run_cell", _cell_ends)


def _cell_begins(*_: Any) -> None:
    with _lock:
        if _owners:
            _cover()


def _cell_ends(*_: Any) -> None:
    """Look again when IPython has put back what it found: threads may print until the next cell."""
    asyncio = sys.modules.get("asyncio")  # a kernel has it
    try:
        if asyncio is not None:
            asyncio.get_running_loop().call_soon(_cell_begins)
    except RuntimeError:  # a terminal: it reads the next cell now
        pass


def _uncover() -> None:
    for cover in _covers:
        cover.settle()
        try:
            cover.uncover()
        except (AttributeError, TypeError):
            pass
    _covers.clear()


def _forked() -> None:
    """Another thread of the parent may have held the lock."""
    global _lock
    _lock = threading.RLock()
    for cover in _covers:
        cover.renew()
