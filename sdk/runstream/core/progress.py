"""A line that shows how far a transfer is: on a terminal or in a notebook, and only when it takes long."""

import sys
import time
from types import TracebackType
from typing import Final, Self

_QUIET_S: Final = 1.0
_EVERY_S: Final = 0.2
_WIDTH: Final = 24


class Progress:
    """Shows the bytes of one transfer. Calling it adds some."""

    def __init__(self, what: str, total: int) -> None:
        """`total` is 0 when nobody knows."""
        self._what = what if len(what) <= 40 else "…" + what[-39:]
        self._total = total
        self._done = 0
        self._began = time.monotonic()
        self._next = self._began + _QUIET_S
        self._shown = 0
        self._visible = _visible()

    def __call__(self, size: int) -> None:
        self._done += size
        if self._visible and time.monotonic() >= self._next:
            self._next = time.monotonic() + _EVERY_S
            self._show()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._shown:
            self._show()
            self._print("\n")

    def _show(self) -> None:
        took = max(time.monotonic() - self._began, 1e-9)
        rate = f"{self._done / took / 1e6:,.0f} MB/s"
        if self._total:
            part = min(self._done / self._total, 1.0)
            full = round(part * _WIDTH)
            bar = f"[{'#' * full}{'.' * (_WIDTH - full)}] {part:4.0%}"
            line = f"{self._what} {bar} of {self._total / 1e6:,.0f} MB, {rate}"
        else:
            line = f"{self._what} {self._done / 1e6:,.0f} MB, {rate}"
        self._print("\r" + line.ljust(self._shown))
        self._shown = len(line)

    def _print(self, text: str) -> None:
        try:
            sys.stderr.write(text)
            sys.stderr.flush()
        except (OSError, ValueError, AttributeError):
            self._visible = False


def _visible() -> bool:
    if "ipykernel" in sys.modules:
        return True
    try:
        return sys.stderr.isatty()
    except (ValueError, AttributeError):  # closed, or there is none
        return False
