"""Files that wait in the spool for their upload: content and description, as docs/formats.md has them.

Whoever keeps a file here may change or delete the original at once.
"""

import errno
import itertools
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import BinaryIO, Final

from runstream.spool import layout
from runstream.spool.folder import WriterFolder
from runstream.spool.segments import FolderGoneError

FOLDER: Final = "files"
DATA: Final = ".data"
DESCRIPTION: Final = ".json"

_PIECE: Final = 1 << 20
_AT_ONCE: Final = 64 << 20
_LOOK_S: Final = 0.1
_CLONE: Final = 0x40049409  # FICLONE
# Of copying inside the kernel: not there, or not between these two.
_NOT_HERE: Final = frozenset((errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM))

Progress = Callable[[int], object]
"""Is told of bytes that were copied, as they are."""


class SourceError(Exception):
    """The file to keep can't be read, or changed while it was."""


class SpoolFullError(Exception):
    """The spool has reached its cap."""


class FileFolder:
    """The files of one writer that wait. Safe in threads."""

    def __init__(self, folder: WriterFolder, cap_bytes: int) -> None:
        self._folder = folder
        self._cap = cap_bytes
        self._path = folder.file(FOLDER)
        self._numbers = itertools.count()
        self._kept = 0  # bytes that are there at most: as the last look saw, and what came since
        self._next_look = 0.0

    def keep(self, source: int | BinaryIO, description: Mapping[str, object], progress: Progress) -> int:
        """Keep a plain file, given as a descriptor, or what a binary stream gives. Returns its size.

        `description` lacks only the size.

        Raises SourceError when the source can't be read or changed meanwhile, SpoolFullError when the spool
        is at its cap, FolderGoneError when it was removed, OSError for what else is wrong with it.
        """
        number = self._number()
        data = self._file(f"{number:08d}{DATA}")
        try:
            descriptor = self._create(data)
            try:
                size = self._fill(descriptor, source, progress)
            finally:
                os.close(descriptor)
            self._describe(number, {**description, "size": size})
        except BaseException as error:
            try:
                os.unlink(data)
            except OSError:
                pass
            if isinstance(error, FileNotFoundError) and not os.path.exists(self._folder.file(layout.HEADER)):
                raise FolderGoneError(
                    errno.ENOENT, "the writer's folder is gone", self._folder.path
                ) from error
            raise
        self._kept += size
        return size

    def _number(self) -> int:
        return next(self._numbers)

    def _file(self, name: str) -> str:
        return os.path.join(self._path, name)

    def _create(self, path: str) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
        try:
            return os.open(path, flags, 0o600)
        except FileNotFoundError:
            try:
                os.mkdir(self._path, 0o700)
            except FileExistsError:
                pass
            return os.open(path, flags, 0o600)

    def _describe(self, number: int, description: Mapping[str, object]) -> None:
        made = self._file(f".{number:08d}{DESCRIPTION}")
        content = layout.utf8(json.dumps(description, ensure_ascii=False, separators=(",", ":")))
        try:
            with open(made, "xb", buffering=0) as file:
                if file.write(content) != len(content):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), made)
            os.rename(made, self._file(f"{number:08d}{DESCRIPTION}"))
        except BaseException:
            try:
                os.unlink(made)
            except OSError:
                pass
            raise

    # ---------------------------------------------------------------------------------- copying

    def _fill(self, target: int, source: int | BinaryIO, progress: Progress) -> int:
        if not isinstance(source, int):
            return self._stream(target, source, progress)
        before = os.fstat(source)
        self._room(before.st_size)
        copied = self._copy(source, target, before.st_size, progress)
        after = os.fstat(source)
        same = (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)
        if copied != before.st_size or not same:
            raise SourceError("it changed while it was read: write it under another name, then rename it")
        return copied

    def _copy(self, source: int, target: int, size: int, progress: Progress) -> int:
        if not size:
            return 0
        if _clone(source, target):
            progress(size)
            return os.fstat(target).st_size
        if size > _PIECE and hasattr(os, "posix_fallocate"):  # a small one is soon gone: it needs no blocks
            try:
                os.posix_fallocate(target, 0, size)  # no space for all of it: said before it is copied
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                    raise
        copied = 0
        while copied < size:
            moved = _move(source, target, copied, min(_AT_ONCE, size - copied), progress)
            if not moved:
                break
            copied += moved
        return copied

    def _stream(self, target: int, source: BinaryIO, progress: Progress) -> int:
        size = 0
        while True:
            try:
                piece = source.read(_PIECE)
            except Exception as error:
                raise SourceError(f"it can't be read: {error}") from error
            if not piece:
                return size
            if not isinstance(piece, bytes | bytearray | memoryview):
                raise SourceError(f"it gives {type(piece).__name__} instead of bytes: open it in binary mode")
            self._room(size + len(piece))
            size += _write(target, piece)
            progress(len(piece))

    # -------------------------------------------------------------------------------------- cap

    def _room(self, size: int) -> None:
        """Make sure that so many bytes are within the cap."""
        if self._kept + size <= self._cap:
            return
        now = time.monotonic()
        if now >= self._next_look:
            self._next_look = now + _LOOK_S
            self._kept = self._used()
        if self._kept + size > self._cap:
            raise SpoolFullError

    def _used(self) -> int:
        """What the writer's folder takes on the disk, but for a file that is being copied here."""
        used = self._folder.used_bytes()
        for entry in os.scandir(self._path):
            if entry.name.endswith(DESCRIPTION) and not entry.name.startswith("."):
                try:
                    used += os.stat(self._file(entry.name.removesuffix(DESCRIPTION) + DATA)).st_size
                except OSError:
                    pass  # delivered just now
        return used


def _clone(source: int, target: int) -> bool:
    """Share the source's blocks, where the file system can."""
    if not sys.platform.startswith("linux"):
        return False
    import fcntl

    try:
        fcntl.ioctl(target, _CLONE, source)
    except OSError:
        return False
    return True


def _move(source: int, target: int, at: int, size: int, progress: Progress) -> int:
    """Copy some bytes at a place: inside the kernel if it can. Returns how many; 0 at the end."""
    if hasattr(os, "copy_file_range"):
        try:
            moved = os.copy_file_range(source, target, size, at, at)
            if moved:
                progress(moved)
                return moved
        except OSError as error:
            if error.errno not in _NOT_HERE:
                raise
    done = 0
    while done < size:
        try:
            os.lseek(source, at + done, os.SEEK_SET)
            piece = os.read(source, min(_PIECE, size - done))
        except OSError as error:
            raise SourceError(f"it can't be read: {error.strerror or error}") from error
        if not piece:
            break
        os.lseek(target, at + done, os.SEEK_SET)
        done += _write(target, piece)
        progress(len(piece))
    return done


def _write(target: int, piece: bytes | bytearray | memoryview) -> int:
    view = memoryview(piece).cast("B")
    while view.nbytes:
        view = view[os.write(target, view) :]
    return memoryview(piece).nbytes
