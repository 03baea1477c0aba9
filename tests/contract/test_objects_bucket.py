"""Sweeps of a bucket, stopped at each step and beside whoever touches what they are about to remove."""

from __future__ import annotations

import asyncio
import hashlib
import math
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from deploy.engines.s3 import S3
from runstream_store.errors import ObjectMissing, ObjectsRefused, ObjectsUnavailable
from runstream_store.objects import Swept, chunk_key, obstore
from runstream_store.objects.obstore import BucketObjects
from tests.contract.engines import s3

pytestmark = pytest.mark.engine

DAY_S = 86_400.0
NEVER = math.inf


class Bucket:
    """A bucket that several servers use."""

    def __init__(self, url: str, servers: Sequence[BucketObjects]) -> None:
        self.url = url
        self.servers = servers
        self._aged = 0.0

    async def put(self, data: bytes, server: int = 0) -> str:
        key = chunk_key(hashlib.sha256(data).digest())
        await self.servers[server].put(key, data)
        return key

    async def age(self) -> None:
        """Nobody has touched for two days what is there."""
        await asyncio.sleep(1.1)  # the times are in whole seconds
        self._aged = await BucketObjects._now(self.servers[0]) - 0.5

    async def sweep(self, *kept: str, server: int = 0, leaving_s: float = NEVER, shards: str = "") -> Swept:
        """By the clock of somebody to whom what was aged is as old as that."""
        names = {key.rpartition("/")[2] for key in kept}
        swept = Swept()
        setattr(self.servers[server], "_now", self._now)  # noqa: B010
        for shard in shards or "0123456789abcdef":
            swept += await self.servers[server].sweep(shard, names, untouched_s=DAY_S, leaving_s=leaving_s)
        return swept

    async def _now(self) -> float:
        return self._aged + DAY_S

    async def inside(self, folder: str) -> set[str]:
        return {found["path"] async for found in self.servers[0]._list(folder)}


@pytest.fixture
async def bucket(s3_server: S3, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bucket]:
    monkeypatch.setattr(obstore, "_TOUCHED_S", -NEVER)  # what was aged is as young as ever to its server
    url = s3(s3_server)
    async with AsyncExitStack() as closing:
        servers = [BucketObjects.open(url) for _ in range(3)]
        for server in servers:
            closing.push_async_callback(server.close)
        made = Bucket(url, servers)
        yield made


@asynccontextmanager
async def a_sweep_that_stops(
    bucket: Bucket, name: str, when: Callable[[str], bool]
) -> AsyncIterator[tuple[asyncio.Task[Swept], asyncio.Event]]:
    """A sweep by the second server that has come to a step, and waits there until it is told to go on."""
    server = bucket.servers[1]
    step = getattr(server, name)
    reached, go = asyncio.Event(), asyncio.Event()

    async def held(key: str) -> object:
        if when(key) and not reached.is_set():
            reached.set()
            await go.wait()
        return await step(key)

    setattr(server, name, held)
    sweeping = asyncio.create_task(bucket.sweep(server=1))
    await reached.wait()
    try:
        yield sweeping, go
    finally:
        setattr(server, name, step)
        sweeping.cancel()
        await asyncio.wait([sweeping])


