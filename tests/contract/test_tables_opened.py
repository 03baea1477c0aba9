"""What all tables must do when they are opened, migrated, closed, and when their process dies."""

from __future__ import annotations

import asyncio

import pytest

from runstream_store.errors import ClosedError, MigrationError, TablesLocked
from runstream_store.tables import open_tables
from tests.contract.engines import TablesEngine
from tests.contract.processes import acknowledged, victim
from tests.contract.rows import LONG, count, points


class TestMigrations:
    async def test_they_are_applied_once(self, tables_engine: TablesEngine) -> None:
        async with tables_engine.open(migrated=False) as tables:
            missing = await tables.pending()
            first = await tables.migrate()
            assert first[0] == "0001_initial"
            assert missing == first
            assert await tables.pending() == []
            assert await tables.migrate() == []
            await tables.insert_points(points(0, 10))
        async with tables_engine.open(migrated=False) as tables:
            assert await tables.migrate() == []
            assert await count(tables) == 10
            done = await tables.query("SELECT number, name FROM schema_migrations FINAL ORDER BY number")
            names = [f"{row['number']:04}_{row['name']}" for row in done.to_pylist()]
            assert names == first

    async def test_tables_of_a_newer_version_are_refused(
        self, tables_engine: TablesEngine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from runstream_store.tables import migrate

        here = migrate.load()
        newer = migrate.Migration(
            len(here) + 1, "newer", "CREATE TABLE IF NOT EXISTS t (a UInt8) ENGINE = Log"
        )
        monkeypatch.setattr(migrate, "load", lambda: [*here, newer])
        async with tables_engine.open() as tables:
            monkeypatch.setattr(migrate, "load", lambda: here)
            with pytest.raises(MigrationError, match=f"{newer.number:04}_newer"):
                await tables.migrate()

    async def test_an_edited_migration_is_refused(
        self, tables_engine: TablesEngine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from runstream_store.tables import migrate

        here = migrate.load()
        edited = migrate.Migration(1, "initial", here[0].text.replace("idx UInt32", "idx UInt64"))
        async with tables_engine.open() as tables:
            monkeypatch.setattr(migrate, "load", lambda: [edited, *here[1:]])
            with pytest.raises(MigrationError, match="0001_initial"):
                await tables.migrate()

    async def test_a_migration_that_was_cut_short_is_finished(
        self, tables_engine: TablesEngine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from runstream_store.tables import migrate

        here = migrate.load()
        cut = migrate.Migration(
            1, "initial", here[0].text + ";\nCREATE TABLE IF NOT EXISTS broken (a Nonsense)"
        )
        async with tables_engine.open(migrated=False) as tables:
            monkeypatch.setattr(migrate, "load", lambda: [cut])
            with pytest.raises(Exception, match="Nonsense"):
                await tables.migrate()
            monkeypatch.setattr(migrate, "load", lambda: here)
            assert (await tables.migrate())[0] == "0001_initial"


class TestProcesses:
    async def test_closing(self, tables_engine: TablesEngine) -> None:
        tables = await open_tables(tables_engine.url)
        await tables.migrate()
        inserting = asyncio.create_task(tables.insert_points(points(0, 100_000)))
        querying = [asyncio.create_task(tables.query(LONG, heavy=heavy)) for heavy in (True, True, False)]
        await asyncio.sleep(0.05)
        await asyncio.gather(tables.close(), tables.close())
        await inserting
        for query in querying:
            with pytest.raises(ClosedError):
                await query
        for call in (tables.query("SELECT 1 AS one"), tables.insert_points(points(0, 1)), tables.migrate()):
            with pytest.raises(ClosedError):
                await call
        async with tables_engine.open() as again:
            assert await count(again) == 100_000

    async def test_two_processes(self, tables_engine: TablesEngine) -> None:
        async with victim("hold", tables_engine.url) as process:
            if "many_processes" in tables_engine.missing:
                with pytest.raises(TablesLocked, match=f"process {process.pid} "):
                    await open_tables(tables_engine.url)
            else:
                async with tables_engine.open() as tables:
                    await tables.insert_points(points(0, 1))
        async with tables_engine.open() as tables:  # the dead process holds nothing
            await tables.insert_points(points(1, 1))

    @pytest.mark.faults
    async def test_kill_9_while_inserting(self, tables_engine: TablesEngine) -> None:
        greatest = -1
        for seed in range(4):
            for (number,) in await acknowledged("tables", tables_engine.url, seed):
                greatest = max(greatest, number)
        async with tables_engine.open() as tables:
            found = await tables.query("SELECT seq, value FROM points FINAL ORDER BY seq")
        there = found.num_rows
        assert there >= (greatest + 1) * 1000
        assert found.equals(points(0, there).select(["seq", "value"]).cast(found.schema))
