"""One process's spool, being written."""

import errno
import sys
import time
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from runstream.home import user_key
from runstream.spool import folder as places
from runstream.spool import layout
from runstream.spool.console import MOST_BYTES, Console
from runstream.spool.files import FileFolder
from runstream.spool.folder import WriterFolder
from runstream.spool.layout import Bytes
from runstream.spool.segments import (
    FolderGoneError,
    RecordFile,
    Segment,
    drop_ballast,
    has_global_lock,
    make_ballast,
    open_segment,
)
from runstream.spool.tally import Tally

_RETRY_NS: Final = 100_000_000  # after a full disk: next try
_PATIENCE_NS: Final = 100_000_000  # that log calls wait for space, in all
_CHECK_BYTES: Final = 8 << 20  # of records, between two looks at the cap
DEFAULT_CAP: Final = 8 << 30


class WriterLostError(Exception):
    """This writer can't be used any more: the process has forked, or the folder was removed."""


class Target(NamedTuple):
    """Where a writer's records are to be delivered."""

    workspace: str
    server: str | None  # host:port; None: the discovery file's when it is delivered
    api_key: str | None
    cap_bytes: int = DEFAULT_CAP


class Origin(NamedTuple):
    """What the header says about the writing process."""

    parent: str | None = None
    rank: int | None = None
    local_rank: int | None = None
    world_size: int | None = None
    drain: bool = False
    version: str = ""
    interrupt: bool = False
    observe: Mapping[str, object] | None = None  # what may be looked at from outside


