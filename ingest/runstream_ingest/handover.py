"""Takes files from senders on this machine: open descriptors, over a Unix socket (docs/formats.md).

The bytes need not go through gRPC, which costs more than all the rest together. Nothing is taken on trust:
the server reads the file through the descriptor that the sender opened, never by a path, and what it stores
is its own copy, under the digest of the bytes that it wrote. Only this user can enter the socket's folder.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import stat
from contextlib import suppress
from typing import Final

from runstream_ingest import limits
from runstream_ingest.chunk_service import ChunkStats
from runstream_ingest.chunk_store import ChunkStore
from runstream_store.errors import StoreError

logger = logging.getLogger(__name__)

_REQUEST_BYTES: Final = 1_000
_FILES: Final = 1
_FILE_BYTES: Final = 1 << 62  # beyond this the system takes no offset


class Handover:
    """Listens at a path, in a folder that only this user can enter."""

    def __init__(self, chunks: ChunkStore, stats: ChunkStats, path: str) -> None:
        self._chunks = chunks
        self._stats = stats
        self._path = path
        self._listening: asyncio.Task[None] | None = None
        self._serving: set[asyncio.Task[None]] = set()
        self._taking: set[asyncio.Task[bytes]] = set()

    def start(self) -> None:
        """Begins to listen. Raises OSError when it can't."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.setblocking(False)
            with suppress(FileNotFoundError):
                os.unlink(self._path)  # of a server of the same data that was killed
            listener.bind(self._path)
            os.chmod(self._path, 0o600)
            listener.listen()
        except BaseException:
            listener.close()
            raise
        self._listening = asyncio.create_task(self._listen(listener), name="handover")

    async def close(self) -> None:
        """Takes nothing more. What is being stored is finished, though nobody is told."""
        if self._listening is None:
            return
        tasks = [self._listening, *self._serving]
        for task in tasks:
            task.cancel()
        await asyncio.wait([*tasks, *self._taking])
        with suppress(OSError):
            os.unlink(self._path)

    async def _listen(self, listener: socket.socket) -> None:
        with listener:
            while True:
                connection, _ = await asyncio.get_running_loop().sock_accept(listener)
                task = asyncio.create_task(self._serve(connection), name="handover")
                self._serving.add(task)
                task.add_done_callback(self._serving.discard)

    async def _serve(self, connection: socket.socket) -> None:
        """Answers one sender's requests, one after the other."""
        with connection:
            connection.setblocking(False)
            try:
                while (request := await _receive(connection)) is not None:
                    answer = await self._answer(*request)
                    await asyncio.get_running_loop().sock_sendall(
                        connection, json.dumps(answer).encode() + b"\n"
                    )
            except OSError:  # the sender is gone
                pass

    async def _answer(self, data: bytes, files: list[int]) -> dict[str, str]:
        try:
            content = json.loads(data)
            offset, size = int(content["offset"]), int(content["size"])
            (file,) = files
            if not stat.S_ISREG(os.fstat(file).st_mode):
                raise ValueError("no file")
            if not 0 <= offset < _FILE_BYTES or not 1 <= size <= limits.CHUNK_BYTES:
                raise ValueError("no chunk")
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError, OSError) as error:
            _close(files)
            return {"error": f"not a request for a chunk of a file: {error}"}
        taking = asyncio.create_task(self._chunks.take(file, offset, size), name="take-chunk")
        self._taking.add(taking)
        taking.add_done_callback(self._taking.discard)
        taking.add_done_callback(lambda _: _close(files))  # not before: its thread reads the file
        try:
            sha256 = await asyncio.shield(taking)
        except StoreError as error:
            logger.warning("a chunk could not be stored: %s", error)
            return {"error": str(error)}
        self._stats.chunks += 1
        self._stats.bytes += size
        return {"sha256": sha256.hex()}


async def _receive(connection: socket.socket) -> tuple[bytes, list[int]] | None:
    """The next request with its descriptors; None at the end."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(connection, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(connection)
    flags = getattr(socket, "MSG_CMSG_CLOEXEC", 0)
    data, files, _, _ = socket.recv_fds(connection, _REQUEST_BYTES, _FILES, flags)
    return (data, files) if data else None


def _close(files: list[int]) -> None:
    for file in files:
        os.close(file)
