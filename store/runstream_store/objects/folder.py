"""Object storage in a folder.

An object is written under a name of its own, brought to the disk, then given its real name, which fails when
that is taken. So no crash and no loss of power leaves half an object under a real name.

Small objects come in groups: all of a group are written before the first is waited for, and a folder is
brought to the disk once a group, so that the file system's journal is written a few times for hundreds.

Sweeping. A file's time of change says when its object was last touched. What is swept is moved to a folder
`leaving`, and its time looked at again there: whoever touched it just before, by its path, touched this very
file. From there it is linked back by whoever looks for it and does not find it in its place, or removed by a
later sweep if its time is still old. A link is one step: it is there, or the file was removed before and the
object is not stored. So what was found, and touched, is never removed.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import re
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final, Self, TypeVar
from urllib.parse import unquote, urlsplit

from runstream_store.errors import (
    ClosedError,
    ConfigError,
    ObjectMissing,
    ObjectsFull,
    ObjectsUnavailable,
    SourceCut,
)
from runstream_store.objects.protocol import Buffer, Capabilities, Swept, chunk_key

_THREADS: Final = 8  # syncs to the disk share its journal's commits
_GROUP: Final = 128  # descriptors that are open at once in a thread
_PIECE: Final = 1 << 20
_MOST_KNOWN: Final = 70_000  # as many as there are
_TOUCHED_S: Final = 3_600.0  # what was touched so lately need not be touched again
_DIGEST: Final = re.compile("[0-9a-f]{64}")
_COMING: Final = "coming"
_LEAVING: Final = "leaving"
_REFERRERS: Final = "referrers"

_T = TypeVar("_T")


class FolderObjects:
    """Implements `Objects`."""

    capabilities = Capabilities(name="folder", many_machines=False, takes_files=True)

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
        return bool(await self._run(lambda: self._put([(key, data)])))

    async def put_all(self, objects: Sequence[tuple[str, Buffer]], /) -> None:
        """See `Objects`."""
        groups = [objects[at : at + _GROUP] for at in range(0, len(objects), _GROUP)]
        await _all(self._run(partial(self._put, group)) for group in groups)

    async def take(self, file: int, offset: int, size: int, /) -> bytes:
        """See `Objects`."""
        return await self._run(lambda: self._take(file, offset, size))

    async def size(self, key: str, /) -> int | None:
        """See `Objects`."""
        return await self._run(lambda: self._size(key))

    async def find(self, keys: Sequence[str], /) -> list[int | None]:
        """See `Objects`."""
        return await self._run(lambda: [self._touch(key) for key in keys])

    async def claim(self, referrer: str, /) -> set[str]:
        """See `Objects`."""
        return await self._run(lambda: self._claim(referrer))

    async def sweep(
        self, shard: str, kept: Collection[str], /, *, untouched_s: float, leaving_s: float
    ) -> Swept:
        """See `Objects`."""
        return await self._run(lambda: self._sweep(shard, kept, untouched_s, leaving_s))

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
        for name in _COMING, _LEAVING:
            (self._root / name).mkdir(parents=True, exist_ok=True, mode=0o700)

    def _put(self, objects: Sequence[tuple[str, Buffer]]) -> int:
        """Store a group. Returns how many of it were not stored."""
        absent = [(key, data) for key, data in objects if self._touch(key) is None]
        made: list[tuple[Path, str]] = []
        files: list[int] = []
        try:
            for key, data in absent:
                coming = self._coming()
                files.append(self._create(coming))
                made.append((coming, key))
                _write(files[-1], data)
                _begin_to_sync(files[-1], 0, 0)
            for file in files:
                os.fsync(file)
            return self._publish(made)
        finally:
            for file in files:
                os.close(file)
            for coming, _ in made:
                coming.unlink(missing_ok=True)

    def _take(self, file: int, offset: int, size: int) -> bytes:
        """Store bytes of a file. The digest is of the very bytes that are written, whatever happens to the
        file meanwhile."""
        digest = hashlib.sha256()
        buffer = memoryview(bytearray(min(_PIECE, size)))
        coming = self._coming()
        target = self._create(coming)
        try:
            done = 0
            while done < size:
                count = os.preadv(file, [buffer[: size - done]], offset + done)
                if not count:
                    raise SourceCut(f"the file ends at {offset + done:,}, before {offset + size:,}")
                digest.update(buffer[:count])
                _write(target, buffer[:count])
                _begin_to_sync(target, done, count)
                done += count
            key = chunk_key(digest.digest())
            if self._touch(key) is None:
                os.fsync(target)
                self._publish([(coming, key)])
            return digest.digest()
        finally:
            os.close(target)
            coming.unlink(missing_ok=True)

    def _coming(self) -> Path:
        return self._root / _COMING / os.urandom(16).hex()

    def _create(self, path: Path) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            return os.open(path, flags, 0o600)
        except FileNotFoundError:  # somebody removed the folder of objects
            self._durable.clear()
            self._prepare()
            return os.open(path, flags, 0o600)

    def _publish(self, made: Iterable[tuple[Path, str]]) -> int:
        """Give files that are on the disk their real names. Returns how many of these were not taken."""
        new = 0
        folders = set()
        for coming, key in made:
            path = self._root / key
            folders.add(path.parent)
            new += self._link(coming, path)
        for folder in folders:
            _sync_folder(folder)  # also of another's: it may not have come to that yet
        return new

    def _link(self, coming: Path, path: Path) -> bool:
        try:
            if path.parent not in self._durable:
                self._make(path.parent)
            os.link(coming, path)
        except FileExistsError:
            if self._touch(str(path.relative_to(self._root))) is None:  # swept this moment
                return self._link(coming, path)
            return False
        except FileNotFoundError:  # somebody removed the folder, or those above it
            self._durable.clear()
            self._make(path.parent)
            os.link(coming, path)
        return True

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
        path = self._root / key
        try:
            return path.stat().st_size
        except FileNotFoundError:
            return path.stat().st_size if self._bring_back(path) else None

    def _touch(self, key: str) -> int | None:
        """The size of an object, which is touched; None when it is not stored."""
        path = self._root / key
        while True:
            try:
                found = path.stat()
                if time.time() - found.st_mtime > _TOUCHED_S:
                    os.utime(path)
                return found.st_size
            except FileNotFoundError:
                if not self._bring_back(path):
                    return None

    def _bring_back(self, path: Path) -> bool:
        """Have an object in its place again that was taken away. False: it was not, or was removed."""
        leaving = self._root / _LEAVING / path.name
        try:
            os.link(leaving, path)
        except FileExistsError:
            return True
        except FileNotFoundError:
            return path.exists()  # somebody else may have brought it back
        os.utime(path)
        _sync_folder(path.parent)
        leaving.unlink(missing_ok=True)
        return True

    def _claim(self, referrer: str) -> set[str]:
        folder = self._root / _REFERRERS
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        (folder / referrer).touch()
        _sync_folder(folder)
        _sync_folder(self._root)
        return set(os.listdir(folder))

    def _sweep(self, shard: str, kept: Collection[str], untouched_s: float, leaving_s: float) -> Swept:
        self._prepare()
        now = self._now()
        gone, waiting, count, size = 0, 0, 0, 0
        for name, found in _objects(self._root / _LEAVING, shard):
            path = self._root / chunk_key(bytes.fromhex(name))
            if name in kept or now - found.st_mtime <= untouched_s:
                self._bring_back(path)
            elif now - found.st_ctime <= leaving_s:
                waiting += 1
                continue
            elif not path.exists():
                count, size = count + 1, size + found.st_size
            (self._root / _LEAVING / name).unlink(missing_ok=True)
        for folder in (self._root / "sha256").glob(f"{shard}?"):
            for name, found in _objects(folder, shard):
                if name not in kept and now - found.st_mtime > untouched_s:
                    gone += self._take_away(folder / name, now - untouched_s)
        return Swept(gone, waiting, count, size)

    def _take_away(self, path: Path, untouched_since: float) -> bool:
        leaving = self._root / _LEAVING / path.name
        try:
            os.rename(path, leaving)
            if leaving.stat().st_mtime <= untouched_since:
                return True
            self._bring_back(path)  # touched this moment
            leaving.unlink(missing_ok=True)
        except FileNotFoundError:  # another sweep was here, or somebody brought it back
            pass
        return False

    def _now(self) -> float:
        """By the clock of the file system, which may be another machine's."""
        probe = self._coming()
        file = self._create(probe)
        try:
            return os.fstat(file).st_mtime
        finally:
            os.close(file)
            probe.unlink(missing_ok=True)

    def _read(self, key: str, start: int, length: int) -> bytes:
        path = self._root / key
        try:
            try:
                file = open(path, "rb", buffering=0)  # noqa: SIM115
            except FileNotFoundError:
                if not self._bring_back(path):
                    raise
                file = open(path, "rb", buffering=0)  # noqa: SIM115
            with file:
                file.seek(start)
                data = file.read(length)
                while len(data) < length and (more := file.read(length - len(data))):
                    data += more
        except FileNotFoundError:
            raise ObjectMissing(f"{key} is not in {self._root}") from None
        if len(data) != length:
            raise ObjectMissing(f"{key} has fewer than {start + length:,} bytes")
        return data


def _objects(folder: Path, shard: str) -> Iterator[tuple[str, os.stat_result]]:
    """Objects in a folder whose names begin with a text, each with what the file system says of it."""
    for name in os.listdir(folder):
        if name.startswith(shard) and _DIGEST.fullmatch(name):
            try:
                yield name, os.stat(folder / name)
            except FileNotFoundError:  # another sweep was here
                pass


async def _all(works: Iterable[Awaitable[object]]) -> None:
    """Waits for all of them to end, also when one fails: what they hold must not change before."""
    for result in await asyncio.gather(*works, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result


def _write(file: int, data: Buffer) -> None:
    view = memoryview(data)
    while view.nbytes:
        view = view[os.write(file, view) :]


def _begin_to_sync(file: int, offset: int, size: int) -> None:
    """Have bytes that were written brought to the disk while others are written; `fsync` waits for it."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(file, offset, size, os.POSIX_FADV_DONTNEED)


def _sync_folder(path: Path) -> None:
    number = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
