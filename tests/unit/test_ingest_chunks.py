"""Requests with chunks, read by hand where they are large: the same as the generated classes read."""

from __future__ import annotations

import hashlib
import os

import pytest

from runstream.sender.chunks import Piece, digest, requests
from runstream.v1 import artifact_pb2, chunk_service_pb2
from runstream_ingest import wire
from runstream_ingest.chunk_service import _parts
from runstream_ingest.errors import RequestMalformed

PART = chunk_service_pb2.ChunkPart
REQUEST = chunk_service_pb2.PutChunksRequest
CHUNK = artifact_pb2.Chunk(sha256=bytes(range(32)), size=1 << 20)


def field(number: int, content: bytes) -> bytes:
    length, head = len(content), bytearray([number << 3 | 2])
    while length > 0x7F:
        head.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes([*head, length]) + content


def read(data: bytes) -> list[tuple[bytes, int, int, bytes]]:
    return [(p.chunk.sha256, p.chunk.size, p.offset, bytes(p.data)) for p in _parts(data)]


def usual(data: bytes) -> list[tuple[bytes, int, int, bytes]]:
    return [(p.chunk.sha256, p.chunk.size, p.offset, p.data) for p in REQUEST.FromString(data).parts]


@pytest.mark.parametrize("size", [1, 100, 70_000, 1 << 20])
def test_requests_of_other_programs(size: int) -> None:
    content = os.urandom(size)
    plain = REQUEST(parts=[PART(chunk=CHUNK, offset=7, data=content), PART(chunk=CHUNK, data=b"x")])
    head = PART(chunk=CHUNK, offset=300).SerializeToString()
    turned = field(1, field(3, content) + head)  # the data first
    twice = field(1, head + field(3, b"old") + field(3, content))  # the last counts
    unknown = field(9, b"new") + field(1, head + field(3, content) + field(15, b"newer"))
    for data in plain.SerializeToString(), turned, twice, unknown, turned + twice:
        assert read(data) == usual(data)


def test_what_is_no_request_is_refused() -> None:
    good = REQUEST(parts=[PART(chunk=CHUNK, data=os.urandom(100_000))]).SerializeToString()
    for data in good[:-1], good[:50], b"\x0a" + good, os.urandom(100_000), b"\xff" * 70_000:
        with pytest.raises((RequestMalformed, wire.WireError)):
            _parts(data)


def test_the_senders_requests_are_read_by_anybody() -> None:
    content = os.urandom(2_500_000)
    file = os.memfd_create("file")
    os.write(file, content)
    whole = digest(file, 0, len(content), None)
    small = [digest(file, at, 100, None) for at in range(0, 1000, 100)]
    assert whole.chunk.sha256 == hashlib.sha256(content).digest()
    found: dict[bytes, bytes] = {}
    for request in requests([whole, *small]):
        assert len(request) < 4 << 20
        assert read(request) == usual(request)
        for sha256, _, offset, data in usual(request):
            assert offset == len(found.get(sha256, b""))
            found[sha256] = found.get(sha256, b"") + data
    os.close(file)
    assert found == {
        piece.chunk.sha256: content[piece.offset : piece.offset + piece.chunk.size]
        for piece in [whole, *small]
    }
    assert Piece(whole.chunk, 0, 0).chunk.size == len(content)
