"""One output of a notebook that follows a run until it is over."""

import importlib
import sys
import threading
import time
from datetime import UTC, datetime
from typing import Any, Final
from uuid import uuid4

from runstream.core.record import FINAL
from runstream.core.run import Run
from runstream.widgets import html
from runstream.widgets.data import widget_data

_FIRST_S: Final = 2.0
_LONGEST_S: Final = 15.0
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
    """The page of a run, and the thread that reads it again and again."""

    def __init__(self, run: Run, text: str) -> None:
        self.thread = threading.Thread(target=self._follow, name=f"runstream-details-{run.id}", daemon=True)
        self.first = threading.Event()
        self._run = run
        self._text = text
        self._id = f"runstream-{uuid4().hex}"
        self._lock = threading.Lock()
        self._displayed = False
        self._data: dict[str, Any] | None = None
        self._away_since = ""
        self._page = html.notice_page(run.id, run.get_portal_url(), "Reading the run …")

    def display(self) -> None:
        """Once more, as it is now."""
        with self._lock:
            self._publish("display")
            self._displayed = True

    def _follow(self) -> None:
        """Until the run is over, and once more then: the end of its log may arrive after it."""
        pause, over = _FIRST_S, False
        try:
            while True:
                began = time.monotonic()
                read = self._read()
                took = time.monotonic() - began if read else 0.0
                self.first.set()
                if read and self._over():
                    if over:
                        return
                    over, pause = True, _FIRST_S
                time.sleep(max(pause, min(_REST * took, _MOST_S)))
                pause = min(pause * 1.3, _LONGEST_S)
        except Exception:  # the kernel ends: there is no output to write to any more
            return
        finally:
            self.first.set()
            with _showing:
                if _live.get(self._run) is self:
                    del _live[self._run]

    def _read(self) -> bool:
        """Read the run and show it. When that fails the page says so, above what was read last."""
        notice, error = "", None
        try:
            self._data = widget_data(self._run)
        except Exception as found:  # whatever it is belongs on the page: nobody sees a thread's traceback
            error = found
        if error is None:
            self._away_since = ""
        else:
            self._away_since = self._away_since or f"{datetime.now(UTC):%H:%M:%S} UTC"
            notice = f"Not reachable since {self._away_since}: {error}"
        if self._data is not None:
            page = html.page(self._data, notice)
        else:
            page = html.notice_page(self._run.id, self._run.get_portal_url(), notice)
        with self._lock:
            if page != self._page:
                self._page = page
                if self._displayed:
                    self._publish("update_display")
        return error is None

    def _over(self) -> bool:
        status = self._data["run_properties"]["status"] if self._data is not None else ""
        return self._run._state.silent or status in FINAL

    def _publish(self, function: str) -> None:
        """By IPython's `display` or `update_display`."""
        shown = {"text/html": self._page, "text/plain": self._text}
        getattr(importlib.import_module("IPython.display"), function)(shown, raw=True, display_id=self._id)
