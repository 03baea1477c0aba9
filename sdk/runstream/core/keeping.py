"""Puts files into the spool, from where they are uploaded, and remembers which."""

import os
import stat
from pathlib import Path
from time import time_ns
from typing import BinaryIO, Final
from weakref import WeakKeyDictionary

from runstream.core import delivery
from runstream.core.notices import say
from runstream.core.progress import Progress
from runstream.core.state import RunState
from runstream.errors import UserError
from runstream.spool.channel import Channel
from runstream.spool.files import SourceError, SpoolFullError

# Without O_NONBLOCK a pipe that nobody writes to would be waited for.
_OPEN: Final = os.O_RDONLY | sum(getattr(os, name, 0) for name in ("O_CLOEXEC", "O_BINARY", "O_NONBLOCK"))

Stamp = tuple[int, int, int, int]
"""Of a file on this machine: equal ones have equal content."""

_TYPES: Final = {
    ".log": "text/plain",
    ".md": "text/markdown",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
    ".toml": "application/toml",
    ".jsonl": "application/x-ndjson",
    ".webp": "image/webp",
    ".parquet": "application/vnd.apache.parquet",
}

_kept: "WeakKeyDictionary[RunState, dict[str, Stamp | None]]" = WeakKeyDictionary()


def kept(state: RunState) -> dict[str, Stamp | None]:
    """Names of the files that this process has put into a run, with the stamp of what was put there."""
    return _kept.setdefault(state, {})


def media_type(path: str) -> str:
    """By the name's ending; empty when it says nothing."""
    import mimetypes

    ending = os.path.splitext(path)[1].lower()
    return _TYPES.get(ending) or mimetypes.guess_type(path, strict=False)[0] or ""


def keep_path(state: RunState, name: str, path: str | os.PathLike[str]) -> bool:
    """Put a file of this machine into a run. False when it could not be kept, which is told and counted.

    Raises UserError when there is no such file, or it changed while it was read.
    """
    try:
        source = os.open(path, _OPEN)
    except (OSError, ValueError) as error:
        raise UserError(
            f"{os.fspath(path)!r:.500} can't be read: {getattr(error, 'strerror', None) or error}"
        ) from error
    try:
        found = os.fstat(source)
        if not stat.S_ISREG(found.st_mode):
            raise UserError(f"{os.fspath(path)!r:.500} is no file: upload_folder takes folders")
        with Progress(Path(path).name, found.st_size) as progress:
            done = _keep(state, name, source, media_type(name), os.fspath(path), progress)
        if done:
            kept(state)[name] = stamp(found)
        return done
    finally:
        os.close(source)


def keep_stream(state: RunState, name: str, stream: BinaryIO, kind: str = "") -> bool:
    """Put what a binary stream gives into a run. As `keep_path`."""
    with Progress(name, 0) as progress:
        done = _keep(state, name, stream, kind or media_type(name), name, progress)
    if done:
        kept(state)[name] = None
    return done


def stamp(found: os.stat_result) -> Stamp:
    """Tells one content of a file from another."""
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def stamp_of(path: str) -> Stamp | None:
    """The stamp of a file here; None when it is gone."""
    try:
        return stamp(os.stat(path))
    except OSError:
        return None


def _keep(
    state: RunState, name: str, source: int | BinaryIO, kind: str, shown: str, progress: Progress
) -> bool:
    now = time_ns()
    problems: list[SourceError] = []

    def write(channel: Channel) -> bool:
        writer = channel.writer
        description: dict[str, object] = {
            "run": channel.index,
            "workspace": state.target.workspace,
            "run_id": state.id,
            "path": name,
            "media_type": kind,
            "time_ns": now,
        }
        try:
            writer.files.keep(source, description, progress)
        except SourceError as error:
            problems.append(error)
        except SpoolFullError:
            say(
                f"{name} of run {state.id} is not kept: with it the spool would have more than its "
                f"{writer.target.cap_bytes:,} bytes. What waits there is uploaded first; set "
                "RUNSTREAM_SPOOL_CAP to take more. Training goes on, and the file is counted as dropped",
                once=f"full {state.id}/{name}",
            )
            return writer.drop(channel.index)
        except OSError as error:
            say(
                f"{name} of run {state.id} is not kept: {error.strerror or error} in {writer.folder.path}. "
                "Training goes on, and the file is counted as dropped",
                once=f"full {state.id}/{name}",
            )
            raise
        return True

    done = state.keep(write)
    if problems:
        raise UserError(f"{shown!r:.500} is not uploaded: {problems[0]}")
    if done and not state.silent:
        delivery.nudge_sender()
    return done
