"""Counting without a lock."""

from threading import get_ident


class Tally:
    """A sum that threads and signal handlers may add to. Each thread has a part of its own.

    In `parts[thread] += n` the interpreter does not switch to a signal handler between reading and storing.
    """

    __slots__ = ("_parts",)

    def __init__(self) -> None:
        self._parts: dict[int, int] = {}

    def add(self, amount: int = 1) -> None:
        """Add to the sum."""
        parts, thread = self._parts, get_ident()
        parts.setdefault(thread, 0)
        parts[thread] += amount

    def total(self) -> int:
        """The sum."""
        return sum(list(self._parts.values()))
