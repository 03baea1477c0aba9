"""Files in chunks: their digests, and their bytes on the way to the server."""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from runstream.v1 import artifact_pb2, chunk_service_pb2

CHUNK_BYTES: Final = 64 << 20
PART_BYTES: Final = 1 << 20


class UnreadableError(Exception):
    """The file in the spool is not what was kept there."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A chunk of a file in the spool."""

    chunk: artifact_pb2.Chunk
    file: int
    offset: int


def digest(file: int, offset: int, size: int, whole: Any) -> Piece:
    """Read a chunk for its digest; `whole` is updated too, unless the chunk is all there is."""
    found = hashlib.sha256()
    done = 0
    while done < size:
        data = os.pread(file, min(PART_BYTES, size - done), offset + done)
        if not data:
            raise UnreadableError(f"it has {offset + done:,} bytes, fewer than were kept")
        found.update(data)
        if whole is not None:
            whole.update(data)
        done += len(data)
    return Piece(artifact_pb2.Chunk(sha256=found.digest(), size=size), file, offset)


def requests(pieces: list[Piece]) -> Iterator[chunk_service_pb2.PutChunksRequest]:
    """The bytes of chunks, in requests of about 1 MiB. Small ones share a request."""
    request = chunk_service_pb2.PutChunksRequest()
    gathered = 0
    for piece in pieces:
        at, size = 0, piece.chunk.size
        while at < size:
            data = os.pread(piece.file, min(PART_BYTES, size - at), piece.offset + at)
            if not data:
                raise UnreadableError("it was cut short")
            request.parts.add(chunk=piece.chunk, offset=at, data=data)
            at += len(data)
            gathered += len(data) + 100
            if gathered >= PART_BYTES:
                yield request
                request = chunk_service_pb2.PutChunksRequest()
                gathered = 0
    if gathered:
        yield request
