"""Commands for writers: from whoever asks, through the hot state, to the stream of the writer's sender.

A command travels with the next response of that stream, at the latest with the answer to its next lease. It
is a hint that makes something quick: when no stream has the writer, it is gone. What must not be lost is an
event.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Final

from google.protobuf.message import DecodeError

from runstream.v1 import ingest_service_pb2
from runstream_store.hot import HotState
from runstream_store.hot.channels import COMMANDS

logger = logging.getLogger(__name__)

CHANNEL: Final = COMMANDS
_MOST_PENDING: Final = 1_000


async def send_command(hot: HotState, command: ingest_service_pb2.Command) -> None:
    """Sends a command to the stream of its writer, if there is one."""
    await hot.publish(CHANNEL, command.SerializeToString())


class Mailbox:
    """What one stream has to tell its sender."""

    def __init__(self, commands: Commands) -> None:
        self._commands = commands
        self._writers: set[bytes] = set()
        self._pending: list[ingest_service_pb2.Command] = []

    def serve(self, writers: Iterable[bytes]) -> None:
        """From now on this stream speaks for these writers, and no others."""
        now = set(writers)
        if now != self._writers:
            self._commands.move(self, self._writers - now, now - self._writers)
            self._writers = now

    def put(self, command: ingest_service_pb2.Command) -> None:
        """Adds a command, unless nobody takes them."""
        if len(self._pending) < _MOST_PENDING:
            self._pending.append(command)

    def take(self) -> list[ingest_service_pb2.Command]:
        """The commands that came since the last call."""
        taken, self._pending = self._pending, []
        return taken

    def close(self) -> None:
        """The stream has ended."""
        self.serve(())


class Commands:
    """Hands the commands on the channel to the streams of this process."""

    def __init__(self, hot: HotState) -> None:
        self._hot = hot
        self._boxes: dict[bytes, Mailbox] = {}
        self._task: asyncio.Task[None] | None = None

    def open_mailbox(self) -> Mailbox:
        """A mailbox for a new stream."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._listen(), name="commands")
        return Mailbox(self)

    def move(self, box: Mailbox, gone: Iterable[bytes], come: Iterable[bytes]) -> None:
        """Notes which writers a mailbox no longer serves, and which it does."""
        for writer in gone:
            if self._boxes.get(writer) is box:
                del self._boxes[writer]
        for writer in come:
            self._boxes[writer] = box  # the newest stream: the sender came back

    async def close(self) -> None:
        """Stops listening."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _listen(self) -> None:
        async with await self._hot.subscribe(CHANNEL) as messages:
            async for message in messages:
                command = ingest_service_pb2.Command()
                try:
                    command.ParseFromString(message)
                except DecodeError:
                    logger.warning("a message on channel %r is no command", CHANNEL)
                    continue
                box = self._boxes.get(command.writer)
                if box is not None:
                    box.put(command)
