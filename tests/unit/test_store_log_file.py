"""The event log's SQLite file: disks that fill, files that are damaged, space that is used again."""

# ruff: noqa: ASYNC110, ASYNC240 - files are looked at, and there is nothing to wait for but their size
from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sqlite3
from collections.abc import AsyncIterator, Collection
from pathlib import Path

import pytest

from runstream_store.errors import ConfigError, LogCorrupt, LogFull, LogLocked, StoreError
from runstream_store.log import EventLog, NewRecord, open_log, sqlite, sqlite_file
from runstream_store.ownership import OwnedByOther, Ownership
from tests.disks import small_disk as small_disk

MEGABYTE = 1 << 20
LONG_S = 60.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log.sqlite"


@contextlib.asynccontextmanager
async def opened(path: Path) -> AsyncIterator[EventLog]:
    log = await open_log(f"sqlite://{path}")
    try:
        yield log
    finally:
        await log.close()


async def everything(log: EventLog) -> list[bytes]:
    async def start(partitions: Collection[int]) -> dict[int, int]:
        return {}

    consumer = await log.subscribe("points", "test", start)
    found = []
    while records := await consumer.fetch(8 * MEGABYTE, 0.0):
        found += [record.value for record in records]
    await consumer.close()
    return found


async def until_full(log: EventLog) -> list[bytes]:
    """Appends until there is no space; returns what was kept."""
    kept: list[bytes] = []
    for number in range(200):
        value = b"%d:" % number + bytes(MEGABYTE)
        try:
            await log.append("points", [NewRecord(b"", value)])
        except LogFull as error:
            if error.retryable:
                return kept
            raise
        kept.append(value)
    raise AssertionError("it was never full")


async def check_full(log: EventLog, filler: Path | None) -> None:
    kept = await until_full(log)
    assert kept
    assert await everything(log) == kept
    with pytest.raises(LogFull):
        await log.append("points", [NewRecord(b"", bytes(4 * MEGABYTE))])
    if filler is not None:
        filler.unlink()
    await log.append("points", [NewRecord(b"", b"again")])
    assert await everything(log) == [*kept, b"again"]
    await log.trim("points", 0, len(kept))
    assert await everything(log) == [b"again"]


@pytest.mark.faults
async def test_a_full_disk(small_disk: Path) -> None:
    filler = small_disk / "other things"
    filler.write_bytes(bytes(4 * MEGABYTE))
    async with opened(small_disk / "log.sqlite") as log:
        await check_full(log, filler)
        assert len(await until_full(log)) > 1, "what was trimmed makes room"
    async with opened(small_disk / "log.sqlite") as log:
        assert (await everything(log))[0] == b"again"


