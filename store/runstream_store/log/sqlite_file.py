"""The file behind the SQLite log, and the one thread that writes it.

What is in the file: `docs/formats.md` does not cover it, since a log is drained before an upgrade needs to
read it; `FORMAT` tells versions apart.

SQLite's surprises:

- `auto_vacuum` and `page_size` only take effect before the first table is made.
- Debian compiles with `secure_delete`, which overwrites what a trim frees: it is turned off.
- The `sqlite3` module gives the GIL up around each step and has to get it back from busy threads, 5 ms each
  time in the worst case. So records are inserted many to a statement, and what was just appended is read from
  memory (see `sqlite.py`).
- A full disk shows as SQLITE_FULL or as one of several SQLITE_IOERR codes, depending on which file could not
  grow. The connection is made anew after any of them.
- `execute` runs `PRAGMA incremental_vacuum(n)` for one page only, since it steps statements without columns
  once;
  `executescript` runs it whole.
- A write-ahead log is reused from its start only when a checkpoint found everything copied and no reader in
  it; until then it grows. So reads are short.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import sqlite3
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from runstream_store.errors import LogCorrupt, LogError, LogFull, LogLocked, LogUnavailable, StoreError
from runstream_store.log.protocol import NewRecord

FORMAT: Final = 1
_APPLICATION_ID: Final = 0x52534C47  # "RSLG"
OFFSET_BITS: Final = 44
"""A record's rowid is topic << 44 | offset: a range of offsets in a topic is a range of rowids."""

_PAGE_SIZE: Final = 16384
_GROUP_BYTES: Final = (
    32 << 20
)  # of one transaction; bounds the time until the first of a group is acknowledged
_CHECKPOINT_BYTES: Final = 32 << 20
_DELETE_RECORDS: Final = 128  # of a topic in one transaction, so that appends get their turn
_KEPT_FREE_PAGES: Final = 1024
_VACUUM_PAGES: Final = 256  # in one step: more than the cache holds would be written to the log for nothing
_ROWS_PER_STATEMENT: Final = 64
_IDLE_S: Final = 0.2  # after which the file is tidied up
_PAUSE_S: Final = 0.002  # between the steps of it
_STEP_BYTES: Final = 4 << 20  # what a step adds to the write-ahead log, about

_SCHEMA: Final = (
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID",
    "CREATE TABLE topics (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, first INTEGER, next INTEGER)",
    "CREATE TABLE records (id INTEGER PRIMARY KEY, key BLOB NOT NULL, value BLOB NOT NULL)",
    "CREATE TABLE committed (topic INTEGER, consumers TEXT, done INTEGER, PRIMARY KEY (topic, consumers))",
)


@dataclass(slots=True)
class Bounds:
    """Of one topic: `first` is the first offset that is there, `next` the one that the next record gets."""

    id: int
    first: int
    next: int


@dataclass(slots=True)
class Job:
    """Something to do in the next transaction: append records, note a committed offset, or trim."""

    topic: str
    reply: asyncio.Future[Bounds]
    """For whoever finishes the job; this module only carries it."""
    records: Sequence[NewRecord] = ()
    commit: tuple[str, int] | None = None
    trim: int | None = None
    size: int = 0
    bounds: Bounds | None = None
    """Result. Of an append, `next` minus the number of records is the offset of the first."""
    error: StoreError | None = None


def connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """Opens a connection with the settings of this file."""
    uri = f"{path.as_uri()}?mode={'ro' if read_only else 'rw'}"
    db = sqlite3.connect(uri, uri=True, timeout=10, isolation_level=None, check_same_thread=False)
    if read_only:
        db.execute("PRAGMA cache_size=-2048")
        return db
    for setting in (
        f"page_size={_PAGE_SIZE}",
        "auto_vacuum=INCREMENTAL",
        "journal_mode=WAL",
        "synchronous=FULL",
        "fullfsync=1",  # macOS: a plain fsync there does not reach the medium
        "wal_autocheckpoint=0",
        f"journal_size_limit={2 * _CHECKPOINT_BYTES}",
        "secure_delete=OFF",
        "cache_size=-8192",
        "temp_store=MEMORY",
    ):
        db.execute(f"PRAGMA {setting}").fetchall()
    return db


