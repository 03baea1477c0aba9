"""Delivers a writer's logs: what it printed, and the files in its folders of logs.

Beside the calls, never in front of them. One batch is under way at a time, so that pieces reach the server in
their order; where that is, and which files are done with, is told when it is acknowledged.
"""

import json
import logging
import os
import time
from collections import deque
from pathlib import Path
from typing import Any

from runstream.sender import events
from runstream.sender.definitions import Definitions
from runstream.sender.header import Header
from runstream.sender.log_folder import LogFolder, Read
from runstream.sender.log_looks import Look
from runstream.spool import folder as places
from runstream.spool import layout
from runstream.spool.records import Record, RecordFile
from runstream.v1 import log_pb2

log = logging.getLogger("runstream.sender")

_FOLDER_LOOK_S = 0.5
_HANGS_S = 60.0  # a folder of a run that has ended is waited for so long

Position = tuple[int, int]  # number of the file, place in it


class LogTail:
    """What is to be delivered of a writer's logs, and how far that is."""

    def __init__(
        self, folder: Path, header: Header, definitions: Definitions, kept: dict[str, Any] | None
    ) -> None:
        """`kept` is what `dump` gave in an earlier life."""
        self._folder = folder
        self._header = header
        self._definitions = definitions
        self._here = header.host == places.machine().host  # so its folders can be followed
        number, place = (kept or {}).get("console") or self._first()
        self._acked: Position = number, place  # everything below is delivered
        self._read: Position = number, place
        self._file = self._open(number, place)
        self._folders: dict[int, list[LogFolder]] = {}
        for run, dumped in (kept or {}).get("folders", ()):
            self._folders.setdefault(run, []).append(LogFolder(**dumped))
        self._looks: dict[str, tuple[Look, float]] = {}  # under way, and since when
        self._ready: deque[bytes] = deque()
        self._under_way = 0
        self._advance: tuple[LogFolder, str, list[int]] | None = None  # once what is under way is delivered
        self._marks: dict[int, Position] = {}
        self._next_look = 0.0
        self._looked_when_dead = False
        self._news = True

    def _first(self) -> Position:
        """The first file that is there; without `state.json` everything begins there."""
        numbers = self._numbers()
        return (numbers[0] if numbers else 0), 0

    def _numbers(self) -> list[int]:
        try:
            names = os.listdir(self._folder)
        except OSError:
            return []
        stems = [name.partition(".")[0] for name in names if name.endswith(layout.CONSOLE_ENDING)]
        return sorted(int(stem) for stem in stems if stem.isdigit())

    def _open(self, number: int, place: int) -> RecordFile:
        file = RecordFile(self._folder / layout.console_name(number), self._header.writer)
        file.position = place
        return file

    def dump(self) -> dict[str, Any] | None:
        """For `state.json`; None while there were no logs."""
        if self._acked == (0, 0) and not self._folders:
            return None
        folders = [[run, f.dump()] for run, of_run in self._folders.items() for f in of_run if not f.finished]
        return {"console": list(self._acked), "folders": folders}

    # ------------------------------------------------------------------------------ reading

    @property
    def idle(self) -> bool:
        """Whether nothing is under way or to be sent, as far as was seen."""
        return not self._under_way and not self._ready and not self._news

    @property
    def has_more(self) -> bool:
        """Whether something can be sent now."""
        return bool(self._ready) or (self._news and not self._under_way)

    def poll(self, dead: bool) -> bool:
        """Look for what is new. True when there is something to send."""
        if not self._under_way and not self._ready:
            self._news = self._fill(dead)
        return self.has_more

    def next(self, dead: bool) -> bytes | None:
        """A batch to be sent now, or None."""
        if not self._ready and not self._under_way:
            self._news = self._fill(dead)
        if not self._ready:
            return None
        self._under_way += 1
        return self._ready.popleft()

    def _fill(self, dead: bool) -> bool:
        """Make the next batches. True when there are some."""
        while True:
            records = self._file.read(dead)
            number = self._read[0]
            if records or self._file.position != self._read[1]:
                self._read = number, self._file.position
                self._take(number, records)
                if self._ready:
                    return True
                self._acked = self._read
                continue
            if not (self._folder / layout.console_name(number + 1)).exists():
                break
            if records := self._file.read(True):  # what came before the next file was begun
                self._read = number, self._file.position
                self._take(number, records)
                if self._ready:
                    return True
            self._file.close()
            self._file = self._open(number + 1, 0)
            self._read = self._acked = number + 1, 0
        return self._look_into_folders(dead)

    def _take(self, number: int, records: list[Record]) -> None:
        batches: dict[tuple[int, str], log_pb2.LogBatch] = {}
        for record in records:
            try:
                if record.kind == layout.LOG_PIECE:
                    self._add_piece(batches, number, record)
                elif record.kind == layout.LOG_FOLDER:
                    self._note_folder(record.seq, json.loads(bytes(record.payload)))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                log.error("%s: a record of its logs is damaged: %r", self._header.writer.hex(), error)
        self._ready.extend(batch.SerializeToString() for batch in batches.values())

    def _add_piece(
        self, batches: dict[tuple[int, str], log_pb2.LogBatch], number: int, record: Record
    ) -> None:
        time_ns, length = layout.LOG_PIECE_HEADER.unpack_from(record.payload)
        at = layout.LOG_PIECE_HEADER.size
        path = bytes(record.payload[at : at + length]).decode()
        key = record.seq, path
        batch = batches.get(key)
        if batch is None:
            batch = batches[key] = self._batch(*key)
        batch.pieces.add(
            offset=number * layout.CONSOLE_SPAN + record.offset,
            time_ns=max(time_ns, 0),
            data=bytes(record.payload[at + length :]),
        )

    def _batch(self, run: int, path: str) -> log_pb2.LogBatch:
        if self._definitions.undefined([run], [])[0]:
            raise ValueError(f"run {run} is not defined")
        return log_pb2.LogBatch(
            writer=self._header.writer,
            run=events.reference(self._definitions.runs[run]),
            path=path,
            rank=self._header.rank,
        )

    # ------------------------------------------------------------------------------ folders

    def _note_folder(self, run: int, said: dict[str, Any]) -> None:
        if not self._here:
            return
        of_run = self._folders.setdefault(run, [])
        known = next((f for f in of_run if f.folder == said["folder"]), None)
        if said["open"]:
            if known is None:
                of_run.append(LogFolder(said["folder"], said["prefix"], said["files"]))
        elif known is not None:
            known.until, known.closed = said["files"], True
            self._next_look = 0.0

    def _look_into_folders(self, dead: bool) -> bool:
        if not self._folders:
            return False
        now = time.monotonic()
        if dead and not self._looked_when_dead:
            self._looked_when_dead = True
            self._next_look = 0.0
        if now < self._next_look:
            return False
        for run, of_run in list(self._folders.items()):
            for folder in of_run:
                folder.closed = folder.closed or dead
                read = self._look_into(folder, now)
                if read is not None:
                    self._send_read(run, folder, read)
                    return True
            of_run[:] = [folder for folder in of_run if not folder.finished]
            if not of_run:
                del self._folders[run]
        self._next_look = now + _FOLDER_LOOK_S
        return False

    def _look_into(self, folder: LogFolder, now: float) -> Read | None:
        """What is new in a folder, if that is known at once, or by now of an earlier look."""
        known = self._looks.get(folder.folder)
        look, since = known or (Look(folder), now)
        if look.ended(patiently=known is None):
            self._looks.pop(folder.folder, None)
            return look.take(folder)
        self._looks[folder.folder] = look, since
        if folder.closed and now - since > _HANGS_S:
            log.error("%s does not answer: the rest of its logs is left out", folder.folder)
            folder.finished = True
            del self._looks[folder.folder]
        return None

    def _send_read(self, run: int, folder: LogFolder, read: Read) -> None:
        self._advance = folder, read.path, read.place
        batch = self._batch(run, folder.prefix + read.path)
        for at in range(0, len(read.data), layout.MOST_PIECE_BYTES):
            data = read.data[at : at + layout.MOST_PIECE_BYTES]
            batch.pieces.add(offset=read.offset + at, time_ns=max(read.time_ns, 0), data=data)
        self._ready.append(batch.SerializeToString())

    # ------------------------------------------------------------------------------ answers

    def acknowledged(self) -> None:
        """A batch is in the log, or refused for good."""
        self._under_way -= 1
        if self._under_way or self._ready:
            return
        if self._advance is not None:
            folder, path, place = self._advance
            folder.places[path] = place
            self._advance = None
        else:
            self._acked = self._read
        self._news = True

    def held(self, run: int, dead: bool) -> bool:
        """Whether something that the run logged up to the first such question is not delivered."""
        self.poll(dead)
        mark = self._marks.get(run)
        if mark is None:
            mark = self._marks[run] = self._end()
        if self._acked < mark or self._folders.get(run):
            self._next_look = min(self._next_look, time.monotonic() + 0.05)
            return True
        del self._marks[run]
        return False

    def _end(self) -> Position:
        """How far the files go now."""
        number = max(self._numbers(), default=0)
        try:
            return number, os.stat(self._folder / layout.console_name(number)).st_size
        except OSError:
            return 0, 0

    def delivered_files(self) -> list[Path]:
        """Files that hold nothing but what is delivered."""
        return [self._folder / layout.console_name(n) for n in self._numbers() if n < self._acked[0]]

    def close(self) -> None:
        """Give the descriptor back."""
        self._file.close()
