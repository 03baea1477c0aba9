"""The widget's front end in a notebook: its state, which the kernel keeps up to date, and what it asks for.

anywidget is optional (`pip install 'runstream[widget]'`). State is pushed by the thread that follows the run,
so it arrives while a cell runs. What the front end asks for, a closer look at a chart, waits for the cell.
"""

from __future__ import annotations

import functools
import math
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from runstream.widgets.images import image
from runstream.widgets.watched import MOST_METRICS, Watched

SCRIPT: Final = Path(__file__).with_name("static") / "widget.js"
VIEW: Final = "application/vnd.jupyter.widget-view+json"


def possible() -> bool:
    """Whether a front end can be shown: anywidget and the script are there, and what drives the kernel is a
    front end that shows widgets.

    A client in Python, as nbconvert and papermill are, shows none, and would keep the widget in the file in
    the place of what can be seen without a kernel. Its message ids begin with that of its session.
    """
    if not SCRIPT.is_file() or _widget_class() is None:
        return False
    shell = sys.modules["IPython"].get_ipython()
    header = shell.kernel.get_parent().get("header", {})
    session = header.get("session")
    return not (session and str(header.get("msg_id", "")).startswith(f"{session}_"))


@functools.cache
def _widget_class() -> Any:
    """The widget. None without anywidget."""
    try:
        import anywidget
        import traitlets
    except ImportError:
        return None
    synced: dict[str, Any] = {
        # One trait a chart: only what has changed is sent.
        name: traitlets.Dict(allow_none=True, default_value=None).tag(sync=True)
        for name in (
            "run", "log", "children", "images", *(f"chart_{n}" for n in range(MOST_METRICS))
        )
    }  # fmt: skip
    synced["series"] = traitlets.List().tag(sync=True)
    synced["notice"] = traitlets.Unicode().tag(sync=True)
    synced["readings"] = traitlets.Int().tag(sync=True)
    synced["live"] = traitlets.Bool(True).tag(sync=True)
    return type("RunView", (anywidget.AnyWidget,), {"_esm": SCRIPT, **synced})


class Front:
    """One model; its views in the page are as many as its outputs."""

    def __init__(self, watched: Watched) -> None:
        self._watched = watched
        self._slots: dict[str, str] = {}
        self._pushed: dict[str, Any] = {}
        self._readings = 0
        self._widget = _widget_class()(**self._news())
        self._widget.on_msg(self._asked)

    @property
    def bundle(self) -> dict[str, Any]:
        """What stands for it in an output."""
        return {VIEW: {"version_major": 2, "version_minor": 0, "model_id": self._widget.model_id}}

    def push(self, notice: str, live: bool) -> None:
        """Send what has changed, and that it was looked at."""
        self._readings += 1
        news = self._news(notice, live)
        with self._widget.hold_sync():
            for name, value in news.items():
                setattr(self._widget, name, value)

    def _news(self, notice: str = "", live: bool = True) -> dict[str, Any]:
        watched = self._watched
        now: dict[str, Any] = {
            "run": watched.properties or None,
            "series": [info.message() for info in watched.series.values()],
            "log": {"text": watched.log},
            "children": {
                "runs": [
                    {
                        **{key: child[key] for key in ("run_id", "name", "status", "parameters")},
                        "metrics": {
                            name: value if math.isfinite(value) else None
                            for name, value in watched.child_metrics.get(child["run_id"], {}).items()
                        },
                    }
                    for child in watched.children
                ]
            },
            "images": {
                "rows": [{"metric": name, "values": values} for name, values in watched.images.items()]
            },
            "notice": notice,
            "readings": self._readings,
            "live": live,
        }
        for metric, chart in watched.charts.items():
            if metric in self._slots or len(self._slots) < MOST_METRICS:
                slot = self._slots.setdefault(metric, f"chart_{len(self._slots)}")
                now[slot] = chart
        news = {name: value for name, value in now.items() if self._pushed.get(name) != value}
        self._pushed |= news
        return news

    def _asked(self, _: Any, content: Any, __: Any) -> None:
        """A wish of the front end. It is read in a thread: the kernel's own is for cells."""
        if isinstance(content, dict) and isinstance(content.get("id"), int):
            threading.Thread(
                target=self._answer, args=(content,), name="runstream-widget", daemon=True
            ).start()

    def _answer(self, wish: dict[str, Any]) -> None:
        reply: dict[str, Any] = {"id": wish["id"]}
        buffers: list[bytes] = []
        try:
            found = _WISHES[wish["kind"]](self._watched, wish)
        except Exception as error:  # shown where it was asked for
            reply["error"] = str(error) or type(error).__name__
        else:
            for name, value in found.items():
                if isinstance(value, bytes):
                    reply[name] = {"buffer": len(buffers)}
                    buffers.append(value)
                else:
                    reply[name] = value
        self._widget.send(reply, buffers)


def _line(watched: Watched, wish: dict[str, Any]) -> dict[str, Any]:
    """A closer look at a metric: `metric`, `low` and `high` (steps), `buckets`."""
    buckets = min(max(int(wish["buckets"]), 16), 4096)
    low, high = (max(-(2**63) + 1, min(2**63 - 1, int(wish[end]))) for end in ("low", "high"))
    line = watched.line(str(wish["metric"]), buckets=buckets, low=low, high=high)
    return line.message() if line is not None else {"axis": "step", "raw": True}


def _image(watched: Watched, wish: dict[str, Any]) -> dict[str, Any]:
    """An image: `path`."""
    return image(watched.run, str(wish["path"]))


_WISHES: Final[dict[str, Callable[[Watched, dict[str, Any]], dict[str, Any]]]] = {
    "line": _line,
    "image": _image,
}
