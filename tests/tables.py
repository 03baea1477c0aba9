"""Tables that many tests use, one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from runstream_store.tables import Tables, open_tables
from runstream_store.tables.clickhouse import ClickHouseTables
from runstream_store.tables.clickhouse_client import embedded

_USED = """
SELECT name FROM system.tables
WHERE database = currentDatabase() AND total_rows > 0 AND name != 'schema_migrations'
"""


async def command(tables: Tables, sql: str) -> None:
    """Runs a statement of the engine's own."""
    assert isinstance(tables, ClickHouseTables)
    await tables._writer.run(lambda client: client.command(sql))


async def empty(tables: Tables) -> None:
    """Removes all rows."""
    for name in (await tables.query(_USED)).column("name").to_pylist():
        await command(tables, f"TRUNCATE TABLE {name}")


class KeptTables:
    """Tables in chDB, whose engine goes on while no test has them open.

    Each start of it takes time, and leaves threads with three descriptors each in the process.
    """

    def __init__(self, folder: Path) -> None:
        self._url = f"chdb://{folder}"
        self._user: Path | None = None

    async def open(self, user: Path) -> Tables:
        """Opens them: empty, unless the same user had them before."""
        tables = await open_tables(self._url)
        if self._user != user:
            await tables.migrate()
            await empty(tables)
            self._user = user
        return tables


@contextmanager
def kept(folder: Path) -> Iterator[KeptTables]:
    """Meanwhile this process can open no other folder."""
    folder.mkdir()
    with closing(embedded(folder, writes=True)):
        yield KeptTables(folder)
