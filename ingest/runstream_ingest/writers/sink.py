"""What differs between the writers: a sink for each topic."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

from runstream_ingest.batch import Description
from runstream_ingest.records import Received

if TYPE_CHECKING:
    import pyarrow as pa

C = TypeVar("C")

Rows = list[tuple[str, "pa.Table"]]
"""Tables by name, to be inserted in this order."""


class Sink(Protocol[C]):
    """Turns records of one topic into rows. In threads; `decode` beside the others, which come one by one."""

    topic: str
    consumer: str

    def decode(self, received: Received, /) -> tuple[C, int]:
        """The content of a record, fully checked, and its number of rows.

        :raises RecordRefused: it can't be stored.
        """
        ...

    def build(self, contents: Sequence[C], /) -> Rows:
        """The rows of a block."""
        ...

    def rest(self) -> Rows:
        """Rows that `build` kept back, to be inserted before the applied position is saved."""
        ...

    def forget(self) -> None:
        """What `build` gave may not have been stored, and will be built again."""
        ...

    def describe(self, received: Received, /) -> Description:
        """What a refused record was about. Never raises."""
        ...


@runtime_checkable
class AboutRuns(Protocol):
    """A sink of records that are about runs, of which more is made: see `Derived`."""

    def runs(self, content: Any, /) -> Iterable[tuple[str, str]]:
        """Workspace and id of the runs that a record is about."""
        ...
