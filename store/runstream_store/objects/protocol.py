"""What object storage does: bytes under names, written once.

Objects are named by their content (`chunk_key`), so two writers of one name write the same bytes, and nothing
is ever changed or half there:

*stored*
    The object is whole, under its name, and durable. What is being written, or was left by a crash in the
    middle, is not stored and not seen.
"""

from __future__ import annotations

from collections.abc import Sequence
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
    takes_files: bool
    """`take` can be used."""


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

    async def put_all(self, objects: Sequence[tuple[str, Buffer]], /) -> None:
        """Stores many objects, as `put` does. Cheaper than one by one where they are small.

        After an exception any of them may be stored.

        :raises StoreError: as `put`.
        """
        ...

    async def take(self, file: int, offset: int, size: int, /) -> bytes:
        """Stores some bytes of an open file as the object that they make, and returns their SHA-256.

        Only where `capabilities.takes_files`. The file may change meanwhile: stored is what the digest says.
        It must be open until this has ended; a cancellation does not end it at once.

        :raises SourceCut: the file has fewer bytes.
        :raises StoreError: else as `put`.
        """
        ...

    async def size(self, key: str, /) -> int | None:
        """Bytes of an object that is stored; None when it is not.

        :raises ObjectsUnavailable: the storage did not answer; try later.
        :raises ObjectsRefused: the credential or the bucket is wrong.
        """
        ...

    async def sizes(self, keys: Sequence[str], /) -> list[int | None]:
        """`size` of many, in the order of the keys."""
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
