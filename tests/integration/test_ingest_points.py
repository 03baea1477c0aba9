"""Points and events from the port to the tables, over real engines: what arrives, and that it does once."""

from __future__ import annotations

import asyncio
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from runstream.v1 import event_pb2, ingest_service_pb2, point_pb2, run_pb2
from tests.batches import (
    BIG,
    BOOL,
    DECLARATION,
    DOUBLE,
    INT64,
    NONE,
    STRING,
    TABLE_DECLARATION,
    WRITER,
    Element,
    comparable,
    expected_rows,
    make_batch,
)
from tests.pipeline import METADATA, Pipeline, as_records, pipeline, until
from tests.wire import field, unusual

pytestmark = pytest.mark.usefixtures("kept_tables")

RECORD = ingest_service_pb2.PublishRecord
RUN = point_pb2.RunRef(workspace="local", run="run")


def every_kind() -> point_pb2.PointBatch:
    """One batch with each kind of value, in several runs and series."""
    values: list[tuple[int, Any]] = [
        *((DOUBLE, value) for value in (0.1, -0.0, float("nan"), float("inf"), -float("inf"), 5e-324)),
        *((INT64, value) for value in (0, -1, 2**53 + 1, 2**63 - 1, -(2**63))),
        *((BOOL, value) for value in (0, 1)),
        (NONE, None),
        *(
            (STRING, value)
            for value in ("", "text", "Grüße 🎉", "\0null", 'it\'s \\ "quoted"\n', "x" * 70_000)
        ),
        *((BIG, value) for value in (10**30, -(10**400))),
        (DECLARATION, None),
        (TABLE_DECLARATION, None),
    ]
    elements = [
        Element(
            kind, value, i % 2, i % 3, i // 2, i % 2, i % 7 if i % 5 else -(2**63), 10**18 + i, 10**18 - i
        )
        for i, (kind, value) in enumerate(values)
    ]
    return make_batch(
        elements,
        first_seq=2**60,
        rank=5,
        runs=[("local", "a"), ("local", "b")],
        series=[("loss", "", "the loss"), ("table", "x", ""), (" trailing ", "größe", "with 'quotes'")],
    )


def many(seed: int, count: int = 20) -> list[point_pb2.PointBatch]:
    """Batches of several writers, with equal points and repeated steps among them."""
    random = Random(seed)
    return [
        make_batch(
            [
                Element(
                    DOUBLE, random.choice((0.0, 1.0, random.random())), offset=i, step=random.randrange(5)
                )
                for i in range(random.randint(1, 50))
            ],
            writer=bytes([n % 3]) * 16,
            first_seq=100 * n,
        )
        for n in range(count)
    ]


def expected(batches: list[point_pb2.PointBatch]) -> list[tuple[Any, ...]]:
    return sorted(comparable(row) for batch in batches for row in expected_rows(batch))


async def stored(made: Pipeline) -> list[tuple[Any, ...]]:
    return sorted(comparable(row) for row in await made.rows("points"))


async def test_every_kind_of_value_arrives_as_it_is(tmp_path: Path) -> None:
    batch = every_kind()
    async with pipeline(tmp_path) as made:
        await made.applied(await made.publish_points(batch))
        assert await stored(made) == expected([batch])
        descriptions = [(row["run"], row["metric"], row["description"]) for row in await made.rows("series")]
    assert descriptions == [
        ("a", " trailing ", "with 'quotes'"),
        ("a", "loss", "the loss"),
        ("b", " trailing ", "with 'quotes'"),
        ("b", "loss", "the loss"),
    ]


async def test_unusual_encodings_arrive_the_same(tmp_path: Path) -> None:
    batch, random = every_kind(), Random(7)
    async with pipeline(tmp_path) as made:
        call: Any = made.channel.stream_stream("/runstream.v1.IngestService/Publish")(metadata=METADATA)
        response = ingest_service_pb2.PublishResponse()
        for n in range(1, 6):  # in any of five ways the same elements
            payload = unusual(batch.SerializeToString(), random)
            await call.write(b"\x08" + bytes([n]) + field(2, field(1, payload)) + field(99, b"unknown"))
            answer = await call.read()
            response = ingest_service_pb2.PublishResponse.FromString(answer)
            assert response.request_id == n
            assert not response.errors
        await call.done_writing()
        await made.applied(response)
        assert await stored(made) == expected([batch])


async def test_repeats_are_stored_once(tmp_path: Path) -> None:
    batches = many(1)
    shuffled = batches * 2
    Random(2).shuffle(shuffled)
    async with pipeline(tmp_path) as made:
        for start in range(0, len(shuffled), 7):
            await made.applied(await made.publish_points(*shuffled[start : start + 7]))
        assert await stored(made) == expected(batches)