def translate(error: sqlite3.Error, path: Path) -> LogError:
    """The store's error for one of SQLite's."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    primary = code & 0xFF
    if primary == sqlite3.SQLITE_FULL:
        return LogFull(f"no space left for the event log {path}")
    if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return LogLocked(f"another program holds the event log {path} locked")
    if primary in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return LogCorrupt(f"the event log {path} is damaged, or no event log: {error}")
    if primary == sqlite3.SQLITE_IOERR and _no_space(path):
        return LogFull(f"no space left for the event log {path}")
    return LogUnavailable(f"the event log {path} failed: {error}")


def _no_space(path: Path) -> bool:
    try:
        status = os.statvfs(path.parent)
    except OSError:
        return False
    return status.f_bavail * status.f_frsize < 2 * _PAGE_SIZE


@dataclass(frozen=True, slots=True)
class Content:
    """What a file holds when it is opened."""

    epoch: bytes
    topics: dict[str, Bounds]
    committed: dict[tuple[str, str], int]
    """By topic and group."""


def prepare(path: Path) -> Content:
    """Makes the file if it is missing.

    :raises LogError: it can't be used.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    try:
        with contextlib.closing(connect(path)) as db:
            found = db.execute("PRAGMA application_id").fetchone()[0]
            tables = db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
            if not found and not tables:
                _create(db)
            elif found != _APPLICATION_ID:
                raise LogCorrupt(f"{path} is a database, but no event log")
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if version != FORMAT:
                raise LogCorrupt(f"{path} has format {version}; this version of runstream knows {FORMAT}")
            epoch = bytes(db.execute("SELECT value FROM meta WHERE key = 'epoch'").fetchone()[0])
            committed = {
                (name, group): offset
                for name, group, offset in db.execute(
                    "SELECT name, consumers, done FROM committed JOIN topics ON topics.id = topic"
                )
            }
            return Content(epoch, read_topics(db), committed)
    except sqlite3.Error as error:
        raise translate(error, path) from error


def read_topics(db: sqlite3.Connection) -> dict[str, Bounds]:
    """All topics of the file."""
    return {
        name: Bounds(number, first, after)
        for number, name, first, after in db.execute("SELECT id, name, first, next FROM topics")
    }


def _create(db: sqlite3.Connection) -> None:
    db.execute("BEGIN IMMEDIATE")
    for statement in _SCHEMA:
        db.execute(statement)
    db.execute("INSERT INTO meta VALUES ('epoch', ?)", (os.urandom(16),))
    db.execute(f"PRAGMA application_id={_APPLICATION_ID}")
    db.execute(f"PRAGMA user_version={FORMAT}")
    db.execute("COMMIT")


