"""What the tables do: columns in, columns out.

Rows are never changed, and removed only when the run is that they are of (`remove`). Each table's sorting key
is the identity of its rows, so inserting a row again, in any grouping, is harmless: reads with `FINAL` see it
once. `docs/formats.md` says what the tables hold; `tables.schema` has their columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What one engine can do, and others perhaps not."""

    name: str
    many_processes: bool
    """Several processes may use the tables at the same time."""
    stops_queries: bool
    """A query that took too long, or whose caller was cancelled, is stopped and frees its reader."""


class Tables(Protocol):
    """Columnar tables that understand ClickHouse's SQL. Safe for many tasks of one event loop."""

    @property
    def capabilities(self) -> Capabilities:
        """What this engine can do."""
        ...

    async def migrate(self) -> list[str]:
        """Brings the tables to this version's form; returns the names of the migrations that were applied.

        :raises MigrationError: they are newer than this version, or an applied migration is not what it was.
        """
        ...

    async def pending(self) -> list[str]:
        """The names of the migrations that `migrate` would apply.

        :raises MigrationError: as `migrate`.
        """
        ...

    async def insert_points(self, block: pa.Table, /) -> None:
        """Inserts elements. The same as `insert("points", block)`."""
        ...

    async def insert(self, table: str, rows: pa.Table, /) -> None:
        """Inserts rows; once it returns they are durable and visible to every query that begins afterwards.

        The columns are those of `tables.schema.SCHEMAS[table]`, in any order; text may be dictionary-encoded.
        Inserts run one after the other, in the order of the calls. After an exception, a cancellation or a
        crash the block is there as a whole, in part or not at all: insert it again.

        :raises RowsRefused: the block does not fit the table.
        :raises TablesFull: no space; try later.
        :raises TablesUnavailable: the server did not answer; try later.
        """
        ...

    async def query(
        self,
        sql: str,
        params: Mapping[str, object] | None = None,
        /,
        *,
        heavy: bool = False,
        timeout_s: float | None = None,
    ) -> pa.Table:
        """Runs a SELECT and gives its columns.

        `{name:Type}` in the SQL stands for `params[name]`: values never become part of the text. `sql`
        contains nothing that a user wrote, and no SETTINGS.

        Names (LowCardinality) come dictionary-encoded. Text whose bytes may not be UTF-8 (`run_events.event`)
        comes as Arrow strings all the same: cast it to binary before looking into it.

        :param heavy: it may take long or give many rows. Heavy queries share a part of the readers, so that
            others never wait behind them.
        :param timeout_s: stop it after so many seconds.
        :raises QueryTimeout: it took longer than `timeout_s`.
        :raises QueryTooLarge: it needed more memory than a query may have.
        :raises QueryError: the engine refused it.
        :raises TablesUnavailable: the server did not answer.
        """
        ...

    async def derive(
        self,
        table: str,
        columns: Sequence[str],
        sql: str,
        params: Mapping[str, object],
        /,
        *,
        timeout_s: float,
    ) -> None:
        """Inserts what a SELECT gives, within the engine. For tables whose rows are made of other tables.

        After an exception some rows may be there. A server's answer that was cut short is taken for a good
        one: whoever derives looks through what is stale at its next start. Not one of the readers is used,
        and inserts do not wait for it.

        :param columns: of the table, in the order of the SELECT's.
        :param sql: as of `query`.
        :raises TablesUnavailable: try again.
        :raises TablesError: the engine refused it.
        """
        ...

    async def remove(self, table: str, condition: str, params: Mapping[str, object], /) -> None:
        """Removes rows of a table.

        Once it returns no query that begins afterwards sees them, and their bytes are given back soon.
        It makes the parts of the table anew that hold such rows, so it is for many rows at a time. What is
        inserted meanwhile may stay. After an exception or a crash some rows may be gone, and others may go
        later: do it again. Inserts and queries do not wait for it.

        :param condition: SQL as of `query`, over the table's columns.
        :raises TablesUnavailable: try again.
        :raises TablesError: the engine refused it.
        """
        ...

    async def close(self) -> None:
        """Waits for the insert under way, ends the queries and frees the engine. May be called again."""
        ...