def is_object(key: str) -> bool:
    return key.startswith("sha256/")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for a sweep."""
    monkeypatch.setattr(obstore, "_PAUSES_S", (0.0,))


async def test_what_nothing_refers_to_is_removed(bucket: Bucket) -> None:
    kept = [await bucket.put(b"kept%d" % n) for n in range(20)]
    lost = [await bucket.put(b"lost%d" % n) for n in range(20)]
    await bucket.age()
    fresh = await bucket.put(b"fresh")
    swept = await bucket.sweep(*kept)
    assert swept == Swept(removed=20, removed_bytes=sum(len(b"lost%d" % n) for n in range(20)))
    assert await bucket.inside("sha256") == {*kept, fresh}
    assert await bucket.inside("leaving") == set()
    assert await bucket.sweep(*kept) == Swept()
    server = bucket.servers[1]
    assert await server.find([*lost, fresh]) == [None] * 20 + [5]
    with pytest.raises(ObjectMissing):
        await server.read(lost[0], 0, 1)
    assert await server.put(lost[0], b"lost0")
    assert await bucket.sweep(*kept) == Swept()
    assert await server.read(lost[0], 0, 5) == b"lost0"


@pytest.mark.parametrize("touch", ["find", "put", "put_all"])
async def test_what_is_touched_stays_until_that_is_long_ago(bucket: Bucket, touch: str) -> None:
    key = await bucket.put(b"content")
    await bucket.age()
    server = bucket.servers[2]
    if touch == "find":
        assert await server.find([key]) == [7]
    elif touch == "put":
        assert not await server.put(key, b"content")
    else:
        await server.put_all([(key, b"content")])
    assert await bucket.sweep() == Swept()
    assert await server.read(key, 0, 7) == b"content"
    await bucket.age()
    assert await bucket.sweep() == Swept(removed=1, removed_bytes=7)
    assert await bucket.inside("touched") == set()


@pytest.mark.usefixtures("impatient")
async def test_what_is_being_removed_is_not_said_to_be_there(bucket: Bucket) -> None:
    key = await bucket.put(b"content")
    await bucket.age()
    server = bucket.servers[0]
    async with a_sweep_that_stops(bucket, "_remove", is_object) as (sweeping, go):
        for _ in range(2):
            with pytest.raises(ObjectsUnavailable, match="try again"):
                await server.find([key])
            with pytest.raises(ObjectsUnavailable, match="try again"):
                await server.put(key, b"content")
        go.set()
        assert (await sweeping).removed == 1
    assert await server.find([key]) == [None]
    assert await server.put(key, b"content")
    assert await server.find([key]) == [7]


async def test_who_touches_before_the_last_look_is_seen(bucket: Bucket) -> None:
    key = await bucket.put(b"content")
    await bucket.age()
    async with a_sweep_that_stops(bucket, "_changed_at", lambda key: not is_object(key)) as (sweeping, go):
        finding = asyncio.create_task(bucket.servers[0].find([key]))
        async with asyncio.timeout(60):
            while not await bucket.inside("touched"):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        go.set()
        assert await sweeping == Swept()
        assert await finding == [7]
    assert await bucket.inside("leaving") == set()


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("step", ["_changed_at", "_remove"])
async def test_a_sweep_that_was_killed_is_waited_for_and_forgotten(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    key = await bucket.put(b"content")
    await bucket.age()
    async with a_sweep_that_stops(bucket, step, is_object) as (sweeping, _):
        sweeping.cancel()
        await asyncio.wait([sweeping])
    assert len(await bucket.inside("leaving")) == 1
    server = bucket.servers[0]
    with pytest.raises(ObjectsUnavailable):
        await server.find([key])
    with monkeypatch.context() as later:
        later.setattr(obstore, "LEAVING_S", -NEVER)
        assert await server.find([key]) == [7]
    assert await bucket.sweep(leaving_s=0.0) == Swept()
    assert await bucket.inside("leaving") == set()
    assert await server.find([key]) == [7]


async def test_who_may_not_remove_anything_leaves_no_notice(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = await bucket.put(b"content")
    await bucket.age()

    async def refused(key: str) -> None:
        raise ObjectsRefused("no right to delete")

    server = BucketObjects.open(bucket.url)
    with monkeypatch.context() as patch:
        patch.setattr(server, "_remove", refused)
        with pytest.raises(ObjectsRefused):
            await server.sweep(key[7], set(), untouched_s=-NEVER, leaving_s=NEVER)
    await server.close()
    assert await bucket.servers[0].find([key]) == [7]


async def test_a_sweep_that_was_held_up_removes_nothing(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = await bucket.put(b"content")
    await bucket.age()
    async with a_sweep_that_stops(bucket, "_changed_at", is_object) as (sweeping, go):
        monkeypatch.setattr(obstore, "_HELD_UP_S", 0.0)
        go.set()
        with pytest.raises(ObjectsUnavailable, match="held up"):
            await sweeping
    assert await bucket.servers[0].read(key, 0, 7) == b"content"


async def test_what_was_found_stays_whatever_is_swept_meanwhile(bucket: Bucket) -> None:
    """Two sweep while the third finds and stores, at moments that chance chooses."""
    chance = random.Random(1)
    contents = {await bucket.put(b"%d" % n): b"%d" % n for n in range(120)}
    await bucket.age()
    server = bucket.servers[2]
    wanted: set[str] = set()

    async def use(key: str) -> None:
        await asyncio.sleep(chance.random() / 10)
        if chance.random() < 0.5:
            await server.put(key, contents[key])
            wanted.add(key)
        elif await server.find([key]) != [None]:
            wanted.add(key)

    for shard in "0123456789abcdef":
        users = [use(key) for key in contents if key.startswith(f"sha256/{shard}") and chance.random() < 0.5]
        sweeps = [bucket.sweep(server=number, shards=shard) for number in (0, 1)]
        await asyncio.gather(*sweeps, *users)
    await bucket.sweep()
    assert await bucket.inside("sha256") == wanted
    assert await bucket.inside("leaving") == set()
