"""Folders whose files become part of a run when it ends: what the script wrote there while it ran."""

import os
from collections.abc import Iterator
from typing import Any, Final
from weakref import WeakKeyDictionary

from runstream.core import keeping
from runstream.core.notices import say
from runstream.core.paths import artifact_path
from runstream.core.state import RunState
from runstream.errors import RunstreamError, UserError

DEFAULT: Final = "outputs"
_CLOCK_NS: Final = 20_000_000  # file systems take the time from a clock that ticks, and lags behind

_MOST_TAKEN: Final = 10_000

# What earlier runs of this process have captured, by path: not the next one's, though the clock can't tell.
_taken: dict[str, keeping.Stamp] = {}
_watched: "WeakKeyDictionary[RunState, tuple[int, list[tuple[str, str]]]]" = WeakKeyDictionary()


def folders(outputs: Any) -> list[str]:
    """The folders that an `outputs` argument means. Raises UserError."""
    if outputs is False:
        return []
    names = [DEFAULT] if outputs in (None, True) else [outputs] if isinstance(outputs, str) else outputs
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) and name for name in names):
        raise UserError(f"outputs is a folder, a list of folders, or False, not {outputs!r:.100}")
    return list(names)


def watch(state: RunState, names: list[str], started_ns: int) -> None:
    """Take what is written to these folders from now on into the run, when it ends."""
    if names:
        places = [(os.path.abspath(name), _tree_name(name)) for name in names]
        _watched[state] = started_ns, places


def capture(state: RunState) -> None:
    """Keep what was written. Never raises: what can't be kept is told."""
    found = _watched.pop(state, None)
    if found is None or not state.decides():
        return
    started_ns, places = found
    for folder, name in places:
        for path, inner in files(folder):
            _capture_file(state, path, f"{name}/{inner}", started_ns)


def capture_all() -> None:
    """The same for every run of this process that has not ended."""
    for state in list(_watched.keys()):
        capture(state)


def find(state: RunState, name: str) -> list[tuple[str, str]]:
    """Files in the run's folders that are, or lie under, a name in its tree: paths here, and names there."""
    _, places = _watched.get(state, (0, []))
    there = [(path, f"{top}/{inner}") for folder, top in places for path, inner in files(folder)]
    return [(path, full) for path, full in there if full == name or full.startswith(name.rstrip("/") + "/")]


def _tree_name(name: str) -> str:
    relative = os.path.relpath(name) if os.path.isabs(name) else os.path.normpath(name)
    if os.path.isabs(relative) or relative.split(os.sep)[0] == os.pardir or relative == os.curdir:
        relative = os.path.basename(os.path.abspath(name)) or DEFAULT
    return relative.replace(os.sep, "/")


def files(folder: str) -> Iterator[tuple[str, str]]:
    """Plain files below a folder, also through links to files: paths, and paths in the folder."""
    for root, inner, names in os.walk(folder):
        inner.sort()
        for name in sorted(names):
            path = os.path.join(root, name)
            if os.path.isfile(path):
                yield path, os.path.relpath(path, folder).replace(os.sep, "/")


def _capture_file(state: RunState, path: str, name: str, started_ns: int) -> None:
    try:
        found = os.stat(path)
        if max(found.st_ctime_ns, found.st_mtime_ns) < started_ns - _CLOCK_NS:
            return  # it was there before
        stamp = keeping.stamp(found)
        if found.st_mtime_ns < started_ns + _CLOCK_NS and _taken.get(path) == stamp:
            return
        name = artifact_path(name)
        if len(_taken) >= _MOST_TAKEN:
            _taken.clear()
        _taken[path] = stamp
        if keeping.kept(state).get(name) == stamp:
            return  # the script has uploaded it itself
        keeping.keep_path(state, name, path)
    except (RunstreamError, OSError) as error:
        say(f"{path} is not captured for run {state.id}: {error}")
