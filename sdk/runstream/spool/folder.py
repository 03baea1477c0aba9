"""Where the spool is, and the folder of one writer in it."""

import errno
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from runstream import home
from runstream.spool import layout

# Network and user-space file systems: slow, or without the promises that the spool needs of a mapped file.
_NOT_LOCAL: Final = frozenset(
    (
        *("nfs", "nfs4", "cifs", "smb3", "smbfs", "lustre", "gpfs", "beegfs", "ceph", "afs", "glusterfs"),
        *("panfs", "pvfs2", "orangefs", "9p", "virtiofs"),
    )
)
# File systems on which preallocated space can still run out: writing to a mapping could kill the process.
_NO_PREALLOCATION: Final = frozenset(("btrfs", "zfs", "bcachefs", "f2fs", "nilfs2"))


def file_system(path: str | os.PathLike[str]) -> str:
    """Type of the file system that holds a path, such as `ext4`; empty when it can't be known."""
    try:
        found = os.stat(path)
        device = f"{os.major(found.st_dev)}:{os.minor(found.st_dev)}"
        real = os.path.realpath(path)
        best, kind = -1, ""
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as mounts:
            for line in mounts:
                before, _, after = line.partition(" - ")
                fields = before.split(" ")
                if fields[2] == device:  # btrfs and overlays may show another device: then the path decides
                    return after.split(" ", 1)[0]
                point = fields[4]
                if len(point) > best and (real == point or real.startswith(point.rstrip("/") + "/")):
                    best, kind = len(point), after.split(" ", 1)[0]
        return kind
    except (OSError, AttributeError, IndexError, ValueError):
        return ""


def is_local(path: str | os.PathLike[str]) -> bool:
    """Whether a path is on a disk of this machine, as far as that can be told."""
    kind = file_system(path)
    return kind not in _NOT_LOCAL and not kind.startswith("fuse")


def _own_folder(path: Path) -> Path:
    """Make the folder, for this user only. Raises OSError when it can't be had, or is another's."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if sys.platform != "win32":
        found = os.stat(path)
        if found.st_uid != os.getuid():
            raise PermissionError(f"{path} belongs to another user (uid {found.st_uid})")
        if stat.S_IMODE(found.st_mode) & 0o077:
            os.chmod(path, 0o700)
    if not os.access(path, os.W_OK | os.X_OK):
        raise PermissionError(f"{path} is not writable")
    return path


def spool_root() -> Path:
    """The spool: RUNSTREAM_SPOOL, else in the user's state folder if that is local, else in a temporary one.

    It exists and can be written. Raises OSError when no place can be had.
    """
    explicit = os.environ.get("RUNSTREAM_SPOOL")
    if explicit:
        root = Path(explicit).expanduser().absolute()
        root.mkdir(mode=0o700, parents=True, exist_ok=True)  # as it is, when it is there
        if not os.access(root, os.W_OK | os.X_OK):
            raise PermissionError(f"{root} is not writable")
        return root
    private = f"runstream-{home.user_key()}"
    places: list[Callable[[], Path]] = [
        lambda: home.home() / "spool",
        lambda: _own_folder(Path("/var/tmp") / private) / "spool",
        lambda: _own_folder(_temporary() / private) / "spool",
    ]
    problem: OSError | None = None
    for place in places:
        try:
            root = _own_folder(place())
        except OSError as error:
            problem = problem or error
            continue
        if is_local(root):
            return root
    raise problem or OSError("no local file system to keep the spool on; set RUNSTREAM_SPOOL")


def _temporary() -> Path:
    import tempfile

    return Path(tempfile.gettempdir())


def choose_engine(folder: str) -> str:
    """The engine that can keep its promises there. RUNSTREAM_SPOOL_ENGINE overrides."""
    explicit = os.environ.get("RUNSTREAM_SPOOL_ENGINE")
    if explicit in (layout.MMAP, layout.APPEND):
        return explicit
    if not sys.platform.startswith("linux") or not hasattr(os, "posix_fallocate"):
        return layout.APPEND
    if sys.byteorder != "little":  # a mapped slot has the machine's byte order
        return layout.APPEND
    kind = file_system(folder)
    if kind in _NO_PREALLOCATION or kind in _NOT_LOCAL or kind.startswith("fuse"):
        return layout.APPEND
    return layout.MMAP


# ------------------------------------------------------------------------------------- machine


class Machine(NamedTuple):
    """Names of this host and its boot."""

    host: str
    boot_id: str

    @property
    def folder(self) -> str:
        """Name of the folder that holds this boot's writers."""
        host = "".join(c if (c.isalnum() and c.isascii()) or c in "-_." else "_" for c in self.host)
        return f"{host[:100] or 'host'}-{self.boot_id}"


def machine() -> Machine:
    """This machine, since it was started."""
    host = os.uname().nodename if sys.platform != "win32" else os.environ.get("COMPUTERNAME", "")
    return Machine(host or "localhost", _read("/proc/sys/kernel/random/boot_id").strip() or "0")


def process_start(pid: int | None = None) -> int | None:
    """Start time of a process in the kernel's clock ticks, which tells it from a later one with its pid."""
    return _state_and_start("self" if pid is None else pid)[1]


