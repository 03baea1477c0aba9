"""Rounds of the purger, each in a process of its own, and what they are tried on.

`python -m tests.purging TABLES OBJECTS AFTER_S UNTOUCHED_S LEAVING_S [KILL]`, the first two being addresses.
KILL names a step and when it is reached, as `remove:3`: then the process ends as `kill -9` ends it. Prints
what each round removed as a line of JSON. `python -m tests.purging TABLES` prints, by table and run, what
tells each row from others.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from runstream_query.purger import Purger, PurgeSettings
from runstream_store.objects import UNTOUCHED_S, open_objects
from runstream_store.objects.folder import FolderObjects
from runstream_store.objects.obstore import BucketObjects
from runstream_store.tables import open_tables
from runstream_store.tables.clickhouse_client import ClickHouseClient

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

TABLES = ("points", "series", "logs", "artifacts", "run_events", "attributes", "models", "run_summaries")

_STEPS: dict[str, tuple[type, str]] = {
    "remove": (ClickHouseClient, "remove"),
    "leave": (FolderObjects, "_take_away"),
    "sweep": (FolderObjects, "_sweep"),
    "look": (BucketObjects, "_changed_at"),
    "drop": (BucketObjects, "_remove"),
}


def _kill_at(step: str, count: int) -> None:
    owner, name = _STEPS[step]
    work: Callable[..., Any] = getattr(owner, name)
    left = [count]

    def counted(*arguments: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return work(*arguments)

    setattr(owner, name, counted)


class Purge:
    """Three rounds, in a process that is under way."""

    def __init__(
        self,
        tables: str,
        objects: str,
        after_s: float,
        *,
        untouched_s: float = UNTOUCHED_S,
        leaving_s: float = 0.0,
        kill: str = "",
    ) -> None:
        self._kill = kill
        given = [tables, objects, str(after_s), str(untouched_s), str(leaving_s), *([kill] if kill else [])]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.purging", *given],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait(self) -> list[dict[str, Any]]:
        """What each round removed; nothing when it was killed, as was wished."""
        out, err = self._process.communicate(timeout=180)
        assert self._process.returncode == (-signal.SIGKILL if self._kill else 0), err
        return [] if self._kill else [json.loads(line) for line in out.splitlines()]


def rows(tables: str) -> dict[str, dict[str, list[str]]]:
    """By table and run, what tells each row."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.purging", tables],
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


def check_rows(
    before: dict[str, dict[str, list[str]]], after: dict[str, dict[str, list[str]]], again: bool = False
) -> None:
    """All rows of what was deleted are gone, and no others. `again`: all was read from the log once more."""
    for table in TABLES:
        for run in "kept", "archived":
            if again and table == "run_summaries":  # it says when it was made
                assert len(after[table][run]) == len(before[table][run])
            else:
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


async def _purge(
    tables_url: str, objects_url: str, after_s: float, untouched_s: float, leaving_s: float
) -> None:
    tables = await open_tables(tables_url)
    objects = await open_objects(objects_url)

    async def applied(_: float) -> bool:
        return True

    settings = PurgeSettings(after_s=after_s, untouched_s=untouched_s, leaving_s=leaving_s)
    purger = Purger(tables, objects, settings, applied)
    try:
        for _ in range(3):
            done = await purger.purge()
            swept = done.swept
            print(json.dumps({"runs": [run for _, run in done.runs], "removed": swept.removed}), flush=True)
    finally:
        await objects.close()
        await tables.close()


async def _rows(url: str) -> None:
    tables = await open_tables(url)
    found = {}
    for table in TABLES:
        sql = f"SELECT run, groupArray(toString(cityHash64(*))) AS told FROM {table} FINAL GROUP BY run"
        found[table] = {row["run"]: sorted(row["told"]) for row in (await tables.query(sql)).to_pylist()}
    print(json.dumps(found))
    await tables.close()


def main() -> None:
    tables, *given = sys.argv[1:]
    if not given:
        asyncio.run(_rows(tables))
        return
    objects, after_s, untouched_s, leaving_s, *kill = given
    if kill:
        step, _, count = kill[0].partition(":")
        _kill_at(step, int(count))
    asyncio.run(_purge(tables, objects, float(after_s), float(untouched_s), float(leaving_s)))


if __name__ == "__main__":
    main()