async def test_the_whole_log_again_changes_nothing(tmp_path: Path) -> None:
    batches = [*many(3), every_kind()]
    tables = ("points", "run_events", "attributes", "series", "dead_letters")
    async with pipeline(tmp_path) as made:
        responses = [await made.publish_points(batch) for batch in batches]
        responses.append(await made.publish(RECORD(run_events=run_events())))
        for response in responses:
            await made.applied(response)
        await made.stop_writers()
        before = {name: await made.rows(name) for name in tables}
        assert {row["consumer"] for row in await made.rows("applied")} == {"points", "runs"}

    def rename(made: Pipeline) -> None:  # nothing is known of them: they read from the start
        for sink in made.sinks:
            sink.consumer = f"{sink.consumer}-again"

    async with pipeline(tmp_path, rename) as again:
        for response in responses:
            await again.applied(response, consumer="{}-again")
        await again.stop_writers()
        after = {name: await again.rows(name) for name in tables}
    assert repr(after) == repr(before)  # NaN is not equal to itself
    assert len(after["points"]) == len(expected(batches))


async def test_a_restart_goes_on_where_it_was(tmp_path: Path) -> None:
    batches = many(4)
    last = run_pb2.LogPosition()
    for n in range(3):
        async with pipeline(tmp_path) as made:
            response = await made.publish_points(*batches[n * 5 : n * 5 + 5])
            last = response.positions[0]
            if n != 1:  # the second ends with points that are only in the log
                await made.applied(response)
            if n:
                assert made.loops[0].stats.records <= 10  # not from the start
    async with pipeline(tmp_path) as made:

        async def known() -> bool:
            return await made.hot.applied("points", "points", 0, last.epoch) == last.offset

        await until(known, "the position of the last run")
        assert await stored(made) == expected(batches[:15])


async def test_many_requests_are_under_way_and_answered_in_order(tmp_path: Path) -> None:
    batches = many(5, 200)
    async with pipeline(tmp_path) as made:
        call = made.stub.Publish(metadata=METADATA)

        async def send() -> None:
            for n, batch in enumerate(batches):
                await call.write(
                    ingest_service_pb2.PublishRequest(request_id=1000 + n, records=as_records([batch]))
                )
            await call.done_writing()

        sending = asyncio.create_task(send())
        answers = [response async for response in call]
        await sending
        assert [answer.request_id for answer in answers] == list(range(1000, 1200))
        assert [answer.HasField("server") for answer in answers] == [True] + [False] * 199
        assert answers[0].server.version == "1.2.3"
        assert answers[0].server.http_url == "http://127.0.0.1:1"
        assert len(answers[0].server.server_id) == 16
        await made.applied(answers[-1])
        assert await stored(made) == expected(batches)


def run_events() -> run_pb2.RunEventBatch:
    """Each kind of event."""
    position = run_pb2.LogPosition(topic="points", offset=3, epoch=bytes(16))
    events: list[dict[str, Any]] = [
        {
            "run_started": run_pb2.RunStarted(
                experiment="e", launch="l", display_name="d", parent="p", run_type="t", restart=2
            )
        },
        {
            "writer_started": run_pb2.WriterStarted(
                role=run_pb2.WRITER_ROLE_MAIN, launch="l", rank=0, world_size=2, host="h", pid=1
            )
        },
        {"attribute_set": run_pb2.AttributeSet(kind=run_pb2.ATTRIBUTE_KIND_TAG, key="tag", value="first")},
        {"attribute_set": run_pb2.AttributeSet(kind=run_pb2.ATTRIBUTE_KIND_TAG, key="tag", value="second")},
        {"attribute_set": run_pb2.AttributeSet(kind=run_pb2.ATTRIBUTE_KIND_PARAM, key="none")},
        {"attribute_set": run_pb2.AttributeSet(kind=run_pb2.ATTRIBUTE_KIND_TAG, key="gone", removed=True)},
        {"run_ended": run_pb2.RunEnded(status=run_pb2.RUN_STATUS_FAILED, error_message="it failed")},
        {
            "writer_ended": run_pb2.WriterEnded(
                role=run_pb2.WRITER_ROLE_MAIN,
                launch="l",
                outcome=run_pb2.WRITER_OUTCOME_EXCEPTION,
                exit_code=1,
                seq_end=9,
            )
        },
        {"writer_drained": run_pb2.WriterDrained(seq_end=9, positions=[position], logged=3, rejected=1)},
    ]
    return run_pb2.RunEventBatch(
        writer=WRITER,
        events=[run_pb2.RunEvent(run=RUN, seq=n, time_ns=10**18 + n, **one) for n, one in enumerate(events)],
    )


