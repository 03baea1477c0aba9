"""Tags of a run."""

from time import time_ns

from runstream.core import values
from runstream.core.handle import RunHandle
from runstream.errors import UserError
from runstream.spool import layout


class RunAttributes(RunHandle):
    """What is said about a run in keys and values."""

    def tag(self, key: str, value: object = None) -> None:
        """Set a tag, again if it is set. Values other than text are stored as text."""
        if not values.is_text(key, 1000):
            raise UserError(f"a tag's key must be a text of 1 to 1,000 characters, not {key!r}")
        if value is not None and not isinstance(value, str):
            value = str(value)
        now = time_ns()
        content: dict[str, object] = {"kind": "tag", "key": key, "value": value, "removed": False}
        self._state.keep(lambda channel: channel.event(layout.ATTRIBUTE_SET, content, now))
