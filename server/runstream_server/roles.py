"""What one process can be: everything, or one of the services of a cluster; all made of the same parts."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from runstream.home import DEFAULT_GRPC_PORT, DEFAULT_HTTP_PORT


class Part(Enum):
    """A part of a server."""

    INGEST = auto()
    """Takes what senders send, into the event log."""
    WRITER = auto()
    """Brings the event log into the tables."""
    QUERY = auto()
    """Answers reads, and serves the pages."""


@dataclass(frozen=True, slots=True)
class Role:
    """A command that starts a server process. The usual ports differ, so that all fit on one machine."""

    name: str
    """Of the command."""
    summary: str
    parts: frozenset[Part]
    grpc_port: int | None
    """Usual port; None: it has no gRPC."""
    http_port: int
    alone: bool = False
    """Nothing else works on its engines: those of one process will do."""

    @property
    def serves(self) -> bool:
        """Whether anybody calls it: a writer is never called."""
        return bool(self.parts & {Part.INGEST, Part.QUERY})


UP: Final = Role(
    "up",
    "start a server: everything in one process",
    frozenset(Part),
    DEFAULT_GRPC_PORT,
    DEFAULT_HTTP_PORT,
    alone=True,
)
INGEST: Final = Role(
    "ingest",
    "start one service of a cluster: takes what scripts log",
    frozenset({Part.INGEST}),
    DEFAULT_GRPC_PORT,
    7302,
)
WRITER: Final = Role(
    "writer",
    "start one service of a cluster: brings the event log into the tables",
    frozenset({Part.WRITER}),
    None,
    7304,
)
QUERY: Final = Role(
    "query",
    "start one service of a cluster: reads and pages",
    frozenset({Part.QUERY}),
    7303,
    DEFAULT_HTTP_PORT,
)
SERVICES: Final = (INGEST, WRITER, QUERY)
