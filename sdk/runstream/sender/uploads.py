"""The files of one writer that wait for their upload: what there is, and what became of it."""

import json
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from runstream.spool.files import DATA, DESCRIPTION, FOLDER

log = logging.getLogger("runstream.sender")

_LOOKS: Final = 10  # a look is followed by so much time without one, while there is something to do


@dataclass(frozen=True, slots=True)
class Upload:
    """One file that waits."""

    owner: "Uploads"
    number: int
    data: Path
    workspace: str
    run: str
    path: str
    size: int
    media_type: str
    time_ns: int

    @property
    def writer(self) -> bytes:
        """The writer that kept it."""
        return self.owner.writer


class Uploads:
    """Follows a writer's folder of files. For the sender's loop alone."""

    def __init__(self, folder: Path, writer: bytes, *, copy: bool) -> None:
        self.writer = writer
        self._folder = folder / FOLDER
        self._copy = copy  # nothing is removed
        self._seen_ns = 0
        self._next_look = 0.0
        self._pending: set[int] = set()
        self._done: set[int] = set()  # that could not be removed, or may not be
        self.submit: Callable[[Upload], object] | None = None  # takes what is to be uploaded

    @property
    def pending(self) -> int:
        """How many wait, or are under way."""
        return len(self._pending)

    def settled(self, numbers: set[int]) -> bool:
        """Whether none of these waits."""
        return not self._pending & numbers

    def look(self, thoroughly: bool = False) -> set[int]:
        """Find what is new. Returns the numbers of all that wait."""
        if self.submit is None:
            return self._pending
        try:
            changed = os.stat(self._folder).st_mtime_ns
            begin = time.monotonic()
            # Each upload that is done changes the folder, too: with very many a look takes long.
            put_off = bool(self._pending) and begin < self._next_look
            if thoroughly or (changed != self._seen_ns and not put_off):
                # A change in the same tick of the clock would not show: look again.
                self._seen_ns = changed if self._list() == 0 else 0
                self._next_look = begin + _LOOKS * (time.monotonic() - begin)
        except FileNotFoundError:
            pass
        return self._pending

    def _list(self) -> int:
        """Submit what is new. Returns how many that were."""
        found = []
        known = self._pending | self._done
        for name in os.listdir(self._folder):
            stem = name.removesuffix(DESCRIPTION)
            if stem != name and stem.isdigit() and int(stem) not in known:
                found.append((int(stem), name))
        for number, name in sorted(found):
            self._pending.add(number)
            try:
                upload = self._read(number, name)
            except (OSError, ValueError, KeyError, TypeError) as error:
                log.error("%s: the description of file %d can't be read: %r", self._folder, number, error)
                self._done.add(number)
                self._pending.discard(number)
                continue
            assert self.submit is not None
            self.submit(upload)
        return len(found)

    def _read(self, number: int, name: str) -> Upload:
        content: dict[str, Any] = json.loads((self._folder / name).read_bytes())
        return Upload(
            owner=self,
            number=number,
            data=self._folder / (name.removesuffix(DESCRIPTION) + DATA),
            workspace=str(content["workspace"]),
            run=str(content["run_id"]),
            path=str(content["path"]),
            size=int(content["size"]),
            media_type=str(content.get("media_type") or ""),
            time_ns=int(content["time_ns"]),
        )

    def finished(self, upload: Upload) -> None:
        """It is in the log, or refused for good: remove it."""
        if not self._copy:
            try:
                upload.data.with_suffix(DESCRIPTION).unlink(missing_ok=True)
                upload.data.unlink(missing_ok=True)
            except OSError as error:
                log.error("%s can't be removed: %s", upload.data, error)
                self._done.add(upload.number)
        else:
            self._done.add(upload.number)
        self._pending.discard(upload.number)

    def forget(self) -> None:
        """All that is under way means nothing any more: find it again."""
        self._pending.clear()
        self._seen_ns = 0
