"""Follows the text files that a script writes into its folder of logs."""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple

_MOST_FILES = 1000
_DEEPEST = 4
_READ_BYTES = 256 << 10


class Read(NamedTuple):
    """Bytes of a file, and where it is followed from when they are delivered."""

    path: str  # in the folder
    time_ns: int
    data: bytes
    offset: int
    place: list[int]  # inode, place in the file, offset


@dataclass(slots=True)
class LogFolder:
    """One run's folder. What stood in its files before the run, or came after it, is not the run's."""

    folder: str
    prefix: str
    before: dict[str, list[int]] | None  # sizes when it began; None: not known
    until: dict[str, list[int]] | None = None  # sizes when it ended, if those are known
    closed: bool = False
    places: dict[str, list[int]] = field(default_factory=dict)  # delivered up to here
    finished: bool = False

    def next(self) -> Read | None:
        """The next bytes; None when there are none now. With what it gave before delivered."""
        found = dict(files_of(self.folder))
        if self.before is None:
            self.before = {path: [s.st_ino, s.st_size] for path, s in found.items()}
        inodes = {status.st_ino: path for path, status in found.items()}
        for path, status in found.items():
            place = self.places.get(path)
            if place is not None and place[0] != status.st_ino and place[0] in inodes:
                # Rotated: what was appended before it got another name belongs to the old one.
                moved = inodes[place[0]]
                read = self._read(path, moved, found[moved], place)
                if read is not None:
                    return read
                self.places[moved] = [place[0], found[moved].st_size, 0]
            read = self._read(path, path, status, self._begin(path, status, place))
            if read is not None:
                return read
        self.finished = self.closed
        return None

    def _begin(self, path: str, status: os.stat_result, place: list[int] | None) -> list[int]:
        if place is None:
            owned = {known[0] for known in self.places.values()}
            before = (self.before or {}).get(path)
            if status.st_ino in owned:  # a file that has got another name is no new one
                place = [status.st_ino, status.st_size, 0]
            elif before is not None and before[0] == status.st_ino and before[1] <= status.st_size:
                place = [status.st_ino, before[1], 0]
            else:
                place = [status.st_ino, 0, 0]
        elif place[0] != status.st_ino or place[1] > status.st_size:  # replaced, or truncated
            place = [status.st_ino, 0, place[2]]
        self.places[path] = place
        return place

    def _read(self, path: str, name: str, status: os.stat_result, place: list[int]) -> Read | None:
        end = status.st_size
        if self.until is not None:
            limit = self.until.get(name)
            if limit is None or limit[0] != status.st_ino:
                return None
            end = min(end, limit[1])
        if end <= place[1]:
            return None
        try:
            with open(os.path.join(self.folder, name), "rb") as file:
                file.seek(place[1])
                data = file.read(min(end - place[1], _READ_BYTES))
        except OSError:
            return None
        if not data:
            return None
        after = [place[0], place[1] + len(data), place[2] + len(data)]
        return Read(path, status.st_mtime_ns, data, place[2], after)

    def dump(self) -> dict[str, Any]:
        """For `state.json`."""
        return {
            "folder": self.folder,
            "prefix": self.prefix,
            "before": self.before,
            "until": self.until,
            "closed": self.closed,
            "places": self.places,
        }


def files_of(folder: str) -> Iterator[tuple[str, os.stat_result]]:
    """Files in a folder and below it, by path; the first thousand. No links, nothing hidden."""
    return islice(_walk(folder, "", 0), _MOST_FILES)


def _walk(folder: str, under: str, depth: int) -> Iterator[tuple[str, os.stat_result]]:
    try:
        with os.scandir(folder) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
    except OSError:
        return
    for entry in found:
        if entry.name.startswith("."):
            continue
        try:
            status = entry.stat(follow_symlinks=False)
        except OSError:
            continue
        if stat.S_ISREG(status.st_mode):
            yield under + entry.name, status
        elif stat.S_ISDIR(status.st_mode) and depth < _DEEPEST:
            yield from _walk(entry.path, f"{under}{entry.name}/", depth + 1)
