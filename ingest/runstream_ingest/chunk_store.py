"""Which chunks are stored. Chunks never change, so what was seen once need not be asked again."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from runstream.v1 import artifact_pb2
from runstream.v1.error_pb2 import ErrorCode
from runstream_ingest.errors import RecordRefused, invalid
from runstream_store.objects import Buffer, Objects, chunk_key

_AT_ONCE: Final = 32
_MOST_KNOWN: Final = 100_000


class ChunkStore:
    """Chunks in object storage."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._known: OrderedDict[bytes, int] = OrderedDict()  # digest → size
        self._room = asyncio.Semaphore(_AT_ONCE)

    async def put(self, sha256: bytes, data: Buffer) -> None:
        """Stores a chunk whose digest was computed here. Raises as `Objects.put`."""
        async with self._room:
            await self._objects.put(chunk_key(sha256), data)
        self._know(sha256, len(data))

    async def missing(self, chunks: Sequence[artifact_pb2.Chunk]) -> list[bytes]:
        """Digests of those that are not stored. Raises as `Objects.size`."""
        found = await asyncio.gather(*(self._size(chunk.sha256) for chunk in chunks))
        absent = []
        for chunk, size in zip(chunks, found, strict=True):
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

    async def _size(self, sha256: bytes) -> int | None:
        known = self._known.get(sha256)
        if known is not None:
            return known
        async with self._room:
            size = await self._objects.size(chunk_key(sha256))
        if size is not None:
            self._know(sha256, size)
        return size

    def _know(self, sha256: bytes, size: int) -> None:
        self._known[sha256] = size
        while len(self._known) > _MOST_KNOWN:
            self._known.popitem(last=False)
