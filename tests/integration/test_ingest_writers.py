"""Writers when things go wrong: what can't be stored is kept and told, what fails is tried again."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pytest

from runstream.v1 import error_pb2, event_pb2, ingest_service_pb2, point_pb2, run_pb2
from runstream_ingest.errors import LogSetBack
from runstream_ingest.writers.block import Pace
from runstream_ingest.writers.dead_letter import DeadLetterLimit
from runstream_store.errors import RowsRefused, TablesFull, TablesUnavailable
from runstream_store.log import EventLog, Lost, NewRecord
from runstream_store.position import Position
from runstream_store.tables import Tables
from tests.batches import BOOL, DOUBLE, STRING, WRITER, Element, make_batch
from tests.faulty import FaultyLog, FaultyTables
from tests.pipeline import Pipeline, as_records, open_pipeline, pipeline, until

pytestmark = pytest.mark.usefixtures("kept_tables")

RECORD = ingest_service_pb2.PublishRecord


def good(seq: int, metric: str = "loss", run: str = "run") -> point_pb2.PointBatch:
    return make_batch([Element(value=1.0)], first_seq=seq, series=[(metric, "", "")], runs=[("local", run)])


def bad(seq: int, run: str = "run") -> point_pb2.PointBatch:
    """A batch that ingest takes, and that has a boolean that is none."""
    elements = [Element(DOUBLE, 1.0), Element(BOOL, 2, offset=1)]
    return make_batch(elements, first_seq=seq, runs=[("local", run)])


async def seqs(made: Pipeline) -> list[int]:
    return [row["seq"] for row in await made.rows("points", order="seq")]


async def dead_letters(made: Pipeline, topic: str = "points") -> list[event_pb2.DeadLetter]:
    """The dead letters of a topic, as the log has them."""

    async def start(partitions: Collection[int]) -> dict[int, int]:
        return {}

    letters: list[event_pb2.DeadLetter] = []
    consumer = await made.log.subscribe(topic + ".dead", "test", start)
    while records := await consumer.fetch(1 << 20, 0.05):
        letters.extend(event_pb2.LogRecord.FromString(record.value).dead_letter for record in records)
    await consumer.close()
    return letters


async def test_a_refused_record_is_kept_with_the_reason(tmp_path: Path) -> None:
    async with pipeline(tmp_path) as made:
        response = await made.publish_points(good(0), bad(1), good(3))
        await made.applied(response)
        assert await seqs(made) == [0, 3]
        (row,) = await made.rows("dead_letters")
        (letter,) = await dead_letters(made)
        assert made.loops[0].stats.dead_letters == 1
    assert (row["topic"], row["offset"], row["workspace"], row["run"]) == ("points", 1, "local", "run")
    assert (row["elements"], row["writer"], row["first_seq"], row["seq_end"]) == (2, WRITER, 1, 3)
    assert row["code"] == letter.code == error_pb2.ERROR_CODE_INVALID
    assert "boolean" in row["reason"]
    assert row["reason"] == letter.reason
    assert row["received_time"] > 10**18
    assert letter.position.offset == 1
    assert (letter.elements, letter.writer, letter.first_seq, letter.seq_end) == (2, WRITER, 1, 3)
    assert event_pb2.LogRecord.FromString(letter.record).points == bad(1)


async def test_each_run_sees_its_part_of_a_refused_record(tmp_path: Path) -> None:
    batch = make_batch(
        [Element(DOUBLE, 1.0, run=i % 3 // 2, offset=i) for i in range(6)] + [Element(STRING, "x", offset=6)],
        runs=[("local", "a"), ("local", "b")],
    )
    batch.integers[0] = 5  # no such text
    async with pipeline(tmp_path) as made:
        await made.applied(await made.publish_points(batch))
        rows = await made.rows("dead_letters", order="run")
    assert [(row["run"], row["elements"]) for row in rows] == [("a", 5), ("b", 2)]


async def test_a_refused_event_is_kept_and_the_others_stored(tmp_path: Path) -> None:
    def event(seq: int, experiment: str) -> ingest_service_pb2.PublishRecord:
        started = run_pb2.RunStarted(experiment=experiment, launch="l")
        run = point_pb2.RunRef(workspace="local", run=f"run{seq}")
        one = run_pb2.RunEvent(run=run, seq=seq, time_ns=1, run_started=started)
        return RECORD(run_events=run_pb2.RunEventBatch(writer=WRITER, events=[one]))

    async with pipeline(tmp_path) as made:
        response = await made.publish(event(0, "e"), event(1, ""), event(2, "e"))
        assert not response.errors
        await made.applied(response)
        assert [row["seq"] for row in await made.rows("run_events", order="seq")] == [0, 2]
        (row,) = await made.rows("dead_letters")
    assert (row["topic"], row["run"], row["elements"]) == ("runs", "run1", 0)
    assert "experiment" in row["reason"]


async def test_garbage_in_the_log_does_not_stop_the_writer(tmp_path: Path) -> None:
    newer = event_pb2.LogRecord(format=2, points=good(5)).SerializeToString()
    damaged = event_pb2.LogRecord(format=1, points=good(6), crc32=1).SerializeToString()
    other = event_pb2.LogRecord(format=1, run_events=run_pb2.RunEventBatch()).SerializeToString()
    async with pipeline(tmp_path) as made:
        values = [b"", b"garbage", newer, damaged, other]
        await made.log.append("points", [NewRecord(b"key", value) for value in values])
        await made.applied(await made.publish_points(good(9)))
        assert await seqs(made) == [9]
        rows = await made.rows("dead_letters", order="offset")
        letters = await dead_letters(made)
    assert [row["code"] for row in rows] == [
        error_pb2.ERROR_CODE_MALFORMED,
        error_pb2.ERROR_CODE_MALFORMED,
        error_pb2.ERROR_CODE_UNSUPPORTED,
        error_pb2.ERROR_CODE_MALFORMED,
        error_pb2.ERROR_CODE_UNSUPPORTED,
    ]
    assert [letter.record for letter in letters] == values


async def test_whatever_a_record_does_to_the_decoder_the_others_go_on(tmp_path: Path) -> None:
    def change(made: Pipeline) -> None:
        sink: Any = made.sinks[0]
        decode = sink.decode

        def fragile(received: Any) -> Any:
            batch, rows = decode(received)
            if batch.first_seq == 1:
                raise ZeroDivisionError("a fault of ours")
            return batch, rows

        sink.decode = fragile

    async with pipeline(tmp_path, change) as made:
        await made.applied(await made.publish_points(good(0), good(1), good(2)))
        assert await seqs(made) == [0, 2]
        (row,) = await made.rows("dead_letters")
    assert "a fault of ours" in row["reason"]
    assert row["run"] == "run"


async def test_rows_that_the_tables_refuse_are_found_among_the_others(tmp_path: Path) -> None:
    def refuse(table: str, rows: pa.Table) -> Exception | None:
        poison = table == "points" and "poison" in rows.column("metric").to_pylist()
        return RowsRefused("no such row") if poison else None

    def change(made: Pipeline) -> None:
        tables = FaultyTables(made.tables)
        tables.failure = refuse
        made.tables = cast(Tables, tables)

    batches = [good(seq, "poison" if seq in (3, 11) else "loss") for seq in range(20)]
    batches[4].series[0].description = "also after the second try"
    async with pipeline(tmp_path, change) as made:
        await made.applied(await made.publish_points(*batches))
        assert await seqs(made) == [seq for seq in range(20) if seq not in (3, 11)]
        rows = await made.rows("dead_letters", order="first_seq")
        assert [row["first_seq"] for row in rows] == [3, 11]
        assert len(await made.rows("series")) == 1


async def test_too_many_dead_letters_pause_the_writer_with_the_records_in_the_log(tmp_path: Path) -> None:
    def change(made: Pipeline) -> None:
        made.limit = DeadLetterLimit(burst=3, per_second=0.001, per_record=0.0)

    async with pipeline(tmp_path, change) as made:
        for seq in range(0, 6, 2):
            await made.applied(await made.publish_points(bad(seq)))
        response = await made.publish_points(bad(6))
        await until(lambda: asyncio.sleep(0, made.loops[0].stats.paused), "the pause")
        assert "boolean" in made.loops[0].stats.paused
        assert made.loops[0].stats.dead_letters == 3
        await made.stop_writers()  # a paused writer stops, too
    # A release that is repaired has all of it.
    async with pipeline(tmp_path) as made:
        await made.applied(response)
        assert len(await made.rows("dead_letters")) == 4


@pytest.mark.parametrize("failure", [TablesFull("no space"), TablesUnavailable("gone"), OSError("broken")])
async def test_a_failing_sink_pauses_and_goes_on(tmp_path: Path, failure: Exception) -> None:
    tables: list[FaultyTables] = []

    def change(made: Pipeline) -> None:
        tables.append(FaultyTables(made.tables))
        made.tables = cast(Tables, tables[0])

    async with pipeline(tmp_path, change) as made:
        await made.applied(await made.publish_points(good(0)))
        tables[0].failure = lambda table, rows: failure
        response = await made.publish_points(good(1), bad(2))
        await until(lambda: asyncio.sleep(0, tables[0].failed > 3), "several tries")
        assert str(failure) in made.loops[0].stats.paused
        assert await seqs(made) == [0]
        later = await made.publish_points(good(4))  # ingest goes on
        tables[0].failure = lambda table, rows: None
        await made.applied(response)
        await made.applied(later)
        assert made.loops[0].stats.paused == ""
        assert await seqs(made) == [0, 1, 4]
        assert len(await made.rows("dead_letters")) == 1


async def test_a_writer_begins_while_the_tables_are_away(tmp_path: Path) -> None:
    """As when it is given a partition by a writer that died: where to begin is read from the tables."""
    tables: list[FaultyTables] = []

    def change(made: Pipeline) -> None:
        tables.append(FaultyTables(made.tables))
        made.tables = cast(Tables, tables[0])

    async with pipeline(tmp_path) as made:
        await made.applied(await made.publish_points(good(0)))
    async with pipeline(tmp_path, change, write=False) as made:
        tables[0].query_failure = TablesUnavailable("gone")
        made.write()
        response = await made.publish_points(good(1))
        await until(lambda: asyncio.sleep(0, tables[0].failed > 3), "several tries")
        assert "gone" in made.loops[0].stats.paused
        tables[0].query_failure = None
        await made.applied(response)
        assert await seqs(made) == [0, 1]


async def test_a_writer_stops_while_its_sink_fails_and_loses_nothing(tmp_path: Path) -> None:
    tables: list[FaultyTables] = []

    def change(made: Pipeline) -> None:
        tables.append(FaultyTables(made.tables))
        made.tables = cast(Tables, tables[0])

    async with pipeline(tmp_path, change) as made:
        tables[0].failure = lambda table, rows: TablesFull("no space")
        response = await made.publish_points(good(0), good(1))
        await until(lambda: asyncio.sleep(0, tables[0].failed > 1), "several tries")
        await made.stop_writers()
        assert await made.rows("applied") == []
    async with pipeline(tmp_path) as made:
        await made.applied(response)
        assert await seqs(made) == [0, 1]


async def test_dead_letters_wait_for_the_log(tmp_path: Path) -> None:
    logs: list[FaultyLog] = []

    def change(made: Pipeline) -> None:
        logs.append(FaultyLog(made.log))

    async with pipeline(tmp_path, change, write=False) as made:
        real = made.log
        made.log = cast(EventLog, logs[0])
        made.write()
        made.log = real
        logs[0].failure = TablesUnavailable("the dead-letter topic is not there")
        response = await made.publish_points(good(0), bad(1))
        await until(lambda: asyncio.sleep(0, logs[0].failed > 2), "several tries")
        assert await made.hot.applied("points", "points", 0, response.positions[0].epoch) is None
        logs[0].failure = None
        await made.applied(response)
        assert len(await dead_letters(made)) == 1


async def test_the_log_is_trimmed_behind_the_tables(tmp_path: Path) -> None:
    def change(made: Pipeline) -> None:
        made.settings = replace(made.settings, trim=True, trim_interval_s=0.0, applied_interval_s=0.05)

    async with pipeline(tmp_path, change) as made:
        for seq in range(4):
            await made.applied(await made.publish_points(good(seq)))
        (last,) = (await made.publish_points(good(4))).positions

        async def trimmed() -> bool:
            return await made.log.bounds("points", 0) == (last.offset, last.offset + 1)

        await until(trimmed, "the trim, which leaves the last record applied")
        (applied,) = await made.rows("applied")
        assert applied["offset"] == last.offset
        assert await made.log.committed("points", 0, "points") == last.offset
    async with pipeline(tmp_path, change) as made:
        await made.applied(await made.publish_points(good(9)))
        assert await seqs(made) == [0, 1, 2, 3, 4, 9]
        assert made.loops[0].stats.records == 1
        assert made.loops[0].stats.lost == 0


async def test_records_that_expired_are_counted(tmp_path: Path) -> None:
    made = await open_pipeline(tmp_path)
    await made.serve()
    try:
        made.write()
        await made.applied(await made.publish_points(good(0)))
        await made.stop_writers()
        for seq in range(1, 6):
            await made.publish_points(good(seq))
        await made.log.trim("points", 0, 4)
        made.write()
        await made.applied(await made.publish_points(good(9)))
        assert await seqs(made) == [0, 4, 5, 9]
        (row,) = await made.rows("dead_letters")
        assert made.loops[0].stats.lost == 3
    finally:
        await made.close()
    assert (row["topic"], row["offset"], row["elements"], row["run"]) == ("points", 1, 3, "")
    assert "expired" in row["reason"]


class _Elsewhere:
    """The log, but with other records at the offsets that were applied."""

    def __init__(self, log: EventLog, end: int | None = None) -> None:
        self._log = log
        self._end = end

    async def bounds(self, topic: str, partition: int, /) -> tuple[int, int]:
        first, end = await self._log.bounds(topic, partition)
        return first, end if self._end is None else self._end

    async def subscribe(self, *args: Any) -> Any:
        consumer: Any = await self._log.subscribe(*args)
        fetch = consumer.fetch

        async def other(*args: Any) -> Any:
            return [replace(record, value=record.value + b"?") for record in await fetch(*args)]

        consumer.fetch = other
        return consumer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)


@pytest.mark.parametrize("end", [None, 0])
async def test_a_log_that_was_set_back_stops_the_writer(tmp_path: Path, end: int | None) -> None:
    async with pipeline(tmp_path) as made:
        await made.applied(await made.publish_points(good(0)))
    async with pipeline(tmp_path, write=False) as made:
        (row,) = [row for row in await made.rows("applied") if row["consumer"] == "points"]
        real = made.log
        made.log = cast(EventLog, _Elsewhere(real, end))
        made.write()
        made.log = real
        with pytest.raises(LogSetBack, match="set back"):
            await made.tasks[0]
        made.tasks.pop(0)
        assert row["check"] != zlib.crc32(b"")
        assert [row["offset"] for row in await made.rows("applied") if row["consumer"] == "points"] == [0]


async def test_losses_do_not_count_what_was_applied() -> None:
    from runstream_ingest.writers.applied import Applied

    nothing: Any = None
    applied = Applied(nothing, nothing, nothing, "points", "points", bytes(16))
    applied._expected[0] = (5, 0)
    assert applied.lost([Lost("points", 0, 5, 5)]) == []
    assert applied.lost([Lost("points", 0, 5, 9)]) == [Lost("points", 0, 6, 9)]
    assert applied.lost([Lost("points", 1, 5, 9)]) == [Lost("points", 1, 5, 9)]


async def test_blocks_grow_under_load_and_nothing_waits_alone(tmp_path: Path) -> None:
    def change(made: Pipeline) -> None:
        made.settings = replace(made.settings, pace=Pace(rows=5_000, linger_s=0.3))

    def large(n: int) -> point_pb2.PointBatch:
        return make_batch([Element(value=float(i), offset=i) for i in range(1000)], first_seq=1000 * n)

    async with pipeline(tmp_path, change) as made:
        await made.applied(await made.publish_points(good(10**9)))
        assert made.loops[0].stats.blocks == 1
        responses = await asyncio.gather(*(made.publish(*as_records([large(n)])) for n in range(100)))
        for response in responses:
            await made.applied(response)
        stats = made.loops[0].stats
        assert stats.rows == 100_001
        assert stats.blocks <= 60
        found = await made.tables.query("SELECT count() AS n FROM points FINAL")
    assert found.to_pylist() == [{"n": 100_001}]


async def test_readers_are_told_what_is_applied_after_a_restart(tmp_path: Path) -> None:
    async with pipeline(tmp_path) as made:
        response = await made.publish_points(good(0))
        await made.applied(response)
    async with pipeline(tmp_path) as made:
        (position,) = response.positions
        wanted = Position(position.topic, position.partition, position.offset, position.epoch)
        assert await made.hot.wait_applied("points", [wanted], 30.0)


async def test_compressed_records_are_decoded_by_and_by(tmp_path: Path) -> None:
    import zstandard

    def change(made: Pipeline) -> None:
        made.settings = replace(made.settings, pace=Pace(rows=2_000))

    compressor = zstandard.ZstdCompressor(level=1)
    batches = [make_batch([Element(offset=i) for i in range(1_000)], first_seq=1_000 * n) for n in range(20)]
    async with pipeline(tmp_path, change, write=False) as made:
        response = await made.publish(
            *(
                RECORD(
                    compressed_points=compressor.compress(batch.SerializeToString()),
                    compression=event_pb2.COMPRESSION_ZSTD,
                )
                for batch in batches
            )
        )
        assert not response.errors
        made.write()
        await made.applied(response)
        assert made.loops[0].stats.blocks == 10  # all were fetched at once
        assert len(await seqs(made)) == 20_000


async def test_a_large_block_that_fails_is_tried_in_halves(tmp_path: Path) -> None:
    tables: list[FaultyTables] = []

    def change(made: Pipeline) -> None:
        tables.append(FaultyTables(made.tables))
        made.tables = cast(Tables, tables[0])

    def limited(table: str, rows: pa.Table) -> Exception | None:
        return TablesUnavailable("too little memory") if rows.num_rows > 40_000 else None

    batches = [make_batch([Element(offset=i) for i in range(20_000)], first_seq=20_000 * n) for n in range(4)]
    async with pipeline(tmp_path, change, write=False) as made:
        tables[0].failure = limited
        response = await made.publish_points(*batches)
        made.write()
        await made.applied(response)
        assert len(await seqs(made)) == 80_000
        assert await made.rows("dead_letters") == []


async def test_the_first_block_after_a_start_is_small(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[int] = []

    def change(made: Pipeline) -> None:
        made.settings = replace(made.settings, pace=Pace(rows=10_000, first_rows=2_000))

    batches = [make_batch([Element(offset=i) for i in range(1_000)], first_seq=1_000 * n) for n in range(20)]
    async with pipeline(tmp_path, change, write=False) as made:
        response = await made.publish(*as_records(batches))
        insert = made.tables.insert

        async def counted(table: str, block: pa.Table) -> None:
            if table == "points":
                rows.append(block.num_rows)
            await insert(table, block)

        monkeypatch.setattr(made.tables, "insert", counted)
        made.write()
        await made.applied(response)
        assert (rows[0], sum(rows)) == (2_000, 20_000)  # all were fetched at once
        assert max(rows) > 2_000
