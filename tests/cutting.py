"""A TCP proxy that cuts connections in the middle of what they carry, as its seed says."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable
from typing import Self


class CuttingProxy:
    """Between clients and a port of this machine."""

    def __init__(self, port: int, seed: int, *, share: float = 1.0, most_bytes: int = 400_000) -> None:
        """
        :param share: of the connections that are cut.
        :param most_bytes: a cut comes after up to so many bytes that were sent, or a 400th of it that
            came back.
        """
        self._to = port
        self._chance = random.Random(seed)
        self._share = share
        self._most = most_bytes
        self._serving: set[asyncio.Task[None]] = set()
        self.port = 0
        self.cut = 0
        """Connections that were cut."""
        self.lost_answers = 0
        """Of these, those that were cut while an answer came back: what was asked for may be done."""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.heal()
        self._server.close()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    def heal(self) -> None:
        """From now on new connections live."""
        self._share = 0.0

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        cuts = self._chance.random() < self._share
        backward = self._chance.random() < 0.5
        after = self._chance.randrange(1, self._most // 400 if backward else self._most)
        try:
            back, forth = await asyncio.open_connection("127.0.0.1", self._to)
        except OSError:
            writer.transport.abort()
            return

        def done() -> None:
            self.cut += 1
            self.lost_answers += backward
            writer.transport.abort()
            forth.transport.abort()

        never = 1 << 62
        pumps = [
            asyncio.create_task(_pump(reader, forth, after if cuts and not backward else never, done)),
            asyncio.create_task(_pump(back, writer, after if cuts and backward else never, done)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in (writer, forth):
                one.close()
            for pump in pumps:
                pump.cancel()


async def _pump(
    source: asyncio.StreamReader, sink: asyncio.StreamWriter, left: int, cut: Callable[[], None]
) -> None:
    """Carries bytes until there are no more, or `left` of them went through."""
    with contextlib.suppress(OSError):
        while data := await source.read(65536):
            sink.write(data[:left])
            await sink.drain()
            left -= len(data)
            if left <= 0:
                cut()
                return
