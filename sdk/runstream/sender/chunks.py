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


def requests(pieces: list[Piece]) -> Iterator[bytes]:
    """The bytes of chunks, in serialized PutChunksRequests of about 1 MiB. Small ones share a request."""
    request: list[bytes] = []
    gathered = 0
    for piece in pieces:
        at, size = 0, piece.chunk.size
        while at < size:
            data = os.pread(piece.file, min(PART_BYTES, size - at), piece.offset + at)
            if not data:
                raise UnreadableError("it was cut short")
            request += _part(piece.chunk, at, data)
            at += len(data)
            gathered += len(data) + 100
            if gathered >= PART_BYTES:
                yield b"".join(request)
                request, gathered = [], 0
    if gathered:
        yield b"".join(request)


def _part(chunk: artifact_pb2.Chunk, offset: int, data: bytes) -> list[bytes]:
    """A ChunkPart in a PutChunksRequest, in pieces: the classes would copy the bytes twice.

    Joined messages are one message, so what is large, `data`, can stand apart from the rest.
    """
    head = chunk_service_pb2.ChunkPart(chunk=chunk, offset=offset).SerializeToString()
    head += b"\x1a" + _varint(len(data))
    return [b"\x0a" + _varint(len(head) + len(data)), head, data]


def _varint(number: int) -> bytes:
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)
