"""What object storage does: bytes under names, written once.

Objects are named by their content (`chunk_key`), so two writers of one name write the same bytes, and nothing
is ever changed or half there:

*stored*
    The object is whole, under its name, and durable. What is being written, or was left by a crash in the
    middle, is not stored and not seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

CHUNK_BYTES: Final = 64 << 20
"""Greatest size of an object."""

Buffer = bytes | bytearray | memoryview


def chunk_key(sha256: bytes) -> str:
    """Name of the object with this content."""
    text = sha256.hex()
    return f"sha256/{text[:2]}/{text}"


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What one engine can do, and others perhaps not."""

    name: str
    many_machines: bool
    """Servers on several machines may use the same objects."""


class Objects(Protocol):
    """Object storage. Safe for many tasks of one event loop, and for many processes."""

    @property
    def capabilities(self) -> Capabilities:
        """What this engine can do."""
        ...

    async def put(self, key: str, data: Buffer, /) -> bool:
        """Stores an object, unless it is stored. True when it was not. `data` must not change meanwhile.

        After an exception, a cancellation or a crash it is stored or not; putting it again is harmless.

        :raises ObjectsFull: no space; try later.
        :raises ObjectsUnavailable: the storage did not answer; try later.
        :raises ObjectsRefused: the credential or the bucket is wrong.
        """
        ...

    async def size(self, key: str, /) -> int | None:
        """Bytes of an object that is stored; None when it is not.

        :raises ObjectsUnavailable: the storage did not answer; try later.
        :raises ObjectsRefused: the credential or the bucket is wrong.
        """
        ...

    async def read(self, key: str, start: int, length: int, /) -> bytes:
        """Bytes of an object from `start` on: `length` of them, which it has.

        :raises ObjectMissing: it is not stored, or has fewer bytes.
        :raises ObjectsUnavailable: the storage did not answer; try later.
        :raises ObjectsRefused: the credential or the bucket is wrong.
        """
        ...

    async def close(self) -> None:
        """Waits for what is under way and frees the engine. May be called again."""
        ...
