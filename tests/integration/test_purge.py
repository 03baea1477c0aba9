"""What was deleted is removed: by identity, at once and through kills; what was not deleted stays."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.purging import TABLES
from tests.server import Place, wait_for
from tests.uploading import Uploads, parts

LARGE = bytes(70 << 20)

LOG = """
import io, sys
from runstream import Experiment, Workspace
ws = Workspace(workspace_name="ws")
large = bytes(70 << 20)

def make(name, **files):
    run = Experiment(ws, "e" + name[0]).start_logging(run_id=name, outputs=False)
    run.tag("of", name)
    run.log_list("x", list(range(100)))
    print("said by", name, flush=True)
    for path, content in files.items():
        run.upload_file(path.replace("_", "/"), io.BytesIO(content))
    return run

kept = make("kept", own=b"kept", shared=b"shared", large=large + b"a")
archived = make("archived", own=b"archived")
deleted = make("deleted", own=b"deleted", shared=b"shared", large=large + b"b", empty=b"")
modelled = make("modelled", own=b"modelled", model_a=b"model a", model_b=b"model b", models=b"other")
modelled.register_model("m", "model")
deleted.upload_file("own", io.BytesIO(b"deleted too"))
for run in kept, archived, deleted, modelled:
    run.complete()
    run.flush()
archived.archive()
deleted.delete()
modelled.delete()
"""
READ = """
import hashlib, sys
from runstream import Experiment, Model, Run, Workspace
from runstream.errors import NotFoundError, ServiceError, UserError
ws = Workspace(workspace_name="ws")
for name, count in ("kept", 3), ("archived", 1):
    run = Run.get(ws, name)
    assert run.get_metrics()["x"] == list(range(100)), name
    assert run.get_tags()["of"] == name
    assert len(run.get_file_names()) == count, run.get_file_names()
    found = run.verify()
    assert found.kept and not found.missing_files and found.files == count, found
Run.get(ws, "kept").download_file("large", "large")
assert hashlib.sha256(open("large", "rb").read()).hexdigest() == sys.argv[1]
Run.get(ws, "kept").download_file("shared", "shared")
assert open("shared").read() == "shared"
assert [run.id for run in Experiment(ws, "ek").get_runs()] == ["kept"]
assert [run.id for name in ("ed", "em") for run in Experiment(ws, name).get_runs()] == []
Model(ws, "m").download("models", exist_ok=True)
for name in "ab":
    assert open(f"models/model/{name}").read() == f"model {name}"
"""
LATE = """
from runstream import Experiment, Run, Workspace
experiment = Experiment(Workspace(workspace_name="ws"), "ed")
run = Run(experiment, "deleted")
run.log("late", 1.0)
run.tag("late", "1")
run.flush()
assert list(experiment.get_runs()) == []
"""


def chunks(*contents: bytes) -> set[str]:
    cut = 64 << 20
    pieces = [content[at : at + cut] for content in contents for at in range(0, len(content), cut)]
    return {hashlib.sha256(piece).hexdigest() for piece in pieces}


KEPT = chunks(b"kept", b"shared", LARGE + b"a", b"archived", b"model a", b"model b")
GONE = chunks(b"deleted", b"deleted too", LARGE + b"b", b"modelled", b"other", b"orphan") - KEPT


def stored(place: Place) -> set[str]:
    return {path.name for path in (place.data / "objects" / "sha256").glob("*/*")}


def age(place: Place) -> None:
    """Nobody has touched any chunk for two days."""
    then = time.time() - 2 * 86_400
    for path in (place.data / "objects").glob("*/*/*"):
        os.utime(path, (then, then))


def rows(place: Place) -> dict[str, dict[str, list[str]]]:
    """By table and run, what tells each row."""

    done = subprocess.run(
        [sys.executable, "-m", "tests.purging", str(place.data), "rows"],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    assert sorted(found) == sorted(TABLES)
    return found


def purge(place: Place, after_s: float, kill: str = "") -> list[dict[str, object]] | None:
    """Three rounds, with what each removed; None when it was killed, as was wished."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.purging", str(place.data), str(after_s), *([kill] if kill else [])],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    if kill:
        assert done.returncode == -signal.SIGKILL, done.stderr
        return None
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


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
    after = rows(place)
    for table in TABLES:
        for run in "kept", "archived":
            assert after[table].get(run) == before[table].get(run), (table, run)
    assert after["models"] == before["models"]
    left = {table: sorted(set(after[table]) - {"kept", "archived"}) for table in TABLES}
    assert left == {
        **{table: [] for table in TABLES},
        "attributes": ["deleted", "modelled"],
        "artifacts": ["modelled"],
        "models": ["modelled"],
    }
    assert len(after["attributes"]["deleted"]) == 1
    assert len(after["artifacts"]["modelled"]) == 2


def check_reads(place: Place) -> None:
    """What was not deleted can be read, from a server that is started for it."""
    server = place.up("--purge-after-days", "never")
    wanted = hashlib.sha256(LARGE + b"a").hexdigest()
    read = place.script(READ, wanted)
    assert read.returncode == 0, read.stderr
    server.kill()


def test_what_was_deleted_long_enough_ago_is_removed(logged: Place) -> None:
    before = rows(logged)
    early = purge(logged, 3600.0)
    assert early is not None
    assert [done["runs"] for done in early] == [[], [], []]
    assert rows(logged) == before
    assert stored(logged) == (KEPT | GONE) - chunks(b"orphan")
    late = purge(logged, 0.0)
    assert late is not None
    assert [done["runs"] for done in late] == [["deleted", "modelled"], [], []]
    assert sum(int(str(done["removed"])) for done in late) == len(GONE) - 1
    check(logged, before)
    check_reads(logged)
    server = logged.up("--purge-after-days", "never")
    done = logged.script(LATE)
    assert done.returncode == 0, done.stderr
    logged.end_sender()
    assert server.stop() == 0
    before = rows(logged)  # the sender has said more of the others, too
    assert "deleted" in before["points"]
    again = purge(logged, 0.0)
    assert again is not None
    first, *others = (done["runs"] for done in again)
    assert isinstance(first, list)
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
    assert done is not None
    assert [(one["runs"], one["removed"]) for one in done] == [(["deleted", "modelled"], 0), ([], 0), ([], 0)]
    assert stored(logged) == KEPT | GONE
    other.unlink()
    assert purge(logged, 0.0) is not None
    assert stored(logged) == KEPT
    shutil.rmtree(logged.data / "tables")
    server = logged.up("--purge-after-days", "never")
    wait_for(lambda: len(list(mine.parent.iterdir())) == 2, "the new tables to be told of")
    assert server.stop() == 0
    age(logged)
    assert purge(logged, 0.0) is not None
    assert stored(logged) == KEPT


@pytest.mark.parametrize("step", ["remove:3", "leave:2", "sweep:20"])
def test_a_round_that_was_killed_is_finished_by_the_next(logged: Place, step: str) -> None:
    before = rows(logged)
    purge(logged, 0.0, step)
    kept = stored(logged) | {path.name for path in (logged.data / "objects" / "leaving").iterdir()}
    assert kept >= KEPT
    assert purge(logged, 0.0) is not None
    check(logged, before)
