"""Object storage in a bucket: S3 and what speaks it, Google Cloud Storage, Azure Blob Storage.

A put with the condition "unless it is there" is one request, so an object is whole or not there. Not all that
call themselves S3 know the condition; SeaweedFS and MinIO do.

Sweeping. An object can't be set aside and had back in one step, and a removal can't be made to depend on when
the object was last touched. So there are notices: a sweep first writes down in `leaving` what it is about to
remove, then looks once more when each was touched, removes it if that is long ago, and withdraws the notice.
Who touches an object looks for notices afterwards, and then whether the object is there. So either the sweep
sees the touch, or who touched sees the notice, waits until it is withdrawn, and begins again. An object is
touched when it is stored; later, by an empty one in `touched`. The notice of a sweep that was killed holds
for an hour; long before, a sweep that was held up removes nothing more.

This needs a storage in which whatever was written is seen at once, in lists too; all of the above are so.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from datetime import timedelta
from functools import partial
from typing import Any, Final, Literal, Self, TypeVar
from urllib.parse import parse_qsl, urlsplit

import obstore
from obstore import exceptions
from obstore.store import from_url

from runstream_store.errors import (
    ClosedError,
    ConfigError,
    ObjectMissing,
    ObjectsRefused,
    ObjectsUnavailable,
)
from runstream_store.objects.protocol import LEAVING_S, Buffer, Capabilities, Swept

_AT_ONCE: Final = 32
_CLIENT: Final = {"connect_timeout": "5s", "timeout": "120s"}

_RETRY: Final = {"max_retries": 2, "retry_timeout": timedelta(seconds=30)}  # the sender tries on for ever
_ONCE: Final = {"max_retries": 0}  # no removal is still on its way when another was answered

_TOUCHED_S: Final = 3_600.0  # what was touched so lately need not be touched again
_TOGETHER: Final = 250  # objects of one notice
_HELD_UP_S: Final = 600.0  # so long after its notice a sweep removes nothing more
_PAUSES_S: Final = (0.05, 0.2, 1.0, 3.0, 0.0)
_LEAVING: Final = "leaving"
_REFERRERS: Final = "referrers"

_T = TypeVar("_T")


class BucketObjects:
    """Implements `Objects`."""

    def __init__(self, store: Any, removing: Any, name: str) -> None:
        """`removing`: the same store, with no request ever repeated."""
        self.capabilities = Capabilities(name=name, many_machines=True, takes_files=False)
        self._store = store
        self._removing = removing
        self._where = name
        self._under_way: set[asyncio.Future[Any]] = set()
        self._closed = False

    @classmethod
    def open(cls, url: str) -> Self:
        """See `open_objects`."""
        parts = urlsplit(url)
        if not parts.netloc:
            raise ConfigError(f"{parts.scheme}:// without a bucket: {parts.scheme}://<bucket>[/<prefix>]")
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        client: dict[str, Any] = {**_CLIENT}
        if options.get("endpoint", "").startswith("http://"):
            client["allow_http"] = True
        if parts.scheme == "s3":
            options.setdefault("region", "us-east-1")  # servers of one's own don't care
        place = f"{parts.scheme}://{parts.netloc}{parts.path}"
        try:
            given: dict[str, Any] = {"client_options": client, "retry_config": _RETRY, **options}
            store = from_url(place, **given)
            given["retry_config"] = _ONCE
            removing = from_url(place, **given)
        except (exceptions.BaseError, TypeError, ValueError) as error:
            raise ConfigError(f"{place}: {error}") from None
        return cls(store, removing, place)

    async def put(self, key: str, data: Buffer, /) -> bool:
        """See `Objects`."""
        return bool(await self._put({key: data}))

    async def put_all(self, objects: Sequence[tuple[str, Buffer]], /) -> None:
        """See `Objects`."""
        if objects:
            await self._put(dict(objects))

    async def take(self, file: int, offset: int, size: int, /) -> bytes:
        """See `Objects`: not here."""
        raise NotImplementedError("a bucket takes no files")

    async def find(self, keys: Sequence[str], /) -> list[int | None]:
        """See `Objects`."""
        sizes = await self._touching(keys, self._touch)
        return [sizes[key] for key in keys]

    async def claim(self, referrer: str, /) -> set[str]:
        """See `Objects`."""
        await self._write(f"{_REFERRERS}/{referrer}")
        return {_name(found) async for found in self._list(_REFERRERS)}

    async def sweep(
        self, shard: str, kept: Collection[str], /, *, untouched_s: float, leaving_s: float
    ) -> Swept:
        """See `Objects`. Nothing is taken away that could be had back: it is removed, or not."""
        now = await self._now()
        async for notice in self._list(_LEAVING):
            if now - _changed(notice) > leaving_s:  # of a sweep that was killed
                await self._remove(notice["path"])
        swept = Swept()
        for digit in "0123456789abcdef":
            old: dict[str, int] = {}
            async for found in self._list(f"sha256/{shard}{digit}"):
                if _name(found) not in kept and now - _changed(found) > untouched_s:
                    old[found["path"]] = found["size"]
            keys = list(old)
            for at in range(0, len(keys), _TOGETHER):
                removed = await self._remove_all(keys[at : at + _TOGETHER], now - untouched_s)
                swept += Swept(removed=len(removed), removed_bytes=sum(old[key] for key in removed))
        return swept

    async def size(self, key: str, /) -> int | None:
        """See `Objects`."""
        try:
            return int((await self._do(lambda: obstore.head_async(self._store, key)))["size"])
        except ObjectMissing:
            return None

    async def _each(self, works: Sequence[Callable[[], Awaitable[_T]]]) -> list[_T]:
        """Several requests, a bounded number at a time, each waited for."""
        room = asyncio.Semaphore(_AT_ONCE)

        async def one(work: Callable[[], Awaitable[_T]]) -> _T:
            async with room:
                return await work()

        results = await asyncio.gather(*map(one, works), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return [result for result in results if not isinstance(result, BaseException)]

    async def _put(self, objects: dict[str, Buffer]) -> int:
        """Stores some. Returns how many were not there."""
        made = set()

        async def create(key: str) -> bool:
            try:
                await self._write(key, objects[key], mode="create")
                made.add(key)
            except exceptions.AlreadyExistsError:
                await self._write(_touched(key))
            return True

        await self._touching(list(objects), create)
        return len(made)

    async def _touch(self, key: str) -> bool:
        """Whether an object is there, which is touched."""
        try:
            found = await self._do(lambda: obstore.head_async(self._store, key))
        except ObjectMissing:
            return False
        if time.time() - _changed(found) > _TOUCHED_S:
            await self._write(_touched(key))
        return True

    async def _touching(
        self, keys: Sequence[str], touch: Callable[[str], Awaitable[bool]]
    ) -> dict[str, int | None]:
        """Touches objects in a way that says whether they are there, until no sweep can be about to remove
        any of them. Returns their sizes.

        :raises ObjectsUnavailable: a sweep takes long, or was killed.
        """
        sizes: dict[str, int | None] = {}
        left = list(dict.fromkeys(keys))
        for pause_s in _PAUSES_S:
            there = dict(zip(left, await self._each([partial(touch, key) for key in left]), strict=True))
            sizes.update(dict.fromkeys(left))
            left = [key for key in left if there[key]]
            leaving = await self._leaving() if left else set()
            safe = [key for key in left if key not in leaving]
            found = await self._each([partial(self.size, key) for key in safe])
            sizes.update(zip(safe, found, strict=True))
            left = [key for key in left if sizes[key] is None]
            if not left:
                return sizes
            await asyncio.sleep(pause_s)
        raise ObjectsUnavailable(f"{self._where}: {left[0]} is being removed at this moment: try again")

    async def _leaving(self) -> set[str]:
        """What sweeps may be about to remove."""
        keys: set[str] = set()
        async for notice in self._list(_LEAVING):
            if time.time() - _changed(notice) > LEAVING_S:
                continue
            try:
                keys.update((await self._do(partial(self._read_all, notice["path"]))).decode().split())
            except ObjectMissing:  # withdrawn this moment: what it named is gone, or stays
                pass
        return keys

    async def _remove_all(self, keys: Sequence[str], untouched_since: float) -> list[str]:
        """Removes objects that nobody has touched since then. Returns those that it removed.

        After an exception some may still be removed, so that the notice stays.
        """
        notice = f"{_LEAVING}/{os.urandom(16).hex()}"
        began = time.time()
        await self._write(notice, "\n".join(keys).encode())

        async def remove_now(key: str) -> None:
            if not 0 <= time.time() - began < _HELD_UP_S:  # the notice may hold no more
                raise ObjectsUnavailable(f"{self._where}: a sweep was held up, and is given up")
            await self._remove(key)

        async def remove(key: str) -> bool:
            last = await self._each([partial(self._changed_at, one) for one in (key, _touched(key))])
            if last[0] is None or max(last[0], last[1] or 0.0) > untouched_since:
                return False
            if last[1] is not None:
                await remove_now(_touched(key))
            await remove_now(key)
            return True

        removed = await self._each([partial(remove, key) for key in keys])
        await self._remove(notice)
        return [key for key, gone in zip(keys, removed, strict=True) if gone]

    async def _changed_at(self, key: str) -> float | None:
        """When an object was written, by the storage's clock; None when it is not there."""
        try:
            return _changed(await self._do(lambda: obstore.head_async(self._store, key)))
        except ObjectMissing:
            return None

    async def _now(self) -> float:
        """By the clock of the storage. Also whether anything may be removed: else a notice would stay."""
        probe = f"{_LEAVING}/{os.urandom(16).hex()}"  # a notice of nothing
        await self._write(probe)
        found = await self._do(lambda: obstore.head_async(self._store, probe))
        await self._remove(probe)
        return _changed(found)

    async def _write(
        self, key: str, data: Buffer = b"", mode: Literal["create", "overwrite"] = "overwrite"
    ) -> None:
        await self._do(lambda: obstore.put_async(self._store, key, data, mode=mode, use_multipart=False))

    async def _remove(self, key: str) -> None:
        try:
            await self._do(lambda: obstore.delete_async(self._removing, key))
        except ObjectMissing:  # which S3 does not tell
            pass

    async def _read_all(self, key: str) -> bytes:
        return bytes(await (await obstore.get_async(self._store, key)).bytes_async())

    async def _list(self, folder: str) -> AsyncIterator[Any]:
        stream = obstore.list(self._store, folder, chunk_size=1000)
        while True:
            try:
                some = await self._do(lambda: anext(stream))
            except StopAsyncIteration:
                return
            for found in some:
                yield found

    async def read(self, key: str, start: int, length: int, /) -> bytes:
        """See `Objects`."""
        if not length:
            return b""
        data = bytes(
            await self._do(lambda: obstore.get_range_async(self._store, key, start=start, length=length))
        )
        if len(data) != length:
            raise ObjectMissing(f"{key} in {self._where} has fewer than {start + length:,} bytes")
        return data

    async def close(self) -> None:
        """See `Objects`."""
        self._closed = True
        if self._under_way:
            await asyncio.wait(self._under_way)

    async def _do(self, request: Callable[[], Awaitable[_T]]) -> _T:
        if self._closed:
            raise ClosedError("the object storage is closed")
        working = asyncio.ensure_future(request())
        self._under_way.add(working)
        working.add_done_callback(self._under_way.discard)
        try:
            return await working
        except exceptions.AlreadyExistsError:
            raise
        except (exceptions.NotFoundError, FileNotFoundError) as error:
            raise ObjectMissing(f"{self._where}: {_short(error)}") from None
        except (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError) as error:
            raise ObjectsRefused(f"{self._where}: {_short(error)}") from None
        except (exceptions.BaseError, OSError) as error:
            raise ObjectsUnavailable(f"{self._where}: {_short(error)}") from None


def _name(found: Any) -> str:
    """The last part of an object's name."""
    return str(found["path"]).rpartition("/")[2]


def _changed(found: Any) -> float:
    """When an object was written, by the storage's clock; often in whole seconds."""
    return float(found["last_modified"].timestamp())


def _touched(key: str) -> str:
    """Tells by its time when an object was last touched after it was stored."""
    return f"touched/{key.partition('/')[2]}"


def _short(error: Exception) -> str:
    """The first line: what follows is for debugging."""
    return str(error).strip().partition("\n")[0][:500]