async def test_events_become_rows(tmp_path: Path) -> None:
    events = run_events()
    async with pipeline(tmp_path) as made:
        await made.applied(await made.publish(RECORD(run_events=events)))
        found = {row["kind"]: row for row in await made.rows("run_events")}
        attributes = await made.rows("attributes", order="seq")
    at = {
        run_pb2.RunEvent.DESCRIPTOR.fields_by_name[event.WhichOneof("event") or ""].number: event
        for event in events.events
        if not event.HasField("attribute_set")
    }
    assert found.keys() == at.keys() == {4, 5, 7, 8, 9}
    for kind, row in found.items():
        assert row["seq"] == at[kind].seq
        assert row["time"] == at[kind].time_ns
        assert row["writer"] == WRITER
        assert run_pb2.RunEvent.FromString(row["event"]) == at[kind]
    assert (found[4]["experiment"], found[4]["launch"], found[4]["restart"]) == ("e", "l", 2)
    assert (found[7]["role"], found[7]["rank"], found[7]["launch"]) == (1, 0, "l")
    assert found[4]["rank"] == -1
    assert found[5]["status"] == run_pb2.RUN_STATUS_FAILED
    assert (found[8]["role"], found[8]["outcome"], found[8]["precedence"]) == (1, 2, 36)
    assert found[9]["precedence"] == 9
    assert [(row["key"], row["value"], row["removed"]) for row in attributes] == [
        ("tag", "first", 0),
        ("tag", "second", 0),
        ("none", None, 0),
        ("gone", None, 1),
    ]
    assert all(row["version"] == 10**18 + row["seq"] for row in attributes)


async def test_of_several_deliveries_the_first_or_the_best_informed_counts(tmp_path: Path) -> None:
    def batch(**event: Any) -> ingest_service_pb2.PublishRecord:
        return RECORD(
            run_events=run_pb2.RunEventBatch(
                writer=WRITER, events=[run_pb2.RunEvent(run=RUN, seq=1, **event)]
            )
        )

    far = 2**62  # a clock that is ahead by centuries
    deliveries = [
        batch(
            time_ns=far,
            attribute_set=run_pb2.AttributeSet(kind=run_pb2.ATTRIBUTE_KIND_TAG, key="k", value="v"),
        ),
        batch(
            time_ns=9,
            writer_ended=run_pb2.WriterEnded(outcome=run_pb2.WRITER_OUTCOME_CLEAN, seq_end=5, exit_seen=True),
        ),
        batch(
            time_ns=1,
            writer_ended=run_pb2.WriterEnded(outcome=run_pb2.WRITER_OUTCOME_KILLED, seq_end=5, observed=True),
        ),
        batch(
            time_ns=2,
            writer_ended=run_pb2.WriterEnded(
                outcome=run_pb2.WRITER_OUTCOME_KILLED, seq_end=4, observed=True, exit_seen=True
            ),
        ),
        batch(
            time_ns=far,
            attribute_set=run_pb2.AttributeSet(kind=run_pb2.ATTRIBUTE_KIND_TAG, key="k", value="v"),
        ),
    ]
    async with pipeline(tmp_path) as made:
        received = []
        for delivery in deliveries:
            response = await made.publish(delivery)
            await made.applied(response)
            received.append(await made.rows("attributes"))
        (ended,) = await made.rows("run_events")
    assert (ended["time"], ended["outcome"]) == (9, 1)
    assert received[0] == received[-1]
    assert received[0][0]["version"] < far


async def test_descriptions_are_the_newest_whatever_the_order(tmp_path: Path) -> None:
    def batch(text: str, time_ns: int, seq: int) -> point_pb2.PointBatch:
        return make_batch(
            [Element(time_ns=time_ns, logged_time_ns=time_ns)], first_seq=seq, series=[("loss", "", text)]
        )

    deliveries = [batch("a", 1000, 1), batch("", 9000, 4), batch("a", 3000, 3), batch("b", 2000, 2)]
    async with pipeline(tmp_path) as made:
        for delivery in deliveries:
            await made.applied(await made.publish_points(delivery))
        await made.stop_writers()
        (row,) = await made.rows("series")
    assert (row["description"], row["version"]) == ("a", 3000)


async def test_compressed_batches_and_large_ones_arrive(tmp_path: Path) -> None:
    import zstandard

    count = 400_000
    large = make_batch([Element()])
    large.count = count
    large.ClearField("doubles")
    large.ClearField("time_ns")
    large.doubles.extend(np.arange(count, dtype=np.float64).tolist())
    large.time_ns.extend(range(count))
    packed = RECORD(
        compressed_points=zstandard.ZstdCompressor().compress(large.SerializeToString()),
        compression=event_pb2.COMPRESSION_ZSTD,
    )
    async with pipeline(tmp_path) as made:
        response = await made.publish(packed)
        assert not response.errors
        await made.applied(response)
        found = await made.tables.query("SELECT count() AS n, sum(value) AS s FROM points FINAL")
    assert found.to_pylist() == [{"n": count, "s": float(sum(range(count)))}]