class Writer:
    """A spool folder that this process alone writes, until it forks, ends, or the folder is taken away.

    Log calls never fail because of the disk: what can't be kept is dropped and counted, and told in the spool
    as soon as anything can be written.
    """

    def __init__(self, folder: WriterFolder, target: Target, origin: Origin) -> None:
        """Begin a spool. Raises OSError when that can't be done."""
        self.target = target
        self.folder = folder
        self.id = folder.writer
        self.origin = origin
        self.engine = places.choose_engine(folder.path)
        try:
            self.segment: Segment = open_segment(folder, self.engine, 0)
        except OSError as error:
            if self.engine == layout.APPEND or error.errno not in (
                errno.EPERM, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS, errno.ENODEV
            ):  # fmt: skip
                raise
            self.engine = layout.APPEND  # no hard links, no preallocation or no mapping there
            self.segment = open_segment(folder, self.engine, 0)
        self.files = FileFolder(folder, target.cap_bytes)
        self._names = RecordFile(folder, layout.NAMES)
        self._run_indexes = iter(range(layout.MAX_RUNS))
        self._series_indexes = iter(range(layout.MAX_SERIES))
        self._series: dict[tuple[str, str, str], int] = {}
        self.console = Console(folder, min(MOST_BYTES, target.cap_bytes // 8))
        self.dropped: dict[int, Tally] = {}
        self._dropped_calls = Tally()
        self._next_report = 1
        self._untold = False
        self._retired: dict[int, Segment] = {}  # used up, perhaps not by all who claimed in them
        self._retry_at = 0
        self._patience_ns = _PATIENCE_NS
        self._record_bytes = 0
        self._checked_bytes = 0
        self._over_cap = False
        self.lost = False
        self.on_trouble: Callable[[Writer, OSError | None], None] | None = None
        self.on_segment: Callable[[], None] | None = None
        make_ballast(folder)
        self._write_header()

    def _write_header(self) -> None:
        machine = places.machine()
        credential = None
        if self.target.api_key:
            self.folder.replace(layout.CREDENTIAL, self.target.api_key.encode() + b"\n")
            credential = self.folder.file(layout.CREDENTIAL)
        header = {
            "format": layout.FORMAT,
            "writer": self.id.hex(),
            "engine": self.engine,
            "pid": self.folder.pid,
            "host": machine.host,
            "boot_id": machine.boot_id,
            "user": user_key(),
            "pid_start": places.process_start(self.folder.pid),
            "pid_ns": places.pid_namespace(),
            "started_time_ns": time.time_ns(),
            "server": self.target.server,
            "credential": credential,
            **self.origin._asdict(),
        }
        self.folder.replace(layout.HEADER, layout.json_bytes(header))

    # ------------------------------------------------------------------------------ definitions

    def define_run(self, definition: dict[str, object]) -> int:
        """Write the definition of a run. Returns its index. Raises OSError when it can't be kept."""
        for index in self._run_indexes:
            self._define(layout.RUN, index, definition)
            self.dropped.setdefault(index, Tally())
            return index
        raise self._lose()  # used up: 16 million runs

    def series(self, metric: str, column: str, description: str) -> int:
        """Index of a series, defined when it is new. Raises OSError when the definition can't be kept."""
        found = self._series.get((metric, column, description))
        if found is not None:
            return found
        for index in self._series_indexes:
            definition = {"metric": metric, "column": column, "description": description}
            self._define(layout.SERIES, index, definition)
            return self._series.setdefault((metric, column, description), index)
        raise self._lose()

    def _define(self, kind: int, index: int, definition: Mapping[str, object]) -> None:
        record = layout.record(self.id, kind, index, [layout.json_bytes(definition)])
        if self.lost:
            raise WriterLostError
        try:
            self._names.append(record)
        except FolderGoneError:
            raise self._lose() from None
        except (OSError, ValueError):
            if self.lost:
                raise WriterLostError from None
            if kind != layout.RUN or not drop_ballast(self.folder):
                raise
            self._names.append(record)

    # ---------------------------------------------------------------------------------- writing

    def scalar(self, run: int, series: int, kind: int, value: float | int, step: int, time_ns: int) -> bool:
        """Write a number. False when it was dropped. Raises WriterLostError before anything is written."""
        claim = self._claim()
        if claim is None:
            return self.drop(run)
        segment, seq = claim
        try:
            segment.scalar(seq, value, step, layout.make_key(kind, run, series), time_ns)
        except OSError as error:
            return self.drop(run, error)
        except ValueError:
            if self.lost:  # a signal handler has forked, and this is the child
                raise WriterLostError from None
            raise
        if self._untold:
            self._report(segment)
        return True

    def record(
        self,
        run: int,
        kind: int,
        parts: list[list[Bytes]],
        time_ns: int,
        *,
        series: int = 0,
        step: int = layout.NO_STEP,
        last_words: bool = False,
    ) -> bool:
        """Write a record; its parts are of one call. False when it was dropped.

        `last_words` are what must be said even when nothing else can: they take the space kept for them.
        """
        if not last_words and self._cap_reached(parts):
            return self.drop(run)
        claim = self._claim(last_words)
        if claim is None:
            return self.drop(run)
        segment, seq = claim
        key = layout.make_key(layout.RECORD, run, series)
        try:
            segment.record(seq, kind, parts, step, key, time_ns)
        except OSError as error:
            if self.lost:
                raise WriterLostError from None
            if last_words and drop_ballast(self.folder):
                try:
                    segment.record(seq, kind, parts, step, key, time_ns)
                    return True
                except OSError:
                    pass
            self._abandon(segment, seq, run, time_ns)
            return self.drop(run, error)
        except ValueError:
            if self.lost:  # a signal handler has forked, and this is the child
                raise WriterLostError from None
            raise
        except BaseException:  # a signal handler raised in the middle
            self._abandon(segment, seq, run, time_ns)
            raise
        if self._untold:
            self._report(segment)
        return True

    def log(self, run: int, path: str, data: bytes, time_ns: int) -> None:
        """Keep what was printed. Raises WriterLostError before anything is kept."""
        if self.lost:
            raise WriterLostError
        self.console.piece(run, path.encode(), data, time_ns)
        if self.console.gone:
            raise self._lose()

    def _abandon(self, segment: Segment, seq: int, run: int, time_ns: int) -> None:
        """Say that nothing will come under this sequence number."""
        try:
            segment.scalar(seq, 0, layout.NO_STEP, layout.make_key(layout.ABANDONED, run, 0), time_ns)
        except (OSError, ValueError):
            pass  # then it stays a hole

    def _claim(self, last_words: bool = False) -> tuple[Segment, int] | None:
        """A sequence number for this call alone; None when there is no space."""
        while True:
            if self.lost:
                raise WriterLostError
            segment = self.segment
            seq = segment.claim()
            if seq is not None:
                return segment, seq
            following = segment.following.get(0) or self._follow(segment)
            if following is None:
                seq = segment.claim_spare() if last_words else None
                return None if seq is None else (segment, seq)
            segment.release_spare()
            seq = segment.claim()
            if seq is not None:
                return segment, seq
            if self.segment is segment:
                self._retired[segment.number] = segment
                self.segment = following

    def _follow(self, segment: Segment) -> Segment | None:
        """Make the segment after this one, unless another thread has it already. None without space."""
        while True:
            now = time.monotonic_ns()
            if now < self._retry_at and self._patience_ns <= 0:
                return None
            made, problem = self._open_next(segment)
            if made is not None:
                break
            self._retry_at = now + _RETRY_NS
            if self._patience_ns <= 0:
                self._trouble(problem)
                return None
            self._patience_ns -= 10_000_000  # the sender may make room just now
            time.sleep(0.01)
        following = segment.following.setdefault(0, made)
        if following is not made:
            made.close()
        self._retry_at = 0
        if self.on_segment is not None:
            self.on_segment()
        if self._untold:
            self._report(segment)
        return following

    def _open_next(self, segment: Segment) -> tuple[Segment | None, OSError | None]:
        """The next segment; or nothing, and why (no error: the cap is reached)."""
        self._close_retired()
        number = segment.number + 1
        size = layout.segment_slots(number) * layout.SLOT_BYTES if self.engine == layout.MMAP else 0
        try:
            if not self.folder.hold():
                raise self._lose()
            if self.folder.used_bytes() + size > self.target.cap_bytes:
                return None, None
            return open_segment(self.folder, self.engine, number), None
        except FolderGoneError:
            raise self._lose() from None
        except OSError as error:
            return None, error

    def _close_retired(self) -> None:
        """Give back what used-up segments hold, unless somebody still is in the middle of writing to one."""
        for segment in list(self._retired.values()):
            if not has_global_lock():  # counts of references say nothing then: only the mapping is given back
                self._retired.pop(segment.number, None)
            elif sys.getrefcount(segment) > 4:  # dictionary, list, variable, argument
                continue
            elif self._retired.pop(segment.number, None) is not None:
                segment.close()

    def _cap_reached(self, parts: list[list[Bytes]]) -> bool:
        """Whether the records are over the cap. Segments are checked when they are made."""
        self._record_bytes += sum(sum(map(len, part)) for part in parts)
        if self._record_bytes - self._checked_bytes < min(_CHECK_BYTES, self.target.cap_bytes // 8):
            return False
        now = time.monotonic_ns()
        if self._over_cap and now < self._retry_at:
            return True
        try:
            self._over_cap = self.folder.used_bytes() >= self.target.cap_bytes
        except OSError:
            return False
        if self._over_cap:
            self._retry_at = now + _RETRY_NS
            self._trouble(None)
        else:
            self._checked_bytes = self._record_bytes
        return self._over_cap

    # ------------------------------------------------------------------------------------- drops

    def drop(self, run: int, error: OSError | None = None) -> bool:
        """Count a call that can't be kept. Returns False."""
        if isinstance(error, FolderGoneError):
            raise self._lose()
        if self.lost:  # the error is that of a fork, which goes on in a writer of its own
            raise WriterLostError
        self.count_dropped(run)
        self._dropped_calls.add()
        self._untold = True
        if error is not None:
            self._trouble(error)
        if self._dropped_calls.total() >= self._next_report:
            self._next_report *= 16
            self._report(self.segment)
        return False

    def count_dropped(self, run: int, calls: int = 1) -> None:
        """Add to the calls of a run that could not be kept."""
        self.dropped.setdefault(run, Tally()).add(calls)

    def dropped_counts(self) -> dict[str, int]:
        """Calls that could not be kept since the start, by run index."""
        return {str(run): count for run, tally in list(self.dropped.items()) if (count := tally.total())}

    def _trouble(self, error: OSError | None) -> None:
        if self.on_trouble is not None:
            self.on_trouble(self, error)

    def _report(self, segment: Segment) -> None:
        """Say in the spool how many calls were dropped so far, if anything can be written there."""
        seq = segment.claim()
        if seq is None:
            seq = segment.claim_spare()
        if seq is None:
            return
        self._untold = False
        gap = {"first": seq, "last": seq, "dropped": self.dropped_counts()}
        now = time.time_ns()
        key = layout.make_key(layout.RECORD, layout.WRITER_ITSELF, 0)
        try:
            segment.record(seq, layout.GAP, [[layout.json_bytes(gap)]], layout.NO_STEP, key, now)
        except (OSError, ValueError):
            self._untold = True
            self._abandon(segment, seq, layout.WRITER_ITSELF, now)

    # --------------------------------------------------------------------------------------- end

    def _lose(self) -> WriterLostError:
        """Send everybody to a new writer."""
        self.lost = True
        self.segment.free = ()
        return WriterLostError()

    @property
    def seq_end(self) -> int:
        """One more than the last sequence number in use."""
        return self.segment.claimed()

    def exit(self, content: dict[str, object]) -> None:
        """Write how the process ends."""
        now = time.time_ns()
        content = {**content, "time_ns": now, "dropped": self.dropped_counts()}
        self.record(
            layout.WRITER_ITSELF,
            layout.WRITER_EXIT,
            [[layout.json_bytes(content)]],
            now,
            last_words=True,
        )

    def close(self) -> None:
        """Never write again: nobody has used this writer, or this is a fork and it is the parent's."""
        self.lost = True
        segment: Segment | None = self.segment
        for retired in self._retired.values():
            retired.close()
        while segment is not None:
            segment.close()
            segment = segment.following.get(0)
        self._names.close()
        self.console.close()
        self.folder.close()
