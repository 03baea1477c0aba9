"""Snapshots: a folder as it was when it was submitted, as one zip file named by its content.

Equal folders give equal bytes: names are sorted, times left out. So a folder that did not change between two
runs is stored once.
"""

import hashlib
import os
import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from runstream.core.sizes import size_in_bytes
from runstream.errors import SnapshotError
from runstream.submit.ignore import Ignored

FOLDER: Final = ".runstream/snapshot"
"""Where a run's files have its snapshot."""
PROPERTY: Final = "ContentSnapshotId"
"""Property of a run that names its snapshot, as scripts know it."""
MOST_FILES: Final = 100_000
_CAP: Final = "RUNSTREAM_SNAPSHOT_CAP"
_MOST_BYTES: Final = 2 << 30
_TIME: Final = (1980, 1, 1, 0, 0, 0)  # the first that a zip file can hold
_BLOCK: Final = 1 << 20


class Snapshot(NamedTuple):
    """A snapshot that was made."""

    id: str  # BLAKE2b of the content, 32 hex digits
    path: Path  # of the zip file
    files: int
    size: int  # bytes of the files


class _Entry(NamedTuple):
    name: str  # in the snapshot
    path: str
    found: os.stat_result
    link: str | None  # where a link to a folder, or to nothing, leads


def name_of(snapshot_id: str) -> str:
    """The snapshot's name among the run's files."""
    return f"{FOLDER}/{snapshot_id}.zip"


def take(folder: str | os.PathLike[str], target: Path) -> Snapshot:
    """Write a folder's snapshot to `target`. Raises SnapshotError when it can't be, or is too large."""
    root = Path(folder).absolute()
    if not root.is_dir():
        raise SnapshotError(f"there is no folder {os.fspath(folder)!r} to submit")
    most = size_in_bytes(os.environ.get(_CAP, ""), _MOST_BYTES, _CAP)
    size = files = 0
    content = hashlib.blake2b(digest_size=16)
    try:
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for entry in _entries(root):
                files += 1
                size += entry.found.st_size if entry.link is None else 0
                if size > most or files > MOST_FILES:
                    raise SnapshotError(_too_large(root, most))
                _add(archive, entry, content)
    except OSError as error:
        raise SnapshotError(f"{root} can't be kept: {error}") from None
    return Snapshot(content.hexdigest(), target, files, size)


def unpack(archive: Path, folder: Path) -> None:
    """Write a snapshot's files below a folder. Raises SnapshotError when it can't be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(archive) as opened:
            links = []
            for info in opened.infolist():
                mode = info.external_attr >> 16
                if stat.S_ISLNK(mode):
                    links.append((info.filename, opened.read(info).decode("utf-8", "surrogateescape")))
                    continue
                opened.extract(info, folder)  # it stays below the folder, whatever the name
                if not info.is_dir():
                    os.chmod(folder / info.filename, stat.S_IMODE(mode) or 0o644)
            for name, leads_to in links:  # last, so that nothing is written through one
                place = folder / name
                place.parent.mkdir(parents=True, exist_ok=True)
                place.symlink_to(leads_to)
    except (OSError, zipfile.BadZipFile, ValueError) as error:
        raise SnapshotError(f"the snapshot can't be written to {folder}: {error}") from None


def _entries(root: Path) -> Iterator[_Entry]:
    ignored = Ignored(root)
    waiting = [""]
    while waiting:
        inner = waiting.pop()
        with os.scandir(root / inner) as scanned:
            found = sorted(scanned, key=lambda entry: entry.name)
        folders = []
        for entry in found:
            name = f"{inner}/{entry.name}" if inner else entry.name
            is_folder = entry.is_dir()
            if ignored.has(name, is_folder):
                continue
            if entry.is_symlink() and not entry.is_file():
                yield _Entry(name, entry.path, entry.stat(follow_symlinks=False), _target(root, entry.path))
            elif is_folder:
                folders.append(name)
            elif entry.is_file():
                yield _Entry(name, entry.path, entry.stat(), None)
            # else a pipe, a socket, a device: of no use in a copy
        waiting += reversed(folders)


def _target(root: Path, path: str) -> str:
    """Where a link leads, as it is to lead from a copy: what is outside of the folder stays where it is."""
    leads_to = os.readlink(path)
    place = os.path.normpath(os.path.join(os.path.dirname(path), leads_to))
    if not Path(place).is_relative_to(root):
        return place
    return os.path.relpath(place, os.path.dirname(path)) if os.path.isabs(leads_to) else leads_to


def _add(archive: zipfile.ZipFile, entry: _Entry, content: "hashlib.blake2b") -> None:
    info = zipfile.ZipInfo(entry.name.encode("utf-8", "replace").decode(), _TIME)
    info.compress_type = zipfile.ZIP_DEFLATED
    info.create_system = 3  # Unix, so that modes count
    executable = bool(entry.found.st_mode & 0o100)
    kind = "link" if entry.link is not None else "executable" if executable else "file"
    mode = {"link": stat.S_IFLNK | 0o777, "executable": stat.S_IFREG | 0o755, "file": stat.S_IFREG | 0o644}
    info.external_attr = mode[kind] << 16
    content.update(f"{kind}\n{info.filename}\n".encode())
    if entry.link is not None:
        leads_to = entry.link.encode("utf-8", "surrogateescape")
        archive.writestr(info, leads_to)
        content.update(b"%d\n%b" % (len(leads_to), leads_to))
        return
    inner = hashlib.blake2b(digest_size=32)
    info.file_size = entry.found.st_size  # for files beyond 4 GiB
    with open(entry.path, "rb") as source, archive.open(info, "w") as target:
        while block := source.read(_BLOCK):
            inner.update(block)
            target.write(block)
    content.update(inner.digest())


def _too_large(root: Path, most: int) -> str:
    """What to do about it names the largest parts."""
    by_part: dict[str, list[int]] = {}
    for files, entry in enumerate(_entries(root)):
        sums = by_part.setdefault(entry.name.partition("/")[0], [0, 0])
        sums[0] += entry.found.st_size
        sums[1] += 1
        if files > 3 * MOST_FILES:
            break
    largest = sorted(by_part.items(), key=lambda item: item[1], reverse=True)[:3]
    told = ", ".join(f"{name} ({size >> 20:,} MiB in {files:,} files)" for name, (size, files) in largest)
    return (
        f"{root} is too large for a snapshot: at most {most >> 20:,} MiB ({_CAP}) and {MOST_FILES:,} files "
        f"are taken. Largest are {told}: name what is not needed in .amlignore, or submit a smaller folder"
    )
