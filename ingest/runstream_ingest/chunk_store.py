"""Which chunks are stored. Chunks never change, and one that was found stays for a day, so what was seen
within the last hour need not be asked again."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from runstream.v1 import artifact_pb2
from runstream.v1.error_pb2 import ErrorCode
from runstream_ingest.errors import RecordRefused, invalid
from runstream_store.objects import Buffer, Objects, chunk_key

_AT_ONCE: Final = 32
_MOST_KNOWN: Final = 100_000
# Much less than the time for which what was touched stays, and by the same clock: a machine may sleep.
_KNOWN_S: Final = 3_600.0


class ChunkStore:
    """Chunks in object storage."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._known: OrderedDict[bytes, tuple[int, float]] = OrderedDict()  # digest → size, when touched
        self._room = asyncio.Semaphore(_AT_ONCE)

    @property
    def takes_files(self) -> bool:
        """Whether `take` can be used."""
        return self._objects.capabilities.takes_files

    async def put(self, chunks: Sequence[tuple[bytes, Buffer]]) -> None:
        """Stores chunks whose digests were computed here. Raises as `Objects.put_all`."""
        began = time.time()
        async with self._room:
            await self._objects.put_all([(chunk_key(sha256), data) for sha256, data in chunks])
        for sha256, data in chunks:
            self._know(sha256, len(data), began)

    async def take(self, file: int, offset: int, size: int) -> bytes:
        """Stores a chunk out of a file. See `Objects.take`."""
        began = time.time()
        async with self._room:
            sha256 = await self._objects.take(file, offset, size)
        self._know(sha256, size, began)
        return sha256

    async def missing(self, chunks: Sequence[artifact_pb2.Chunk]) -> list[bytes]:
        """Digests of those that are not stored. Raises as `Objects.find`."""
        began = time.time()
        sizes: dict[bytes, int | None] = {chunk.sha256: self._size(chunk.sha256, began) for chunk in chunks}
        unknown = [sha256 for sha256, size in sizes.items() if size is None]
        if unknown:
            async with self._room:
                found = await self._objects.find([chunk_key(sha256) for sha256 in unknown])
            for sha256, size in zip(unknown, found, strict=True):
                sizes[sha256] = size
                if size is not None:
                    self._know(sha256, size, began)
        absent = []
        for chunk in chunks:
            size = sizes[chunk.sha256]
            if size is None:
                absent.append(chunk.sha256)
            elif size != chunk.size:
                raise invalid(
                    f"chunk {chunk.sha256.hex()} has {size:,} bytes, not {chunk.size:,}: wrong size or digest"
                )
        return absent

    async def require(self, manifest: artifact_pb2.ArtifactManifest) -> None:
        """Checks that a manifest's chunks are stored.

        :raises RecordRefused: some are not, or are of other sizes.
        :raises StoreError: the storage can't be asked.
        """
        absent = await self.missing(manifest.chunks)
        if absent:
            raise RecordRefused(
                ErrorCode.ERROR_CODE_CHUNK_MISSING,
                f"{len(absent):,} of {len(manifest.chunks):,} chunks of {manifest.path!r} are not stored: "
                "store them (ChunkService), then send the manifest again",
                retryable=True,
            )

    def _size(self, sha256: bytes, now: float) -> int | None:
        size, touched = self._known.get(sha256, (None, 0.0))
        return size if 0 <= now - touched < _KNOWN_S else None

    def _know(self, sha256: bytes, size: int, touched: float) -> None:
        self._known[sha256] = size, touched
        self._known.move_to_end(sha256)
        while len(self._known) > _MOST_KNOWN:
            self._known.popitem(last=False)
