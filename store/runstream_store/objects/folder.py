"""Object storage in a folder.

An object is written under a name of its own, brought to the disk, then given its real name, which fails when
that is taken. So no crash and no loss of power leaves half an object under a real name.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, Self, TypeVar
from urllib.parse import unquote, urlsplit

from runstream_store.errors import ClosedError, ConfigError, ObjectMissing, ObjectsFull, ObjectsUnavailable
from runstream_store.objects.protocol import Buffer, Capabilities

_THREADS: Final = 32  # syncs to the disk share its journal's commits
_MOST_KNOWN: Final = 70_000  # as many as there are
_COMING: Final = "coming"

_T = TypeVar("_T")


class FolderObjects:
    """Implements `Objects`."""

    capabilities = Capabilities(name="folder", many_machines=False)

    def __init__(self, root: Path) -> None:
        self._root = root
        self._durable: set[Path] = set()  # folders whose names are on the disk
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="objects")

    @classmethod
    async def open(cls, url: str) -> Self:
        """See `open_objects`."""
        parts = urlsplit(url)
        path = Path(unquote(parts.path))
        if parts.netloc or parts.query or not path.is_absolute():
            raise ConfigError(f"{url!r} names no folder: file:///<absolute path>")
        made = cls(path)
        await made._run(made._prepare)
        return made

    async def put(self, key: str, data: Buffer, /) -> bool:
        """See `Objects`."""
        return await self._run(lambda: self._put(key, data))

    async def size(self, key: str, /) -> int | None:
        """See `Objects`."""
        return await self._run(lambda: self._size(key))

    async def read(self, key: str, start: int, length: int, /) -> bytes:
        """See `Objects`."""
        return await self._run(lambda: self._read(key, start, length))

    async def close(self) -> None:
        """See `Objects`."""
        await asyncio.to_thread(self._threads.shutdown)

    async def _run(self, work: Callable[[], _T]) -> _T:
        try:
            future = self._threads.submit(work)
        except RuntimeError:
            raise ClosedError("the object storage is closed") from None
        try:
            return await asyncio.wrap_future(future)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise ObjectsFull(f"{self._root}: {error.strerror}") from error
            raise ObjectsUnavailable(f"{self._root}: {error}") from error

    # ------------------------------------------------------------------------------- in threads

    def _prepare(self) -> None:
        coming = self._root / _COMING
        coming.mkdir(parents=True, exist_ok=True, mode=0o700)

    def _put(self, key: str, data: Buffer) -> bool:
        path = self._root / key
        if path.exists():
            return False
        coming = self._root / _COMING / os.urandom(16).hex()
        try:
            with open(coming, "xb", buffering=0) as file:
                view = memoryview(data)
                while view.nbytes:
                    view = view[file.write(view) :]
                os.fsync(file.fileno())
            return self._publish(coming, path)
        finally:
            coming.unlink(missing_ok=True)

    def _publish(self, coming: Path, path: Path) -> bool:
        if path.parent not in self._durable:
            self._make(path.parent)
        try:
            os.link(coming, path)
            new = True
        except FileExistsError:
            new = False
        _sync_folder(path.parent)  # also of another's: it may not have come to that yet
        return new

    def _make(self, folder: Path) -> None:
        """Make a folder, and bring its name to the disk, those of the folders above it too."""
        if folder == self._root or folder in self._durable:
            return
        self._make(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync_folder(folder.parent)  # also of another's: it may not have come to that yet
        if len(self._durable) < _MOST_KNOWN:
            self._durable.add(folder)

    def _size(self, key: str) -> int | None:
        try:
            return (self._root / key).stat().st_size
        except FileNotFoundError:
            return None

    def _read(self, key: str, start: int, length: int) -> bytes:
        try:
            with open(self._root / key, "rb", buffering=0) as file:
                file.seek(start)
                data = file.read(length)
                while len(data) < length and (more := file.read(length - len(data))):
                    data += more
        except FileNotFoundError:
            raise ObjectMissing(f"{key} is not in {self._root}") from None
        if len(data) != length:
            raise ObjectMissing(f"{key} has fewer than {start + length:,} bytes")
        return data


def _sync_folder(path: Path) -> None:
    number = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
