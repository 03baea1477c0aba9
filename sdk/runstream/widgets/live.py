"""One output of a notebook that follows a run until it is over."""

import importlib
import sys
import threading
import time
from datetime import UTC, datetime
from typing import Final
from uuid import uuid4

from runstream.core.run import Run
from runstream.widgets import front, html
from runstream.widgets.watched import Watched

_LEAST_S: Final = 1.0  # between two readings
_CHANGE_S: Final = 10.0  # that the server waits for a change
_AGAIN_S: Final = 2.0  # after a reading that failed, at first,
_LONGEST_S: Final = 15.0  # and at most
_SETTLING_S: Final = 30.0  # that the last points of a run may take after its end
_SETTLED_S: Final = 10.0  # that a page which is shown once waits for them
_PATIENCE_S: Final = 2.0  # that a cell waits for its first page
_REST: Final = 4.0  # pauses are so many times as long as a read took, at least,
_MOST_S: Final = 60.0  # up to this

_live: "dict[Run, Live]" = {}
_showing: Final = threading.Lock()


def in_kernel() -> bool:
    """Whether this is the kernel of a notebook. Loads nothing."""
    loaded = sys.modules.get("IPython")
    shell = loaded.get_ipython() if loaded is not None else None
    return getattr(shell, "kernel", None) is not None


def once(run: Run) -> str:
    """The page of a run as it is now. What goes wrong is in it: a cell's output is no failure of the cell."""
    watched, notice = Watched(run), ""
    deadline = time.monotonic() + _SETTLED_S
    try:
        watched.read()
        while watched.over and not watched.settled and time.monotonic() < deadline:
            time.sleep(0.1)
            watched.read()
    except Exception as error:
        notice = f"{what(error)}: {error}"
    return _page(run, watched, notice)


def _page(run: Run, watched: Watched, notice: str) -> str:
    if watched.properties:
        return html.page(watched.data(), notice)
    return html.notice_page(run.id, run.get_portal_url(), notice)


def show(run: Run, text: str) -> "Live":
    """Display a run here, and keep what is displayed up to date. Returns at once, or as soon as there is
    something to see. Outputs of one run share a thread.

    :param text: what is shown where there is no HTML.
    """
    with _showing:
        found = _live.get(run)
        if found is None or not found.thread.is_alive():
            found = _live[run] = Live(run, text)
            found.thread.start()
    found.first.wait(_PATIENCE_S)
    found.display()
    return found


class Live:
    """What is shown of a run, and the thread that reads it again and again."""

    def __init__(self, run: Run, text: str) -> None:
        self.thread = threading.Thread(target=self._follow, name=f"runstream-details-{run.id}", daemon=True)
        self.first = threading.Event()
        self._run = run
        self._text = text
        self._id = f"runstream-{uuid4().hex}"
        self._lock = threading.Lock()
        self._displayed = False
        self._watched = Watched(run)
        self._front: front.Front | None = None
        self._away_since = ""
        self._notice = ""
        self._page = html.notice_page(run.id, run.get_portal_url(), "Reading the run …")

    def display(self) -> None:
        """Once more, as it is now."""
        with self._lock:
            if self._front is None and front.possible():
                self._front = front.Front(self._watched)
                self._front.push(self._notice, self.thread.is_alive())
            self._publish("display")
            self._displayed = True

    def _follow(self) -> None:
        """Until the run is over and settled, and once more then: the end of its log may arrive after it."""
        again, ended = _AGAIN_S, 0.0
        try:
            while True:
                began = time.monotonic()
                read = self._read()
                self.first.set()
                if not read:
                    pause = again
                    again = min(again * 1.3, _LONGEST_S)
                elif self._watched.over:
                    now = time.monotonic()
                    if ended and (self._watched.settled or now - ended > _SETTLING_S):
                        return
                    ended, pause, again = ended or now, _AGAIN_S, _AGAIN_S
                else:
                    took = time.monotonic() - began - self._watched.waited_s
                    pause, again, ended = max(_LEAST_S, min(_REST * took, _MOST_S)), _AGAIN_S, 0.0
                time.sleep(pause)
        except Exception:  # the kernel ends: there is no output to write to any more
            return
        finally:
            self.first.set()
            with _showing:
                if _live.get(self._run) is self:
                    del _live[self._run]
            self._rest()

    def _read(self) -> bool:
        """Read the run and show it. When that fails what is shown says so, above what was read last."""
        error = None
        try:
            self._watched.read(_CHANGE_S)
        except Exception as found:  # whatever it is belongs there: nobody sees a thread's traceback
            error = found
        if error is None:
            self._away_since = self._notice = ""
        else:
            self._away_since = self._away_since or f"{datetime.now(UTC):%H:%M:%S} UTC"
            self._notice = f"{what(error)} since {self._away_since}: {error}"
        page = _page(self._run, self._watched, self._notice)
        with self._lock:
            changed, self._page = page != self._page, page
            if self._front is not None:
                self._front.push(self._notice, True)
            elif changed and self._displayed:
                self._publish("update_display")
        return error is None

    def _rest(self) -> None:
        """Nothing moves any more. What the notebook's file keeps is as it is now."""
        try:
            with self._lock:
                if self._front is not None:
                    self._front.push(self._notice, False)
                    self._publish("update_display")
        except Exception:  # as above
            return

    def _publish(self, function: str) -> None:
        """By IPython's `display` or `update_display`."""
        shown = {"text/html": self._page, "text/plain": self._text}
        if self._front is not None:
            shown |= self._front.bundle
        getattr(importlib.import_module("IPython.display"), function)(shown, raw=True, display_id=self._id)


def what(error: Exception) -> str:
    """Whether waiting may help."""
    return (
        "Not reachable"
        if isinstance(error, OSError) or getattr(error, "retryable", False)
        else "Not readable"
    )