def lives(pid: int, start: int | None) -> bool:
    """Whether the process that started then runs. One that has ended does not, though its pid stays until
    somebody has waited for it, which in a container may be never.
    """
    state, found = _state_and_start(pid)
    return found == start and state not in ("Z", "X")


def _state_and_start(pid: int | str) -> tuple[str, int | None]:
    fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()  # the name before it may hold anything
    return (fields[0], int(fields[19])) if len(fields) > 19 else ("", None)


def pid_namespace() -> int | None:
    """Inode of this process's PID namespace."""
    try:
        return os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        return None


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


# ------------------------------------------------------------------------------- writer's folder


class Descriptor:
    """An open file that knows whether its number still means that file.

    Programs exist that close all descriptors, whoever owns them, and later files then get the numbers.
    """

    __slots__ = ("_device", "_inode", "number")

    def __init__(self, path: str, flags: int) -> None:
        number = os.open(path, flags | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0), 0o600)
        if number <= 2 and sys.platform != "win32":  # standard streams are closed: keep their numbers free
            import fcntl

            low, number = number, fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, 3)
            os.close(low)
        found = os.fstat(number)
        self.number, self._device, self._inode = number, found.st_dev, found.st_ino

    def links(self) -> int:
        """Number of names of the file, 0 when it was deleted; -1 when the number means another file now."""
        try:
            found = os.fstat(self.number)
        except OSError:
            return -1
        return found.st_nlink if (found.st_dev, found.st_ino) == (self._device, self._inode) else -1

    def same_file(self, path: str) -> bool:
        """Whether the path names this file."""
        try:
            found = os.stat(path)
        except OSError:
            return False
        return (found.st_dev, found.st_ino) == (self._device, self._inode)

    def twin(self, number: int) -> "Descriptor | None":
        """This file under another number that it was given; None when that number means something else."""
        made = Descriptor.__new__(Descriptor)
        made.number, made._device, made._inode = number, self._device, self._inode
        return made if made.links() >= 0 else None

    def close(self) -> None:
        """Close it, unless somebody has done so. There is no `__del__`: a Ctrl-C in one would be lost."""
        if self.links() >= 0:
            number, self.number = self.number, -1
            os.close(number)


def lock(descriptor: Descriptor) -> bool:
    """Take the POSIX record lock of a file, again if this process has it. False when another process has it.

    The kernel drops it when the process dies. Unlike `flock` it isn't inherited by forks, which would keep a
    dead run alive.
    """
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(descriptor.number, 0, os.SEEK_SET)
            msvcrt.locking(descriptor.number, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.lockf(descriptor.number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


class WriterFolder:
    """Folder of one writer, with its lock held."""

    def __init__(self, root: Path) -> None:
        """Make a new one. Raises OSError when that can't be done."""
        self.root = root
        self.pid = os.getpid()
        parent = os.path.join(root, machine().folder)
        try:
            _own_folder(Path(parent))
        except PermissionError:  # several users share the spool's root
            parent += f"-{home.user_key()}"
            _own_folder(Path(parent))
        for _ in range(10):
            self.writer = os.urandom(16)
            self.path = os.path.join(parent, self.writer.hex())
            os.mkdir(self.path, 0o700)
            path = self.file(layout.LOCK)
            try:
                self._lock = Descriptor(path, os.O_RDWR | os.O_CREAT)
            except FileNotFoundError:  # a sender took the folder for a leftover
                continue
            if lock(self._lock) and self._lock.same_file(path):
                return
            self._lock.close()
        raise OSError(f"{parent}: every new folder is taken away")

    def file(self, name: str) -> str:
        """Path of a file in it."""
        return os.path.join(self.path, name)

    def hold(self) -> bool:
        """Make sure that the lock is held: programs lose it by closing all descriptors.

        False when the folder is gone.
        """
        path = self.file(layout.LOCK)
        if not os.path.exists(path):
            return False
        if self._lock.links() < 0:
            self._lock = Descriptor(path, os.O_RDWR)
        lock(self._lock)
        return True

    def used_bytes(self) -> int:
        """What its files take on the disk."""
        used = 0
        for name in os.listdir(self.path):
            try:
                found = os.stat(self.file(name))
            except OSError:
                continue
            used += getattr(found, "st_blocks", -(-found.st_size // 512)) * 512
        return used

    def replace(self, name: str, content: bytes) -> None:
        """Write a file as a whole."""
        made = self.file(f".{name}.{os.urandom(4).hex()}")
        descriptor = Descriptor(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        try:
            # At a place, not at the end: if a signal handler forks here, both processes write this, once.
            write = getattr(os, "pwrite", lambda number, data, _: os.write(number, data))
            if write(descriptor.number, content, 0) != len(content):
                raise OSError(errno.ENOSPC, "no space left for the whole file", made)
        finally:
            descriptor.close()
        try:
            os.replace(made, self.file(name))
        except FileNotFoundError:
            if not os.path.exists(self.file(name)):  # else a fork of this process has done it
                raise

    def close(self) -> None:
        """Let go of the lock."""
        self._lock.close()

    def discard(self) -> None:
        """Remove the folder of a writer that nobody used."""
        self.close()
        try:
            os.unlink(self.file(layout.HEADER))
        except OSError:
            pass
        import shutil

        shutil.rmtree(self.path, ignore_errors=True)
