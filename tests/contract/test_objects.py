"""One suite for every object storage."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from deploy.engines.process import free_ports
from runstream_store.errors import (
    ClosedError,
    ConfigError,
    ObjectMissing,
    ObjectsError,
    ObjectsUnavailable,
    SourceCut,
)
from runstream_store.objects import CHUNK_BYTES, Objects, Swept, chunk_key, open_objects


def named(data: bytes | bytearray) -> str:
    return chunk_key(hashlib.sha256(data).digest())


def test_a_name_tells_the_content() -> None:
    key = named(b"abc")
    assert key == "sha256/ba/ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.mark.parametrize("size", [1, 5, 70_000, 9 << 20])
async def test_what_is_put_is_there(objects: Objects, size: int) -> None:
    data = os.urandom(size)
    key = named(data)
    assert await objects.size(key) is None
    assert await objects.put(key, data)
    assert await objects.size(key) == size
    assert await objects.read(key, 0, size) == data


async def test_the_greatest_object(objects: Objects) -> None:
    data = bytearray(os.urandom(1 << 20) * (CHUNK_BYTES >> 20))
    key = named(data)
    assert await objects.put(key, memoryview(data))
    assert await objects.size(key) == CHUNK_BYTES
    assert await objects.read(key, CHUNK_BYTES - 3, 3) == data[-3:]


async def test_ranges(objects: Objects) -> None:
    data = os.urandom(1000)
    key = named(data)
    await objects.put(key, data)
    for start, length in (0, 1), (999, 1), (10, 500), (0, 1000), (5, 0):
        assert await objects.read(key, start, length) == data[start : start + length]
    for start, length in (0, 1001), (1000, 1), (990, 11):
        with pytest.raises(ObjectsError):
            await objects.read(key, start, length)


async def test_a_second_put_changes_nothing(objects: Objects) -> None:
    data = os.urandom(1000)
    assert await objects.put(named(data), data)
    assert not await objects.put(named(data), data)
    assert await objects.read(named(data), 0, 1000) == data


async def test_many_put_the_same_at_once(objects: Objects) -> None:
    data = os.urandom(100_000)
    made = await asyncio.gather(*(objects.put(named(data), data) for _ in range(20)))
    assert sum(made) == 1
    assert await objects.read(named(data), 0, len(data)) == data


async def test_many_objects_at_once(objects: Objects) -> None:
    contents = [os.urandom(100 + n) for n in range(200)]
    assert all(await asyncio.gather(*(objects.put(named(data), data) for data in contents)))
    read = await asyncio.gather(*(objects.read(named(data), 0, len(data)) for data in contents))
    assert read == contents


@pytest.mark.parametrize("count", [0, 1, 300])
async def test_many_objects_in_one_call(objects: Objects, count: int) -> None:
    contents = [os.urandom(100 + n) for n in range(count)]
    given = [(named(data), data) for data in contents]
    if count:
        await objects.put(*given[0])
    await objects.put_all([*given, *given[:2]])
    read = [await objects.read(key, 0, len(data)) for key, data in given]
    assert read == contents
    absent = named(b"nothing")
    assert await objects.find([*(key for key, _ in given), absent]) == [*map(len, contents), None]


@pytest.mark.parametrize("size", [1, 70_000, 9 << 20])
async def test_bytes_out_of_a_file(objects: Objects, tmp_path: Path, size: int) -> None:
    if not objects.capabilities.takes_files:
        with pytest.raises(NotImplementedError):
            await objects.take(0, 0, 1)
        return
    data = os.urandom(size + 10)
    (tmp_path / "file").write_bytes(data)
    file = os.open(tmp_path / "file", os.O_RDONLY)
    taken = hashlib.sha256(data[5 : 5 + size]).digest()
    for _ in range(2):
        assert await objects.take(file, 5, size) == taken
    with pytest.raises(SourceCut):
        await objects.take(file, 11, size)
    os.close(file)
    assert await objects.read(chunk_key(taken), 0, size) == data[5 : 5 + size]
    os.truncate(tmp_path / "file", 0)
    assert await objects.read(chunk_key(taken), 0, size) == data[5 : 5 + size]


async def test_a_folder_that_was_removed_is_made_again(tmp_path: Path) -> None:
    root = tmp_path / "objects"
    objects = await open_objects(f"file://{root}")
    contents = [os.urandom(100) for _ in range(20)]
    for lost in root, root / "sha256", root / "coming":
        for data in contents:
            await objects.put(named(data), data)
        shutil.rmtree(lost)
        more = os.urandom(100)
        assert await objects.put(named(more), more)
        await objects.put_all([(named(data), data) for data in contents])
        assert [await objects.read(named(data), 0, 100) for data in [*contents, more]] == [*contents, more]
        assert not list((root / "coming").iterdir())
    await objects.close()


DAY_S = 86_400.0


class Sweeps:
    """A folder of objects, and sweeps of all of it."""

    def __init__(self, root: Path, objects: Objects) -> None:
        self.root = root
        self.objects = objects

    async def sweep(self, *kept: str, leaving_s: float = 3600.0) -> Swept:
        digests = {key.rpartition("/")[2] for key in kept}
        swept = Swept()
        for shard in "0123456789abcdef":
            swept += await self.objects.sweep(shard, digests, untouched_s=DAY_S, leaving_s=leaving_s)
        return swept

    async def put(self, data: bytes, *, old: bool = True) -> str:
        await self.objects.put(named(data), data)
        if old:
            self.age(named(data))
        return named(data)

    def age(self, key: str) -> None:
        """Nobody has touched it for two days."""
        then = time.time() - 2 * DAY_S
        os.utime(self.root / key, (then, then))

    def inside(self) -> set[str]:
        """What is in its place."""
        return {str(path.relative_to(self.root)) for path in (self.root / "sha256").glob("*/*")}

    def leaving(self) -> set[str]:
        return {chunk_key(bytes.fromhex(path.name)) for path in (self.root / "leaving").iterdir()}


@pytest.fixture
async def sweeps(tmp_path: Path) -> AsyncIterator[Sweeps]:
    objects = await open_objects(f"file://{tmp_path}/objects")
    yield Sweeps(tmp_path / "objects", objects)
    await objects.close()


async def test_who_refers_to_objects_is_known(objects: Objects) -> None:
    assert await objects.claim("a") == {"a"}
    assert await objects.claim("1-2") == {"a", "1-2"}
    assert await objects.claim("a") == {"a", "1-2"}


async def test_what_nothing_refers_to_is_removed(sweeps: Sweeps) -> None:
    kept, fresh = [await sweeps.put(b"kept%d" % n) for n in range(50)], await sweeps.put(b"new", old=False)
    lost = [await sweeps.put(b"lost%d" % n) for n in range(50)]
    assert await sweeps.sweep(*kept) == Swept(leaving=50)
    assert sweeps.inside() == {*kept, fresh}
    assert sweeps.leaving() == set(lost)
    assert await sweeps.sweep(*kept) == Swept(waiting=50)
    removed = await sweeps.sweep(*kept, leaving_s=0.0)
    assert removed == Swept(removed=50, removed_bytes=sum(len(b"lost%d" % n) for n in range(50)))
    assert (sweeps.inside(), sweeps.leaving()) == ({*kept, fresh}, set())
    assert await sweeps.objects.find(lost) == [None] * 50
    assert await sweeps.objects.size(lost[0]) is None
    with pytest.raises(ObjectMissing):
        await sweeps.objects.read(lost[0], 0, 1)
    assert await sweeps.objects.put(lost[0], b"lost0")
    assert await sweeps.objects.read(lost[0], 0, 5) == b"lost0"


@pytest.mark.parametrize("leaving", [False, True])
@pytest.mark.parametrize("touch", ["find", "put", "put_all", "take", "kept"])
async def test_what_is_touched_stays(sweeps: Sweeps, tmp_path: Path, touch: str, leaving: bool) -> None:
    data = os.urandom(1000)
    key = await sweeps.put(data)
    if leaving:
        assert await sweeps.sweep() == Swept(leaving=1)
    if touch == "find":
        assert await sweeps.objects.find([key]) == [1000]
    elif touch == "put":
        await sweeps.objects.put(key, data)
    elif touch == "put_all":
        await sweeps.objects.put_all([(key, data)])
    elif touch == "take":
        (tmp_path / "file").write_bytes(data)
        file = os.open(tmp_path / "file", os.O_RDONLY)
        await sweeps.objects.take(file, 0, 1000)
        os.close(file)
    kept = [key] if touch == "kept" else []
    for _ in range(3):
        assert (await sweeps.sweep(*kept, leaving_s=0.0)).removed == 0
        assert (sweeps.inside(), sweeps.leaving()) == ({key}, set())
    assert await sweeps.objects.read(key, 0, 1000) == data


async def test_what_was_taken_away_can_be_read(sweeps: Sweeps) -> None:
    key = await sweeps.put(b"content")
    for _ in range(2):
        sweeps.age(key)
        assert await sweeps.sweep() == Swept(leaving=1)
        assert await sweeps.objects.read(key, 0, 7) == b"content"
        assert sweeps.inside() == {key}
        assert await sweeps.sweep() == Swept()
        sweeps.age(key)
        assert await sweeps.sweep() == Swept(leaving=1)
        assert await sweeps.objects.size(key) == 7


async def test_what_was_found_stays_whatever_is_swept_meanwhile(sweeps: Sweeps) -> None:
    """Who asks before it is removed has it for good; who asks later is told that it is not there."""
    found = 0
    for n in range(150):
        data = b"%d" % n
        key = await sweeps.put(data)
        shard = key.rpartition("/")[2][0]

        async def sweep(shard: str = shard) -> None:
            await sweeps.objects.sweep(shard, set(), untouched_s=DAY_S, leaving_s=0.0)

        sweeping = [asyncio.create_task(sweep()) for _ in range(n % 3)]
        asking = [asyncio.create_task(sweeps.objects.find([key])) for _ in range(3)]
        await asyncio.gather(sweep(), sweep(), *sweeping)
        sizes = [(await answer)[0] for answer in asking]
        assert set(sizes) <= {None, len(data)}
        await sweep()
        await sweep()
        if any(size is not None for size in sizes):
            found += 1
            assert await sweeps.objects.read(key, 0, len(data)) == data
        else:
            assert await sweeps.objects.size(key) is None
    assert found


async def test_what_is_not_there(objects: Objects) -> None:
    assert await objects.size(named(b"nothing")) is None
    with pytest.raises(ObjectMissing):
        await objects.read(named(b"nothing"), 0, 1)


async def test_they_are_there_after_a_restart(objects_url: str) -> None:
    data = os.urandom(1000)
    first = await open_objects(objects_url)
    await first.put(named(data), data)
    await first.close()
    await first.close()
    with pytest.raises(ClosedError):
        await first.size(named(data))
    second = await open_objects(objects_url)
    assert await second.read(named(data), 0, 1000) == data
    await second.close()


async def test_two_see_the_same(objects: Objects, objects_url: str) -> None:
    other = await open_objects(objects_url)
    data = os.urandom(1000)
    assert await objects.put(named(data), data)
    assert not await other.put(named(data), data)
    assert await other.size(named(data)) == 1000
    await other.close()


@pytest.mark.parametrize("url", ["ftp://x", "file://host/x", "file:x", "s3://", "s3://b?no_such_option=1"])
async def test_addresses_that_make_no_sense(url: str) -> None:
    with pytest.raises(ConfigError):
        await open_objects(url)


async def test_a_server_that_is_not_there_may_come_back() -> None:
    url = f"s3://b?endpoint=http://127.0.0.1:{free_ports(1)[0]}&access_key_id=a&secret_access_key=b"
    objects = await open_objects(url)
    with pytest.raises(ObjectsUnavailable) as failed:
        await objects.put("sha256/aa/aa", b"x")
    assert failed.value.retryable
    await objects.close()
