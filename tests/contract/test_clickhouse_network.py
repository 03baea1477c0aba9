"""The tables over a network that fails, and over TLS with a password."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote, urlsplit

import pyarrow as pa
import pytest

from deploy.engines.clickhouse import ClickHouse, Login
from runstream_store.errors import ConfigError, StoreError, TablesUnavailable
from runstream_store.tables import Tables, open_tables
from tests.contract.rows import points
from tests.cutting import CuttingProxy
from tests.engines import running

T = TypeVar("T")
SEEDS = [1, 2]


async def stored(tables: Tables) -> dict[str, list[int]]:
    """The seq of every element there is, once for each row that a read sees, by run."""
    found = await tables.query("SELECT run, seq FROM points FINAL ORDER BY run, seq")
    result: dict[str, list[int]] = {}
    for run, seq in zip(found.column("run").to_pylist(), found.column("seq").to_pylist(), strict=True):
        result.setdefault(run, []).append(seq)
    return result


@pytest.mark.parametrize("seed", SEEDS)
async def test_inserts_over_connections_that_are_cut(clickhouse_server: str, seed: int) -> None:
    """Blocks of up to 5,000 elements; a connection may be cut in the middle of an insert (the server never
    has the whole of it), or of the answer (it has, and nobody knows)."""
    chance = random.Random(seed)
    database = f"test_{os.urandom(8).hex()}"
    direct = await open_tables(f"{clickhouse_server}/{database}")
    address = urlsplit(clickhouse_server)
    async with CuttingProxy(address.port or 8123, seed) as proxy:
        url = f"clickhouse://{address.netloc.rpartition(':')[0]}:{proxy.port}/{database}"
        try:
            await direct.migrate()
            tables = await _patiently(url)
            expected: dict[str, list[int]] = {}
            failures = first = 0
            for _ in range(20):
                block = points(first, chance.choice([1, 500, 5_000]), run=chance.choice("ab"))
                failures += await _insert(tables, block)
                run = block.column("run")[0].as_py()
                expected.setdefault(run, []).extend(block.column("seq").to_pylist())
                first += block.num_rows
            assert await stored(direct) == expected
            print(f"seed {seed}: {proxy.cut} cut, {proxy.lost_answers} answers lost, {failures} told")
            assert proxy.cut >= 3
            assert proxy.lost_answers >= 1
            # Reads fail with an error that may be tried again, or are whole.
            for _ in range(20):
                try:
                    assert await stored(tables) == expected
                except TablesUnavailable:
                    pass
            proxy.heal()
            assert await _after_healing(tables) == expected
            await tables.close()
        finally:
            await direct.close()


async def _patiently(url: str) -> Tables:
    while True:
        try:
            return await open_tables(url)
        except TablesUnavailable:
            pass


async def _insert(tables: Tables, block: pa.Table) -> int:
    """Inserts as a writer does: the same block until it is taken. How often that failed."""
    failures = 0
    while True:
        try:
            await tables.insert_points(block)
            return failures
        except TablesUnavailable:
            failures += 1


async def _after_healing(tables: Tables) -> dict[str, list[int]]:
    while True:
        try:
            return await stored(tables)
        except TablesUnavailable:  # a connection that was kept from before
            pass


@pytest.fixture
def guarded(tmp_path: Path, certificate: Path) -> ClickHouse:
    return ClickHouse(tmp_path / "guarded", login=Login("ada", "p:a/s@s w&rd", certificate / "both.pem"))


async def test_tls_with_a_password(guarded: ClickHouse, certificate: Path, tmp_path: Path) -> None:
    trust = f"ca_cert={quote(str(certificate / 'cert.pem'))}"
    with running(lambda: guarded):
        tables = await open_tables(f"{guarded.url}/guarded?{trust}")
        await tables.migrate()
        await tables.insert_points(points(0, 10))
        assert await stored(tables) == {"run": list(range(10))}
        await tables.close()

        (tmp_path / "word").write_text("p:a/s@s w&rd\n")
        place = guarded.url.rpartition("@")[2]
        by_file = f"clickhouses://ada@{place}/guarded?{trust}&password_file={tmp_path}/word"
        tables = await open_tables(by_file)
        assert await stored(tables) == {"run": list(range(10))}
        await tables.close()

        for wrong in (f"clickhouses://ada:no@{place}/guarded?{trust}", f"{guarded.url}/guarded"):
            with pytest.raises(StoreError) as told:  # a wrong password; a certificate nobody vouches for
                await open_tables(wrong)
            assert "w&rd" not in str(told.value)


async def test_addresses_that_make_no_sense(tmp_path: Path) -> None:
    refused: list[tuple[str, Callable[[str], bool]]] = [
        ("clickhouse://h/d?colour=red", lambda text: "colour" in text and "password_file" in text),
        ("clickhouse://h/d?ca_cert=/x", lambda text: "clickhouses://" in text),
        (f"clickhouses://h/d?ca_cert={tmp_path}/none", lambda text: f"{tmp_path}/none" in text),
        ("http://u:secret@h/d", lambda text: "secret" not in text),
    ]
    for url, says in refused:
        with pytest.raises(ConfigError) as told:
            await open_tables(url)
        assert says(str(told.value)), told.value
