"""Logging to a run: scalars, lists, rows, tables."""

from collections.abc import Mapping
from time import time_ns
from typing import Any, Final

from runstream.core import values
from runstream.core.handle import RunHandle
from runstream.core.notices import say
from runstream.spool import blocks, layout
from runstream.spool.blocks import Column, Scalar
from runstream.spool.channel import Channel

_NO_STEP: Final = layout.NO_STEP
_LOWEST: Final = -(2**63) + 1
_HIGHEST: Final = 2**63 - 1


class RunLogging(RunHandle):
    """What a script logs to its run.

    A call costs about half a microsecond, never waits for a server and never fails because of one.
    """

    def log(self, name: str, value: Any, description: str = "", step: int | None = None) -> None:
        """Log a value: a number, bool, text or None. The same name again makes a series of them.

        `step` orders the values of a name when all of them have one; it may repeat and go back.
        """
        # The time before the sequence number: who is stopped in between has an early time, never a late one.
        now = time_ns()
        channel = self._state.channel
        try:
            if isinstance(value, float):
                key = channel.doubles[name]
                segment = channel.writer.segment
                words: memoryview[float] | memoryview[int] = segment.doubles
            elif type(value) is int and _LOWEST <= value <= _HIGHEST:
                key = channel.integers[name]
                segment = channel.writer.segment
                words = segment.values
            else:
                return self._log(now, name, value, description, step)
            if description:
                return self._log(now, name, value, description, step)
            number = step
            if number is None:
                number = _NO_STEP
            elif type(step) is not int or not _LOWEST <= step <= _HIGHEST:
                return self._log(now, name, value, description, step)
            # One step of an iterator claims a slot, for this thread and call alone. From here to the last
            # store the interpreter neither switches threads nor runs signal handlers.
            for at in segment.free:
                words[at] = value
                segment.steps[at] = number
                segment.keys[at] = key
                segment.times[at] = now  # the commit
                return None
        except (KeyError, TypeError, ValueError):
            pass  # a new name, a name that is none, or this is a fork in the middle of the call
        return self._log(now, name, value, description, step)

    def _log(self, now: int, name: Any, value: Any, description: Any, step: Any) -> None:
        """Log anything that isn't a number of a known name, or does not fit into the segment at hand."""
        name = values.metric_name(name)
        step = values.step_number(step)
        found: Scalar = values.scalar_or_text(name, value)
        text = values.description_text(description)
        if isinstance(found, str):
            payload = layout.utf8(found)
            kind = layout.TEXT_RECORD
        elif isinstance(found, int) and not -(2**63) <= found < 2**63:
            payload = blocks.decimal(found)
            kind = layout.BIG_INTEGER_RECORD
        else:
            number = found if found is not None else 0
            if found is None:
                kind = layout.NONE
            elif isinstance(found, bool):
                kind = layout.BOOL
            else:
                kind = layout.DOUBLE if isinstance(found, float) else layout.INT64
            self._state.keep(lambda channel: channel.scalar(name, text, kind, number, step, now))
            return
        if len(payload) > layout.MOST_TEXT_BYTES:
            return self._refuse(name, f"a text of {len(payload):,} bytes")
        self._state.keep(lambda channel: channel.text(name, text, kind, payload, step, now))

    def _refuse(self, name: str, what: str) -> None:
        """Count a call that is over a limit, and say so: no limit of ours ends a training."""
        most = layout.MOST_TEXT_BYTES >> 20
        say(
            f"{name!r}: {what} is not kept, since a metric takes up to {most} MiB a text. "
            "This call, and others like it, are counted as dropped",
            once="long text",
        )
        self._state.keep(lambda channel: channel.writer.drop(channel.index))

    # ---------------------------------------------------------------------- lists, rows, tables

    def log_list(self, name: str, value: Any, description: str = "") -> None:
        """Log the elements of an iterable, in one piece. An empty one is kept as empty."""
        now = time_ns()
        name = values.metric_name(name)
        self._log_columns(name, {"": values.elements(name, value)}, description, now)

    def log_row(self, /, name: str, description: str | None = None, **kwargs: Any) -> None:
        """Log one row of a table; the keyword arguments are its cells."""
        now = time_ns()
        name = values.metric_name(name)
        columns = {
            values.column_name(name, key): values.cell(name, key, value) for key, value in kwargs.items()
        }
        self._log_columns(name, columns, description, now)

    def log_table(self, name: str, value: Mapping[str, Any], description: str = "") -> None:
        """Log rows of a table: a dictionary of columns of one length, or of single values."""
        now = time_ns()
        name = values.metric_name(name)
        self._log_columns(name, values.table_columns(name, value), description, now)

    def _log_columns(self, name: str, columns: dict[str, Column], description: Any, now: int) -> None:
        text = values.description_text(description)
        if not columns:
            columns = {"": blocks.TABLE_DECLARATION}

        def write(channel: Channel) -> bool:
            series = [channel.writer.series(name, column, text) for column in columns]
            parts = blocks.encode(list(zip(series, columns.values(), strict=True)))
            return channel.block(parts, series[0], now)

        try:
            self._state.keep(write)
        except blocks.TextTooLongError as error:
            self._refuse(name, str(error))
