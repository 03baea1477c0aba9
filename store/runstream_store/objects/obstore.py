"""Object storage in a bucket: S3 and what speaks it, Google Cloud Storage, Azure Blob Storage.

A put with the condition "unless it is there" is one request, so an object is whole or not there. Not all that
call themselves S3 know the condition; SeaweedFS and MinIO do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import timedelta
from functools import partial
from typing import Any, Final, Self, TypeVar
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
from runstream_store.objects.protocol import Buffer, Capabilities, Swept

_AT_ONCE: Final = 32
_CLIENT: Final = {"connect_timeout": "5s", "timeout": "120s"}

_RETRY: Final = {"max_retries": 2, "retry_timeout": timedelta(seconds=30)}  # the sender tries on for ever

_T = TypeVar("_T")


class BucketObjects:
    """Implements `Objects`."""

    def __init__(self, store: Any, name: str) -> None:
        self.capabilities = Capabilities(name=name, many_machines=True, takes_files=False, sweeps=False)
        self._store = store
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
        except (exceptions.BaseError, TypeError, ValueError) as error:
            raise ConfigError(f"{place}: {error}") from None
        return cls(store, place)

    async def put(self, key: str, data: Buffer, /) -> bool:
        """See `Objects`."""
        try:
            await self._do(
                lambda: obstore.put_async(self._store, key, data, mode="create", use_multipart=False)
            )
        except exceptions.AlreadyExistsError:
            return False
        return True

    async def put_all(self, objects: Sequence[tuple[str, Buffer]], /) -> None:
        """See `Objects`."""
        await self._each([partial(self.put, key, data) for key, data in objects])

    async def take(self, file: int, offset: int, size: int, /) -> bytes:
        """See `Objects`: not here."""
        raise NotImplementedError("a bucket takes no files")

    async def find(self, keys: Sequence[str], /) -> list[int | None]:
        """See `Objects`. Nothing is swept here, so that nothing need be touched."""
        return await self._each([partial(self.size, key) for key in keys])

    async def claim(self, referrer: str, /) -> set[str]:
        """See `Objects`: not here."""
        raise NotImplementedError("a bucket is not swept")

    async def sweep(
        self, shard: str, kept: Collection[str], /, *, untouched_s: float, leaving_s: float
    ) -> Swept:
        """See `Objects`: not here, where nothing can be taken away and had back in one step."""
        raise NotImplementedError("a bucket is not swept")

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


def _short(error: Exception) -> str:
    """The first line: what follows is for debugging."""
    return str(error).strip().partition("\n")[0][:500]
