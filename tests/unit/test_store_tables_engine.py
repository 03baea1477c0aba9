"""What is particular to the tables in chDB: addresses, full disks, errors."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pytest
from clickhouse_connect.driver.exceptions import DatabaseError, OperationalError

from runstream_store import errors
from runstream_store.tables import Tables, open_tables
from runstream_store.tables.clickhouse_client import translate
from tests.contract.rows import points
from tests.disks import small_disk as small_disk


@pytest.mark.parametrize(
    "url",
    [
        "chdb://host/path",
        "chdb:relative",
        "chdb:///",
        "chdb:///a?b=c",
        "clickhouse:///database",
        "clickhouse://host/data-base",
        "clickhouse://host/a;b",
        "clickhouse://host/database?nonsense=1",
        "mysql://host/database",
        "",
    ],
)
async def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(errors.ConfigError):
        await open_tables(url)


async def test_a_server_that_is_not_there() -> None:
    with pytest.raises(errors.TablesUnavailable) as caught:
        await open_tables("clickhouse://127.0.0.1:1/database")
    assert caught.value.retryable


async def test_one_folder_in_a_process(tmp_path: Path) -> None:
    tables = await open_tables(f"chdb://{tmp_path}/one")
    try:
        for name in ("one", "other"):
            with pytest.raises(errors.TablesLocked):
                await open_tables(f"chdb://{tmp_path}/{name}")
        found = await tables.query("SELECT 1 AS one")
        assert found.column("one").to_pylist() == [1]
    finally:
        await tables.close()
    tables = await open_tables(f"chdb://{tmp_path}/other")
    await tables.close()


@pytest.mark.faults
async def test_a_full_disk(small_disk: Path) -> None:
    filler = small_disk / "other things"
    filler.write_bytes(bytes(12 << 20))
    tables = await open_tables(f"chdb://{small_disk}/tables")
    try:
        await tables.migrate()
        kept = await until_full(tables)
        assert kept
        filler.unlink()
        await tables.insert_points(noise(kept // 20_000))
        found = await tables.query("SELECT count() AS n FROM points FINAL")
        assert found.column("n").to_pylist() == [kept + 20_000]
    finally:
        await tables.close()


def noise(number: int) -> pa.Table:
    """20,000 points that don't compress."""
    block = points(number * 20_000, 20_000)
    texts = pa.array([os.urandom(40).hex() for _ in range(20_000)])
    return block.set_column(block.schema.get_field_index("text"), "text", texts)


async def until_full(tables: Tables) -> int:
    """Inserts until there is no space; returns how many rows were kept."""
    for number in range(100):
        try:
            await tables.insert_points(noise(number))
        except errors.TablesFull as error:
            if error.retryable:
                return number * 20_000
            raise
    raise AssertionError("it was never full")


@pytest.mark.parametrize(
    ("code", "writes", "expected"),
    [
        (243, True, errors.TablesFull),
        (252, True, errors.TablesUnavailable),
        (241, True, errors.TablesUnavailable),
        (159, True, errors.TablesUnavailable),
        (53, True, errors.RowsRefused),
        (49, True, errors.TablesError),
        (159, False, errors.QueryTimeout),
        (394, False, errors.QueryTimeout),
        (241, False, errors.QueryTooLarge),
        (202, False, errors.TablesUnavailable),
        (47, False, errors.QueryError),
    ],
)
def test_errors(code: int, writes: bool, expected: type[errors.TablesError]) -> None:
    assert type(translate(DatabaseError("x", code=code), writes=writes)) is expected


def test_errors_of_the_network() -> None:
    for error in (OperationalError("refused"), ConnectionResetError("reset")):
        assert type(translate(error, writes=True)) is errors.TablesUnavailable
        assert type(translate(error, writes=False)) is errors.TablesUnavailable