async def test_a_full_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same without a file system: SQLite refuses to grow the file."""
    limit = {"pages": 600}
    connect = sqlite_file.connect

    def limited(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
        db = connect(path, read_only=read_only)
        if not read_only:
            db.execute(f"PRAGMA max_page_count = {limit['pages']}").fetchall()
        return db

    monkeypatch.setattr(sqlite_file, "connect", limited)
    async with opened(path) as log:
        kept = await until_full(log)
        assert kept
        limit["pages"] = 1 << 20  # the next transaction opens the file anew
        await log.append("points", [NewRecord(b"", b"again")])
        assert await everything(log) == [*kept, b"again"]
        positions = await log.append("points", [NewRecord(b"", b"more")])
        assert positions[0].offset == len(kept) + 1, "what was refused got no offset"


async def test_only_those_appends_fail_that_meet_the_full_disk(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(path) as log:
        await log.append("points", [NewRecord(b"", b"before")])
        insert = sqlite_file._insert
        broken = iter([sqlite3.OperationalError("full"), sqlite3.OperationalError("still full")])

        def failing(*arguments: object) -> None:
            for error in broken:
                error.sqlite_errorcode = sqlite3.SQLITE_FULL
                raise error
            insert(*arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(sqlite_file, "_insert", failing)
        results: list[object] = []
        for number in range(3):
            results += await asyncio.gather(
                log.append("points", [NewRecord(b"", b"%d" % number)]), return_exceptions=True
            )
        assert [isinstance(result, LogFull) for result in results] == [True, False, False]
        assert await everything(log) == [b"before", b"1", b"2"]


async def test_space_is_used_again(path: Path) -> None:
    async with opened(path) as log:
        for _ in range(30):
            positions = await log.append("points", [NewRecord(b"", bytes(MEGABYTE)) for _ in range(8)])
            await log.trim("points", 0, positions[-1].offset + 1)
        assert path.stat().st_size < 100 * MEGABYTE, "240 MB went through it"
        async with asyncio.timeout(LONG_S):
            while path.stat().st_size > 20 * MEGABYTE or path.with_name("log.sqlite-wal").stat().st_size:
                await asyncio.sleep(0.05)


async def test_an_idle_log_does_nothing(path: Path) -> None:
    async with opened(path) as log:
        await log.append("points", [NewRecord(b"", b"x")])
        assert isinstance(log, sqlite.SqliteLog)
        async with asyncio.timeout(LONG_S):
            while log._thread._patience_s is not None:
                await asyncio.sleep(0.05)


async def test_more_than_fits_in_memory_waits(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "_PENDING_BYTES", 100_000)
    monkeypatch.setattr(sqlite, "_TAIL_BYTES", 100_000)
    async with opened(path) as log:
        tasks = [
            asyncio.create_task(log.append("points", [NewRecord(b"", b"%d" % number + bytes(40_000))]))
            for number in range(50)
        ]
        greatest = 0
        assert isinstance(log, sqlite.SqliteLog)
        while not all(task.done() for task in tasks):
            greatest = max(greatest, log._pending)
            await asyncio.sleep(0)
        assert greatest <= 100_000
        assert len(await everything(log)) == 50
        assert log.topic("points").tail_bytes <= 100_000
        await log.append("points", [NewRecord(b"", bytes(300_000))])  # one that is larger goes alone


async def test_the_file_belongs_to_the_user(path: Path) -> None:
    async with opened(path / "folder" / "log.sqlite") as log:
        await log.append("points", [NewRecord(b"", b"x")])
        for file in (path / "folder").iterdir():
            assert file.stat().st_mode & 0o077 == 0, file
        assert (path / "folder").stat().st_mode & 0o077 == 0


async def test_files_that_are_no_log(path: Path) -> None:
    path.write_bytes(b"something else " * 1000)
    with pytest.raises(LogCorrupt):
        await open_log(f"sqlite://{path}")
    path.unlink()
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE other (a)")
    with pytest.raises(LogCorrupt, match="no event log"):
        await open_log(f"sqlite://{path}")


async def test_a_newer_format_is_refused(path: Path) -> None:
    async with opened(path):
        pass
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA user_version = {sqlite_file.FORMAT + 1}")
    with pytest.raises(LogCorrupt, match=f"format {sqlite_file.FORMAT + 1}"):
        await open_log(f"sqlite://{path}")


async def test_damage_in_the_file_is_told(path: Path) -> None:
    async with opened(path) as log:
        await log.append("points", [NewRecord(b"", bytes(MEGABYTE)) for _ in range(8)])
    with path.open("r+b") as file:
        file.seek(2 * sqlite_file._PAGE_SIZE)
        file.write(os.urandom(20 * sqlite_file._PAGE_SIZE))
    with pytest.raises((LogCorrupt, StoreError)):
        async with opened(path) as log:
            await everything(log)


async def test_a_log_that_another_program_writes(path: Path) -> None:
    async with opened(path) as log:
        await log.append("points", [NewRecord(b"", b"before")])
        monkey = sqlite3.connect(path, isolation_level=None)
        with contextlib.closing(monkey):
            monkey.execute("BEGIN IMMEDIATE")
            appending = asyncio.create_task(log.append("points", [NewRecord(b"", b"during")]))
            await asyncio.sleep(0.1)
            assert not appending.done()
            monkey.execute("ROLLBACK")
        await appending
        assert await everything(log) == [b"before", b"during"]


async def test_a_copy_of_an_open_log_can_be_opened(path: Path, tmp_path: Path) -> None:
    """What is in the file and its write-ahead log at any moment is a whole log: as after a kill -9."""
    async with opened(path) as log:
        await log.append("points", [NewRecord(b"", b"%d" % number) for number in range(10)])
        copy = tmp_path / "copy"
        copy.mkdir()
        for file in path.parent.glob("log.sqlite*"):
            if not file.name.endswith((".lock", "-shm")):
                shutil.copy(file, copy)
        async with opened(copy / "log.sqlite") as other:
            assert await everything(other) == [b"%d" % number for number in range(10)]
            assert await other.epoch("points") == await log.epoch("points")


@pytest.mark.parametrize(
    "url", ["sqlite://host/path", "sqlite:relative", "sqlite:///", "sqlite:///a?b=c", "kafk://x", ""]
)
async def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(ConfigError):
        await open_log(url)


async def test_the_same_file_twice_in_one_process(path: Path) -> None:
    async with opened(path) as log:
        with pytest.raises(LogLocked, match=f"process {os.getpid()} "):
            await open_log(f"sqlite://{path}")
        await log.append("points", [NewRecord(b"", b"x")])
    async with opened(path) as log:
        assert await everything(log) == [b"x"]


def test_ownership(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    lock.write_text("garbage")
    owner = Ownership(lock)
    with pytest.raises(OwnedByOther, match=f"process {os.getpid()} on "):
        Ownership(lock)
    owner.release()
    owner.release()
    Ownership(lock).release()
