"""What object storage does: bytes under names, written once.

Objects are named by their content (`chunk_key`), so two writers of one name write the same bytes, and nothing
is ever changed or half there:

*stored*
    The object is whole, under its name, and durable. What is being written, or was left by a crash in the
    middle, is not stored and not seen.
*touched*
    Somebody stored the object, or asked with `find` whether it is stored, and may be about to refer to it.
    Only what has not been touched for a day (`UNTOUCHED_S`) may be removed by `sweep`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

CHUNK_BYTES: Final = 64 << 20
"""Greatest size of an object."""

UNTOUCHED_S: Final = 86_400.0
"""An object that was touched stays for so long, whether anything refers to it or not."""

LEAVING_S: Final = 3_600.0
"""What `sweep` takes away can be had back for so long."""

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


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep did."""

    leaving: int = 0
    """Objects that were taken away and can be had back."""
    waiting: int = 0
    """Objects that were taken away before and can still be had back."""
    removed: int = 0
    """Objects that were removed for good."""
    removed_bytes: int = 0
    """Bytes of them."""

    def __add__(self, other: Swept) -> Swept:
        return Swept(
            self.leaving + other.leaving,
            self.waiting + other.waiting,
            self.removed + other.removed,
            self.removed_bytes + other.removed_bytes,
        )


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

    async def find(self, keys: Sequence[str], /) -> list[int | None]:
        """`size` of many, in the order of the keys, and touches those that are stored."""
        ...

    async def claim(self, referrer: str, /) -> set[str]:
        """Notes, durably, that tables of this name refer to objects here; returns the names of all that ever
        did. Only whoever is alone here may sweep.

        :param referrer: letters, digits and hyphens.
        :raises StoreError: as `size`.
        """
        ...

    async def sweep(
        self, shard: str, kept: Collection[str], /, *, untouched_s: float, leaving_s: float
    ) -> Swept:
        """Takes away objects that nothing refers to and that nobody touched for `untouched_s`; what was
        taken away `leaving_s` ago and is still not wanted is removed for good.

        Safe beside everything else, in several processes at once, and at a crash at any point. What was
        taken away is stored all the same, until it is removed for good: `find` and `read` bring it back, and
        so does the next sweep when it is in `kept`. A bucket takes nothing away before it removes it; there
        `leaving_s` is for how long a sweep that was killed is waited for.

        :param shard: a hexadecimal digit: only objects whose digest begins with it.
        :param kept: their digests, in hexadecimal, that something refers to. Whoever begins to refer to an
            object has touched it before.
        :raises StoreError: as `size`.
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
