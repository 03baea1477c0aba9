"""Errors of the store.

::

    StoreError
    ├── ConfigError          an address or a setting makes no sense
    ├── ClosedError          the engine was closed
    ├── LogError
    │   ├── LogLocked        another process has the log open
    │   ├── LogFull          no space left; what was appended before is safe (retryable)
    │   ├── LogUnavailable   the log did not answer (retryable)
    │   ├── LogCorrupt       the file is damaged, or newer than this version
    │   ├── RecordTooLarge   a record is larger than the log takes
    │   └── PositionUnknown  a position that this log never gave out
    ├── ObjectsError
    │   ├── ObjectMissing    there is no such object
    │   ├── ObjectsFull      no space left (retryable)
    │   ├── ObjectsUnavailable the storage did not answer (retryable)
    │   ├── ObjectsRefused   the credential or the bucket is wrong
    │   └── SourceCut        a file that was handed over has fewer bytes than were said
    └── TablesError
        ├── TablesLocked     another process has the tables open
        ├── TablesFull       no space left (retryable)
        ├── TablesUnavailable the server did not answer (retryable)
        ├── MigrationError   the tables do not fit this version, or a migration is refused
        ├── RowsRefused      a block does not fit the table
        └── QueryError       the engine refused the query
            ├── QueryTimeout it took longer than allowed
            └── QueryTooLarge it needed more memory than allowed

`retryable` says whether the same call may succeed later without anybody changing something.
"""

from __future__ import annotations

from typing import ClassVar


class StoreError(Exception):
    """Any error of the store."""

    retryable: ClassVar[bool] = False


class ConfigError(StoreError):
    """An address or a setting makes no sense."""


class ClosedError(StoreError):
    """The engine was closed."""


class LogError(StoreError):
    """Any error of the event log."""


class LogLocked(LogError):
    """Another process has the log open. The message names it."""


class LogFull(LogError):
    """No space is left. What was appended before is safe, and later appends work once there is space."""

    retryable = True


class LogUnavailable(LogError):
    """The log did not answer, or the medium failed. Whether the records were kept is unknown."""

    retryable = True


class LogCorrupt(LogError):
    """The file is damaged, no event log, or of a newer format."""


class RecordTooLarge(LogError):
    """A record is larger than `Capabilities.max_record_bytes`."""


class PositionUnknown(LogError):
    """A position after the end of the log: the log is an older copy, or another one."""


class ObjectsError(StoreError):
    """Any error of object storage."""


class ObjectMissing(ObjectsError):
    """There is no such object, or it is shorter than was thought."""


class ObjectsFull(ObjectsError):
    """No space is left."""

    retryable = True


class ObjectsUnavailable(ObjectsError):
    """The storage did not answer. Whether the object was stored is unknown; putting it again is harmless."""

    retryable = True


class ObjectsRefused(ObjectsError):
    """The credential or the bucket is wrong. Somebody must change something."""


class SourceCut(ObjectsError):
    """A file that was handed over has fewer bytes than were said."""


class TablesError(StoreError):
    """Any error of the tables."""


class TablesLocked(TablesError):
    """Another process has the tables open. The message names it."""


class TablesFull(TablesError):
    """No space is left."""

    retryable = True


class TablesUnavailable(TablesError):
    """The server did not answer. Whether the block was stored is unknown; inserting it again is harmless."""

    retryable = True


class MigrationError(TablesError):
    """The tables do not fit this version, or a migration is refused."""


class RowsRefused(TablesError):
    """A block does not fit the table."""


class QueryError(TablesError):
    """The engine refused the query, or failed at it."""


class QueryTimeout(QueryError):
    """The query took longer than allowed, and was stopped."""


class QueryTooLarge(QueryError):
    """The query needed more memory than allowed, and was stopped."""
