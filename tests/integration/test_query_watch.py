"""Following a run, and completing filters."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from runstream.v1 import point_pb2, run_pb2
from runstream.v1 import query_service_pb2 as messages
from runstream_query.errors import InvalidArgument, NotFound
from runstream_store.position import Position
from tests.reads import Reads, Row, W, opened, scalars

pytestmark = pytest.mark.asyncio(loop_scope="module")

REF = point_pb2.RunRef(workspace="ws", run="live")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def reads(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Reads]:
    async with opened(tmp_path_factory.mktemp("watch")) as found:
        yield found


async def poll(reads: Reads, cursor: str = "", wait_ms: int = 0) -> messages.RunChange:
    request = messages.PollRunRequest(run=REF, cursor=cursor, wait_ms=wait_ms)
    return (await reads.servicer.poll_run(request)).change


async def test_a_cursor_gives_what_has_changed_since(reads: Reads) -> None:
    with pytest.raises(NotFound):
        await poll(reads)
    await reads.events("live", W[1], ("run_started", {"experiment": "e", "launch": "L"}))
    await reads.log(scalars([1.0, 2.0], run="live", metric="a"))
    first = await poll(reads)
    assert first.run.status == run_pb2.RUN_STATUS_RUNNING
    assert [(s.metric, s.count, s.last) for s in first.series] == [("a", 2, 2.0)]
    nothing = await poll(reads, first.cursor)
    assert (nothing.cursor, nothing.HasField("run"), len(nothing.series)) == (first.cursor, False, 0)
    await reads.log([Row(5.0, run="live", metric="b", step=7, seq=9)])
    second = await poll(reads, first.cursor)
    assert [(s.metric, s.count, s.last, s.last_step) for s in second.series] == [("b", 1, 5.0, 7)]
    assert not second.HasField("run")
    await reads.events("live", W[1], ("attribute_set", {"kind": 1, "key": "t", "value": "v", "seq": 20}))
    third = await poll(reads, second.cursor)
    assert [(a.key, a.value) for a in third.run.attributes] == [("t", "v")]
    assert not third.series
    with pytest.raises(InvalidArgument):
        await poll(reads, third.cursor[:-5])


async def test_waiting_ends_with_the_change(reads: Reads) -> None:
    before = await poll(reads)
    waiting = asyncio.create_task(poll(reads, before.cursor, 60_000))
    await asyncio.sleep(0.3)
    assert not waiting.done()
    await reads.log([Row(6.0, run="live", metric="b", step=8, seq=10)])
    await reads.hot.set_applied("points", Position("points", 0, 1, bytes(16)))
    change = await asyncio.wait_for(waiting, 60)
    assert [(s.metric, s.last, s.last_step) for s in change.series] == [("b", 6.0, 8)]


async def test_a_stream_ends_with_the_run(reads: Reads) -> None:
    request = messages.WatchRunRequest(run=REF, interval_ms=10)
    found: list[messages.RunChange] = []
    began = asyncio.Event()

    async def follow() -> None:
        async for response in reads.servicer.watch_run(request):
            found.append(response.change)
            began.set()

    following = asyncio.create_task(follow())
    await asyncio.wait_for(began.wait(), 60)
    await reads.events("live", W[1], ("run_ended", {"status": run_pb2.RUN_STATUS_COMPLETED, "seq": 30}))
    await reads.events("live", W[1], ("writer_drained", {"seq_end": 31}))
    await reads.hot.set_applied("runs", Position("runs", 0, 1, bytes(16)))
    await asyncio.wait_for(following, 60)
    assert found[-1].ended
    assert [change.run.status for change in found if change.HasField("run")][
        -1
    ] == run_pb2.RUN_STATUS_COMPLETED
    assert not any(change.series for change in found[1:])


@pytest.mark.parametrize(
    ("text", "expected", "start"),
    [
        ("", ["metrics.", "params."], 0),
        ("met|", ["metrics."], 0),
        ("metrics.tr|", ["metrics.train/loss"], 0),
        ("metrics.|", ["metrics.train/loss", "metrics.`odd name`"], 0),
        ("metrics.train/loss.|", ["metrics.train/loss.min"], 0),
        ("not params.o|", ["params.optimizer"], 4),
        ("params.optimizer |", ["==", "in"], 17),
        ("params.optimizer == |", ['"adam"', '"sgd"'], 20),
        ('params.optimizer == "a|', ['"adam"'], 20),
        ("params.optimizer in (sgd, |", ['"adam"'], 26),
        ("status == |", ["Running"], 10),
        ("status == r|", ["Running"], 10),
        ("archived a|", ["and"], 9),
        ("(archived |", ["and"], 10),
        ("params.lr == 0|", ["0.1"], 13),
    ],
)
async def test_completions(reads: Reads, text: str, expected: list[str], start: int) -> None:
    if not await reads.tables.query("SELECT 1 FROM run_events WHERE run = 'c1' LIMIT 1"):
        for run, optimizer in (("c1", "adam"), ("c2", "adam"), ("c3", "sgd")):
            params = {"optimizer": optimizer, "lr": "0.1"}
            sets = [
                ("attribute_set", {"kind": 3, "key": key, "value": value, "seq": seq})
                for seq, (key, value) in enumerate(params.items(), 5)
            ]
            await reads.events(run, run.ljust(16).encode(), ("run_started", {"experiment": "c"}), *sets)
        await reads.log([Row(1.0, run="c1", metric="train/loss"), Row(1.0, run="c2", metric="odd name")])
        await reads.summarise()
    cursor = text.find("|") if "|" in text else len(text)
    request = messages.CompleteFilterRequest(
        workspace="ws", experiments=["c"], filter=text.replace("|", ""), cursor=cursor
    )
    found = await reads.servicer.complete_filter(request)
    texts = [completion.text for completion in found.completions]
    assert set(expected) <= set(texts), texts
    assert (found.start, found.end) == (start, cursor)


async def test_completion_tells_what_is_wrong_and_counts(reads: Reads) -> None:
    request = messages.CompleteFilterRequest(
        workspace="ws", experiments=["c"], filter="params.optimizer == ", cursor=20
    )
    found = await reads.servicer.complete_filter(request)
    assert [(c.text, c.runs) for c in found.completions] == [('"adam"', 2), ('"sgd"', 1)]
    assert found.error.position == 20
