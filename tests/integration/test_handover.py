"""Files that are handed over as open descriptors: what is stored, what is refused, who is told."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from runstream import home
from runstream.sender.handover import NobodyError, NotTakenError, hand_over, takes_files
from runstream_ingest.chunk_service import ChunkStats
from runstream_ingest.chunk_store import ChunkStore
from runstream_ingest.handover import Handover
from runstream_ingest.limits import CHUNK_BYTES
from runstream_store.objects import Objects, chunk_key, open_objects


class Taker:
    """A server's part that takes files, with its storage."""

    def __init__(self, objects: Objects) -> None:
        self.server_id = os.urandom(16)
        self.objects = objects
        self.stats = ChunkStats()
        self.path = home.files_socket(self.server_id)
        self.handover = Handover(ChunkStore(objects), self.stats, self.path)

    async def give(self, file: int, offset: int, size: int) -> bytes:
        piece = await asyncio.to_thread(hand_over, self.server_id, file, offset, size)
        assert (piece.chunk.size, piece.offset, piece.file) == (size, offset, file)
        return piece.chunk.sha256


@pytest.fixture
async def taker(tmp_path: Path) -> AsyncIterator[Taker]:
    objects = await open_objects(f"file://{tmp_path}/objects")
    made = Taker(objects)
    made.handover.start()
    yield made
    await made.handover.close()
    await objects.close()


def opened(path: Path) -> int:
    """A descriptor of a file, for this process to close."""
    return os.open(path, os.O_RDWR)


def descriptors(path: Path) -> int:
    """How many descriptors of a file this process has, those of the taker among them."""
    found = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            found += os.readlink(f"/proc/self/fd/{name}") == str(path)
        except FileNotFoundError:  # closed just now
            pass
    return found


async def test_pieces_are_stored_under_what_they_are(taker: Taker, tmp_path: Path) -> None:
    data = os.urandom(3_000_001)
    (tmp_path / "file").write_bytes(data)
    cuts = [(0, 1_000_000), (1_000_000, 2_000_000), (3_000_000, 1), (0, 3_000_001)]
    file = opened(tmp_path / "file")
    found = await asyncio.gather(*(taker.give(file, *cut) for cut in cuts))
    assert found == [hashlib.sha256(data[at : at + size]).digest() for at, size in cuts]
    for sha256, (at, size) in zip(found, cuts, strict=True):
        assert await taker.objects.read(chunk_key(sha256), 0, size) == data[at : at + size]
    assert (taker.stats.chunks, taker.stats.bytes) == (4, 6_000_002)
    assert descriptors(tmp_path / "file") == 1
    os.close(file)


async def test_what_changes_meanwhile_is_stored_under_what_was_read(taker: Taker, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(20 << 20))
    file = opened(tmp_path / "file")
    giving = [asyncio.create_task(taker.give(file, 0, 20 << 20)) for _ in range(3)]
    while not all(task.done() for task in giving):
        os.pwrite(file, os.urandom(1000), int.from_bytes(os.urandom(3), "little"))
        await asyncio.sleep(0)
    os.close(file)
    for task in giving:
        sha256 = task.result()
        stored = await taker.objects.read(chunk_key(sha256), 0, 20 << 20)
        assert hashlib.sha256(stored).digest() == sha256


async def test_what_makes_no_sense_is_refused(taker: Taker, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    file = opened(tmp_path / "file")
    for offset, size in (0, 4), (3, 1), (-1, 1), (0, 0), (0, CHUNK_BYTES + 1):
        with pytest.raises(NotTakenError):
            await taker.give(file, offset, size)
    assert await taker.give(file, 0, 3) == hashlib.sha256(b"abc").digest()
    reading, writing = os.pipe()
    with pytest.raises(NotTakenError, match="no file"):
        await taker.give(reading, 0, 1)
    os.close(reading)
    os.close(writing)

    def raw(request: bytes) -> dict[str, str]:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(taker.path)
            socket.send_fds(connection, [request], [] if request in without else [file])
            answer = json.loads(connection.makefile().readline())
            assert isinstance(answer, dict)
            return answer

    without = {b"x\n", b"[]\n", b"null\n", b'{"offset": 0, "size": 1}\n'}
    deep, endless = b"[" * 999, b'{"offset": 1e999, "size": 1}\n'
    far = b'{"offset": 1%s, "size": 1}\n' % (b"0" * 40)
    for request in *without, deep, endless, far:
        assert set(await asyncio.to_thread(raw, request)) == {"error"}
    assert descriptors(tmp_path / "file") == 1
    os.close(file)
    assert taker.stats.chunks == 1


async def test_nobody_else_can_enter(taker: Taker) -> None:
    assert os.stat(taker.path).st_mode & 0o777 == 0o600
    assert os.stat(os.path.dirname(taker.path)).st_mode & 0o777 == 0o700


async def test_without_a_server_nobody_takes(taker: Taker, tmp_path: Path) -> None:
    assert takes_files(taker.server_id)
    await taker.handover.close()
    assert not takes_files(taker.server_id)
    assert not takes_files(b"")
    (tmp_path / "file").write_bytes(b"abc")
    file = opened(tmp_path / "file")
    with pytest.raises(NobodyError):
        hand_over(taker.server_id, file, 0, 3)
    again = Handover(ChunkStore(taker.objects), taker.stats, taker.path)
    dead = socket.socket(socket.AF_UNIX)  # of a server that was killed
    dead.bind(taker.path)
    dead.close()
    again.start()
    assert await taker.give(file, 0, 3) == hashlib.sha256(b"abc").digest()
    os.close(file)
    await again.close()