class WritingThread:
    """Puts the jobs of all callers into transactions: all that are waiting into one, with one fsync."""

    def __init__(self, path: Path, finished: Callable[[list[Job]], None]) -> None:
        """`finished` is called in the thread with the jobs of each transaction, in their order."""
        self._path = path
        self._finished = finished
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._db: sqlite3.Connection | None = None
        self._topics: dict[str, Bounds] = {}
        self._trimmed: set[str] = set()  # topics with records below `first` still in the file
        self._unchecked = 0  # bytes since the last checkpoint
        self._patience_s: float | None = _IDLE_S
        """How long to wait for jobs before tidying up; None when all is tidy."""
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
        self._thread.start()

    def put(self, job: Job) -> None:
        """Queues a job."""
        self._jobs.put(job)

    def close(self) -> None:
        """Does what is queued, then ends the thread. Blocks."""
        self._jobs.put(None)
        self._thread.join()

    def _run(self) -> None:
        ended = False
        while not ended:
            jobs, ended = self._take()
            if jobs:
                self._transact(jobs)
            try:
                if ended:
                    self._disconnect()
                elif jobs:
                    self._checkpoint_when_due()
                else:
                    self._tidy()
            except sqlite3.Error:  # nothing of this is needed, and it is tried again after the next jobs
                self._patience_s = None
                self._disconnect()

    def _take(self) -> tuple[list[Job], bool]:
        """Waits for jobs, and takes all there are. None, and not ended: there is time to tidy up."""
        try:
            job = self._jobs.get(timeout=self._patience_s)
        except queue.Empty:
            return [], False
        jobs: list[Job] = []
        size = 0
        while job is not None:
            jobs.append(job)
            size += job.size
            if size >= _GROUP_BYTES:
                return jobs, False
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                return jobs, False
        return jobs, True

    def _transact(self, jobs: list[Job]) -> None:
        self._patience_s = _IDLE_S
        error = self._attempt(jobs)
        if isinstance(error, LogFull):
            self._make_room()
            error = self._attempt(jobs)
        if error is not None:
            for job in jobs:
                job.bounds, job.error = None, error
        self._finished(jobs)

    def _attempt(self, jobs: list[Job]) -> LogError | None:
        try:
            db = self._connection()
            changed = {name: replace(bounds) for name, bounds in self._topics.items()}
            db.execute("BEGIN IMMEDIATE")
            for job in jobs:
                self._do(db, job, changed)
            self._delete_trimmed(db, changed)
            for name, bounds in changed.items():
                if bounds != self._topics.get(name):
                    db.execute(
                        "UPDATE topics SET first = ?, next = ? WHERE id = ?",
                        (bounds.first, bounds.next, bounds.id),
                    )
            db.execute("COMMIT")
            self._topics = changed
        except sqlite3.Error as error:
            self._disconnect()
            return translate(error, self._path)
        except Exception as error:  # a job must not end the thread that all others wait for
            self._disconnect()
            return LogUnavailable(f"the event log {self._path} failed: {error!r}")
        return None

    def _make_room(self) -> None:
        """On a full disk: gives back what trims have freed, and empties the write-ahead log.

        In this order: a checkpoint needs no room for pages that the file no longer has.
        """
        with contextlib.suppress(sqlite3.Error):
            db = self._connection()
            db.execute("BEGIN IMMEDIATE")
            self._delete_trimmed(db, self._topics)
            db.execute("COMMIT")
        with contextlib.suppress(sqlite3.Error):
            for _ in range(64):
                self._connection().executescript(f"PRAGMA incremental_vacuum({_VACUUM_PAGES})")
        with contextlib.suppress(sqlite3.Error):
            self._empty_wal(self._connection())

    def _empty_wal(self, db: sqlite3.Connection) -> None:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        self._unchecked = 0

    def _do(self, db: sqlite3.Connection, job: Job, topics: dict[str, Bounds]) -> None:
        bounds = topics.get(job.topic)
        if bounds is None:
            row = db.execute(
                "INSERT INTO topics (name, first, next) VALUES (?, 0, 0) RETURNING id", (job.topic,)
            )
            bounds = topics[job.topic] = Bounds(row.fetchone()[0], 0, 0)
        if job.records:
            _insert(db, (bounds.id << OFFSET_BITS) + bounds.next, job.records)
            bounds.next += len(job.records)
            self._unchecked += job.size
        if job.commit is not None:
            group, offset = job.commit
            db.execute(
                "INSERT INTO committed VALUES (?, ?, ?)"
                " ON CONFLICT DO UPDATE SET done = excluded.done WHERE excluded.done > done",
                (bounds.id, group, offset),
            )
        if job.trim is not None and job.trim > bounds.first:
            bounds.first = min(job.trim, bounds.next)
            self._trimmed.add(job.topic)
        job.bounds = replace(bounds)

    def _delete_trimmed(self, db: sqlite3.Connection, topics: Mapping[str, Bounds]) -> None:
        """Deletes some of the records below the first of each topic, the oldest first."""
        for name in list(self._trimmed):
            bounds = topics[name]
            low = bounds.id << OFFSET_BITS
            deleted = db.execute(
                "DELETE FROM records WHERE id IN"
                " (SELECT id FROM records WHERE id >= ? AND id < ? ORDER BY id LIMIT ?)",
                (low, low + bounds.first, _DELETE_RECORDS),
            ).rowcount
            if deleted < _DELETE_RECORDS:
                self._trimmed.discard(name)

    def _tidy(self) -> None:
        """One step of what is left to do when nobody waits.

        Deletes, gives space back, and empties the write-ahead log.
        """
        db = self._connection()
        self._patience_s = _PAUSE_S
        if self._trimmed:
            db.execute("BEGIN IMMEDIATE")
            self._delete_trimmed(db, self._topics)
            db.execute("COMMIT")
        elif db.execute("PRAGMA freelist_count").fetchone()[0] > _KEPT_FREE_PAGES:
            db.executescript(f"PRAGMA incremental_vacuum({_VACUUM_PAGES})")
        else:
            if self._unchecked >= _STEP_BYTES:
                self._empty_wal(db)
            self._patience_s = None
            return
        self._unchecked += _STEP_BYTES
        self._checkpoint_when_due()

    def _checkpoint_when_due(self) -> None:
        if self._unchecked >= _CHECKPOINT_BYTES:
            self._connection().execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            self._unchecked = 0

    def _connection(self) -> sqlite3.Connection:
        if self._db is None:
            self._db = connect(self._path)
            self._topics = read_topics(self._db)
            self._trimmed = {name for name, bounds in self._topics.items() if bounds.first}
        return self._db

    def _disconnect(self) -> None:
        """Rolls back what is open. The last connection to close empties the write-ahead log."""
        db, self._db = self._db, None
        if db is not None:
            with contextlib.suppress(sqlite3.Error):
                db.close()


def _insert(db: sqlite3.Connection, first: int, records: Sequence[NewRecord]) -> None:
    for start in range(0, len(records), _ROWS_PER_STATEMENT):
        part = records[start : start + _ROWS_PER_STATEMENT]
        values: list[object] = []
        for number, record in enumerate(part, first + start):
            values += (number, record.key, record.value)
        db.execute(f"INSERT INTO records VALUES {','.join(['(?,?,?)'] * len(part))}", values)
