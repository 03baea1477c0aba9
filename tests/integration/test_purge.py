"""What was deleted is removed: by identity, at once and through kills; what was not deleted stays."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from tests.purging import GONE, KEPT, LARGE, LATE, LOG, READ, Purge, check_rows, chunks, rows
from tests.server import Place, wait_for
from tests.uploading import Uploads, parts


def stored(place: Place) -> set[str]:
    return {path.name for path in (place.data / "objects" / "sha256").glob("*/*")}


def age(place: Place) -> None:
    """Nobody has touched any chunk for two days."""
    then = time.time() - 2 * 86_400
    for path in (place.data / "objects").glob("*/*/*"):
        os.utime(path, (then, then))


def tables(place: Place) -> str:
    return f"chdb://{place.data}/tables"


def purge(place: Place, after_s: float, kill: str = "") -> list[dict[str, Any]]:
    """Three rounds, with what each removed; nothing when it was killed, as was wished."""
    return Purge(tables(place), f"file://{place.data}/objects", after_s, kill=kill).wait()


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder of a server that is down, with what the scripts logged."""
    place = Place(tmp_path_factory.mktemp("recorded"))
    try:
        server = place.up("--purge-after-days", "never")
        done = place.script(LOG)
        assert done.returncode == 0, done.stderr
        client = Uploads(server.grpc, server.token)
        client.put(list(parts(b"orphan")))
        client.close()
        place.end_sender()
        assert server.stop() == 0
    finally:
        place.close()
    return place.data


@pytest.fixture
def logged(place: Place, recorded: Path) -> Place:
    """A place with a copy of it, in which nobody has touched any chunk for two days."""
    shutil.copytree(recorded, place.data, symlinks=True)
    assert stored(place) == KEPT | GONE
    age(place)
    return place


def check(place: Place, before: dict[str, dict[str, list[str]]]) -> None:
    """All that was deleted is gone, and nothing else."""
    assert stored(place) == KEPT
    assert not list((place.data / "objects" / "leaving").iterdir())
    check_rows(before, rows(tables(place)))


def check_reads(place: Place) -> None:
    """What was not deleted can be read, from a server that is started for it."""
    server = place.up("--purge-after-days", "never")
    wanted = hashlib.sha256(LARGE + b"a").hexdigest()
    read = place.script(READ, wanted)
    assert read.returncode == 0, read.stderr
    server.kill()


def test_what_was_deleted_long_enough_ago_is_removed(logged: Place) -> None:
    before = rows(tables(logged))
    early = purge(logged, 3600.0)
    assert [done["runs"] for done in early] == [[], [], []]
    assert rows(tables(logged)) == before
    assert stored(logged) == (KEPT | GONE) - chunks(b"orphan")
    late = purge(logged, 0.0)
    assert [done["runs"] for done in late] == [["deleted", "modelled"], [], []]
    assert sum(done["removed"] for done in late) == len(GONE) - 1
    check(logged, before)
    check_reads(logged)
    server = logged.up("--purge-after-days", "never")
    done = logged.script(LATE)
    assert done.returncode == 0, done.stderr
    logged.end_sender()
    assert server.stop() == 0
    before = rows(tables(logged))  # the sender has said more of the others, too
    assert "deleted" in before["points"]
    again = purge(logged, 0.0)
    first, *others = (done["runs"] for done in again)
    assert "deleted" in first  # a server that was killed may have made the summaries of others anew
    assert set(first) <= {"deleted", "modelled"}
    assert others == [[], []]
    check(logged, before)
    check_reads(logged)


def test_what_other_tables_may_refer_to_stays(logged: Place) -> None:
    """Two servers that share a folder of objects, or tables that were lost and made anew."""
    (mine,) = (logged.data / "objects" / "referrers").iterdir()
    other = mine.with_name("1700000000000-1700000000001")
    other.touch()
    done = purge(logged, 0.0)
    assert [(one["runs"], one["removed"]) for one in done] == [(["deleted", "modelled"], 0), ([], 0), ([], 0)]
    assert stored(logged) == KEPT | GONE
    other.unlink()
    assert len(purge(logged, 0.0)) == 3
    assert stored(logged) == KEPT
    shutil.rmtree(logged.data / "tables")
    server = logged.up("--purge-after-days", "never")
    wait_for(lambda: len(list(mine.parent.iterdir())) == 2, "the new tables to be told of")
    assert server.stop() == 0
    age(logged)
    assert len(purge(logged, 0.0)) == 3
    assert stored(logged) == KEPT


@pytest.mark.parametrize("step", ["remove:3", "leave:2", "sweep:20"])
def test_a_round_that_was_killed_is_finished_by_the_next(logged: Place, step: str) -> None:
    before = rows(tables(logged))
    purge(logged, 0.0, step)
    kept = stored(logged) | {path.name for path in (logged.data / "objects" / "leaving").iterdir()}
    assert kept >= KEPT
    assert len(purge(logged, 0.0)) == 3
    check(logged, before)
