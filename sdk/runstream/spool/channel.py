"""A run's way into a writer."""

from runstream.spool import layout
from runstream.spool.layout import Bytes
from runstream.spool.writer import Writer


class Channel:
    """One run in one writer. It never changes to another writer: after a fork the run gets a new channel.

    The dictionaries hold the third word of a slot by metric name, as `Run.log` needs it.
    """

    __slots__ = ("doubles", "index", "integers", "writer")

    def __init__(self, writer: Writer, index: int) -> None:
        self.writer = writer
        self.index = index
        self.doubles: dict[str, int] = {}
        self.integers: dict[str, int] = {}

    def scalar(
        self, metric: str, description: str, kind: int, value: float | int, step: int, time_ns: int
    ) -> bool:
        """Write a number. False when it was dropped. Raises OSError when its series can't be defined."""
        series = self.writer.series(metric, "", description)
        if not description:  # the next call is a fast one
            if kind == layout.DOUBLE:
                self.doubles[metric] = layout.make_key(kind, self.index, series)
            elif kind == layout.INT64:
                self.integers[metric] = layout.make_key(kind, self.index, series)
        return self.writer.scalar(self.index, series, kind, value, step, time_ns)

    def text(self, metric: str, description: str, kind: int, text: bytes, step: int, time_ns: int) -> bool:
        """Write a text, or an integer of any size as text."""
        series = self.writer.series(metric, "", description)
        return self.writer.record(self.index, kind, [[text]], time_ns, series=series, step=step)

    def event(self, kind: int, content: dict[str, object], time_ns: int, last_words: bool = False) -> bool:
        """Write what happened to the run."""
        parts: list[list[Bytes]] = [[layout.json_bytes({**content, "time_ns": time_ns})]]
        return self.writer.record(self.index, kind, parts, time_ns, last_words=last_words)

    def log(self, path: str, data: bytes, time_ns: int) -> bool:
        """Write a piece of a log."""
        self.writer.log(self.index, path, data, time_ns)
        return True

    def log_folder(self, content: dict[str, object]) -> bool:
        """Write which folder of logs the run has, or no longer has."""
        self.writer.console.folder(self.index, content)
        return True

    def block(self, parts: list[list[Bytes]], series: int, time_ns: int) -> bool:
        """Write the elements of a list or table."""
        return self.writer.record(self.index, layout.BLOCK_RECORD, parts, time_ns, series=series)
