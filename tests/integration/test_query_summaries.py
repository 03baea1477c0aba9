"""Summaries of runs: the same whatever comes twice, and never behind a position that was saved."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from runstream.v1 import point_pb2, run_pb2
from runstream_ingest.writers.loop import WriterLoop, WriterSettings
from runstream_ingest.writers.runs import RunsSink
from runstream_query.event_writer import EventWriter
from runstream_query.summaries import Summaries
from runstream_query.summariser import Summariser
from runstream_store.hot import open_hot
from runstream_store.log import open_log
from runstream_store.position import Position
from runstream_store.tables import Tables, open_tables
from tests.reads import Row, W, opened, scalars


async def row(tables: Tables) -> dict[str, Any]:
    """The only summary, without its version."""
    sql = "SELECT * EXCEPT (version) FROM run_summaries FINAL"
    (found,) = (await tables.query(sql)).to_pylist()
    return {name: sorted(value) if isinstance(value, list) else value for name, value in found.items()}


async def test_what_comes_again_changes_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path) as reads:
        said = [
            ("run_started", {"experiment": "e", "launch": "L"}),
            ("attribute_set", {"kind": 3, "key": "lr", "value": "0.1", "seq": 2}),
            ("run_ended", {"status": run_pb2.RUN_STATUS_COMPLETED, "seq": 3}),
        ]
        rows = [*scalars([3.0, 1.0, 2.0], run="r"), Row("last word", run="r", metric="note", seq=9)]
        await reads.events("r", W[1], *said)  # type: ignore[arg-type]
        await reads.log(rows)
        await reads.summarise()
        first = await row(reads.tables)
        assert dict(first["metrics_last"]) == {"m": 2.0}
        assert dict(first["metrics_count"]) == {"m": 3, "note": 1}
        assert dict(first["metrics_text"]) == {"note": "last word"}
        await reads.log(rows, again=2)
        await reads.events("r", W[1], *said)  # type: ignore[arg-type]
        await reads.summarise()
        assert await row(reads.tables) == first
        await reads.log([Row(9.0, run="r", step=None, time=1, seq=77)])  # late, and earlier than all
        await reads.summarise()
        late = await row(reads.tables)
        assert dict(late["metrics_first"]) == {"m": 9.0}
        assert dict(late["metrics_max"]) == {"m": 9.0}
        assert dict(late["metrics_last"]) == {"m": 2.0}


class Slow:
    """Something derived that is never done until it is told."""

    def __init__(self) -> None:
        self.tickets = 0
        self.done = 0
        self.runs: set[tuple[str, str]] = set()

    def touch(self, runs: Iterable[tuple[str, str]], _positions: Sequence[Position], /) -> int:
        self.tickets += 1
        self.runs |= set(runs)
        return self.tickets

    def passed(self) -> int:
        return self.done

    async def settle(self) -> None:
        pass


async def test_a_position_is_saved_once_its_runs_are_summarised(tmp_path: Path) -> None:
    """So that after a crash the log marks them again."""
    log = await open_log(f"sqlite://{tmp_path}/log.sqlite")
    tables = await open_tables(f"chdb://{tmp_path}/tables")
    hot = await open_hot("memory://")
    slow = Slow()
    try:
        await tables.migrate()
        settings = WriterSettings(applied_interval_s=0.01)
        writer = WriterLoop(log, tables, hot, RunsSink(), settings, derived=slow)
        running = asyncio.create_task(writer.run())
        events = EventWriter(log)
        call = events.begin("test")
        started = run_pb2.RunEvent(run_started=run_pb2.RunStarted(experiment="e", launch="L"))
        call.about_run(point_pb2.RunRef(workspace="ws", run="r"), [started])
        (position,) = await events.write(call)
        assert await hot.wait_applied("runs", [position], 300.0)
        await asyncio.sleep(0.2)
        assert slow.runs == {("ws", "r")}
        assert not (await tables.query("SELECT 1 FROM applied")).num_rows
        writer.stop()
        await running
        assert not (await tables.query("SELECT 1 FROM applied")).num_rows
        # After the crash: it is read from the log again, summarised, and then saved.
        summariser = Summariser(tables, hot)
        writer = WriterLoop(log, tables, hot, RunsSink(), settings, derived=summariser)
        tasks = [asyncio.create_task(summariser.run()), asyncio.create_task(writer.run())]
        assert await hot.wait_applied("summaries", [position], 300.0)
        writer.stop()
        await tasks[1]
        tasks[0].cancel()
        await asyncio.wait(tasks)
        found = (await tables.query("SELECT offset FROM applied")).to_pylist()
        assert found == [{"offset": position.offset}]
        assert (await row(tables))["run"] == "r"
    finally:
        await hot.close()
        await tables.close()
        await log.close()


async def test_a_start_makes_good_for_what_is_missing(tmp_path: Path) -> None:
    """Tables of an older version have events and no summaries."""
    async with opened(tmp_path) as reads:
        await reads.events("old", W[1], ("run_started", {"experiment": "e", "launch": "L"}))
        assert await Summaries(reads.tables).stale() == [("ws", "old")]
        summariser = Summariser(reads.tables, reads.hot)
        running = asyncio.create_task(summariser.run())
        try:
            await asyncio.wait_for(summariser.settle(), 60)
            for _ in range(600):
                if (await reads.tables.query("SELECT 1 FROM run_summaries")).num_rows:
                    break
                await asyncio.sleep(0.1)
            assert (await row(reads.tables))["run"] == "old"
        finally:
            running.cancel()
            await asyncio.wait([running])


@pytest.mark.parametrize("name", ["with\0zero", "a\tb"])
async def test_names_of_any_kind(tmp_path: Path, name: str) -> None:
    async with opened(tmp_path) as reads:
        await reads.events("r", W[1], ("run_started", {"experiment": "e"}))
        await reads.log([Row(1.0, run="r", metric=name)])
        await reads.summarise()
        assert [key for key, _ in (await row(reads.tables))["metrics_last"]] == [name]
