"""Runs over the real engine: status, attempts, attributes, writers, search, barriers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from runstream.v1 import error_pb2, point_pb2, run_pb2
from runstream.v1 import query_service_pb2 as messages
from runstream_query.errors import DeadlineExceeded, FailedPrecondition, InvalidArgument, NotFound
from runstream_query.service import QueryServicer
from runstream_query.settings import QuerySettings
from runstream_store.hot import open_hot
from runstream_store.position import Position
from tests.reads import T0, Reads, Row, W, opened, scalars, to_table

pytestmark = pytest.mark.asyncio(loop_scope="module")

S = 1_000_000_000
MAIN, WORKER, ATTACHED = 1, 2, 3
CLEAN, EXCEPTION, INTERRUPTED, KILLED = 1, 2, 3, 4
RUNNING, NOT_RESPONDING = run_pb2.RUN_STATUS_RUNNING, run_pb2.RUN_STATUS_NOT_RESPONDING
COMPLETED, FAILED, CANCELED = 9, 10, 11
EPOCH = bytes(range(16))

Event = tuple[str, dict[str, Any]]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def reads(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Reads]:
    async with opened(
        tmp_path_factory.mktemp("query"), QuerySettings(public_url="https://runs.example")
    ) as made:
        made.epochs["points"] = made.epochs["runs"] = EPOCH
        yield made


def started(at: int = 0, launch: str = "l", role: int = MAIN, **more: Any) -> list[Event]:
    begun: list[Event] = []
    if role == MAIN:
        begun.append(("run_started", {"time_ns": T0 + at * S, "launch": launch, "experiment": "exp"}))
    known = {"role": role, "launch": launch if role != ATTACHED else "", "time_ns": T0 + at * S, **more}
    return [*begun, ("writer_started", known)]


def ended(at: int, outcome: int = CLEAN, role: int = MAIN, launch: str = "l", **more: Any) -> Event:
    told = {"observed": True, "seq_end": 10, "drain_follows": True, **more}
    return "writer_ended", {
        "time_ns": T0 + at * S,
        "outcome": outcome,
        "role": role,
        "launch": launch,
        **told,
    }


def said(at: int, status: int, seq: int = 5, **more: Any) -> Event:
    told = {"time_ns": T0 + at * S, "status": status, "seq": seq, "drain_follows": True, **more}
    return "run_ended", told


def drained(seq_end: int = 10, offset: int | None = None, epoch: bytes = EPOCH, **more: Any) -> Event:
    at = [] if offset is None else [run_pb2.LogPosition(topic="points", offset=offset, epoch=epoch)]
    return "writer_drained", {"seq_end": seq_end, "positions": at, **more}


def ref(run: str) -> point_pb2.RunRef:
    return point_pb2.RunRef(workspace="ws", run=run)


async def get(reads: Reads, run: str) -> messages.Run:
    request = messages.GetRunRequest(run=ref(run))
    return (await reads.servicer.get_run(request)).run


STATUS: dict[str, tuple[int, dict[int, list[Event]]]] = {
    "a main writer lives": (RUNNING, {1: started()}),
    "only the start is known": (RUNNING, {1: started()[:1]}),
    "complete() was called": (COMPLETED, {1: [*started(), said(5, COMPLETED)]}),
    "fail() was called": (FAILED, {1: [*started(), said(5, FAILED)]}),
    "cancel() was called": (CANCELED, {1: [*started(), said(5, CANCELED)]}),
    "the first final status wins": (FAILED, {1: [*started(), said(6, COMPLETED, 6), said(5, FAILED)]}),
    "what was said beats how it ended": (COMPLETED, {1: [*started(), said(5, COMPLETED), ended(6, KILLED)]}),
    "a worker's word ends only itself": (
        RUNNING,
        {1: started(), 2: [*started(1, role=WORKER), said(5, FAILED)]},
    ),
    "an attached writer's word too": (
        RUNNING,
        {1: started(), 2: [*started(1, role=ATTACHED), said(5, FAILED)]},
    ),
    "it ended": (COMPLETED, {1: [*started(), ended(5)]}),
    "it raised": (FAILED, {1: [*started(), ended(5, EXCEPTION)]}),
    "it was interrupted": (CANCELED, {1: [*started(), ended(5, INTERRUPTED)]}),
    "it was killed": (FAILED, {1: [*started(), ended(5, KILLED)]}),
    "its end is not known": (FAILED, {1: [*started(), ended(5, 0)]}),
    "a killed worker means nothing": (
        COMPLETED,
        {1: [*started(), ended(5)], 2: [*started(1, role=WORKER), ended(3, KILLED, role=WORKER)]},
    ),
    "a living worker means nothing": (COMPLETED, {1: [*started(), ended(5)], 2: started(1, role=WORKER)}),
    "another rank lives": (RUNNING, {1: [*started(rank=0), ended(5, KILLED)], 2: started(1, rank=1)}),
    "one rank failed": (
        FAILED,
        {1: [*started(rank=0), ended(5)], 2: [*started(rank=1), ended(5, EXCEPTION)]},
    ),
    "one was killed, one interrupted": (
        FAILED,
        {1: [*started(rank=0), ended(5, INTERRUPTED)], 2: [*started(rank=1), ended(5, KILLED)]},
    ),
    "a rank was replaced": (
        COMPLETED,
        {1: [*started(rank=0), ended(5, KILLED)], 2: [*started(6, rank=0), ended(9)]},
    ),
    "without ranks nobody is replaced": (
        FAILED,
        {1: [*started(), ended(5, KILLED)], 2: [*started(6), ended(9)]},
    ),
    "a new attempt runs": (
        RUNNING,
        {1: [*started(launch="a"), said(5, FAILED), ended(6, launch="a")], 2: started(9, "b")},
    ),
    "a new attempt completed": (
        COMPLETED,
        {1: [*started(launch="a"), said(5, FAILED)], 2: [*started(9, "b"), said(12, COMPLETED)]},
    ),
    "an old attempt ends late": (
        COMPLETED,
        {1: [*started(launch="a"), said(50, FAILED)], 2: [*started(9, "b"), said(12, COMPLETED)]},
    ),
    "a restart counts before the clock": (
        RUNNING,
        {1: [*started(9, "a"), said(10, FAILED)], 2: started(5, "a.1", restart=1)[1:]},
    ),
    "only an attached writer": (0, {1: started(role=ATTACHED)}),
    "points that come later change nothing": (FAILED, {1: [*started(), ended(5, KILLED), drained(20)]}),
}


@pytest.mark.parametrize("case", STATUS)
async def test_status(reads: Reads, case: str) -> None:
    status, writers = STATUS[case]
    run = reads.run()
    found = messages.Run()
    for _ in range(2):  # repeats change nothing
        for writer, events in writers.items():
            await reads.events(run, W[writer], *events)
        found = await get(reads, run)
        assert found.status == status
        assert found.attempts == len(
            {e[1]["launch"] for w in writers.values() for e in w if e[1].get("launch")}
        )
    listed = await reads.servicer.search_runs(messages.SearchRunsRequest(workspace="ws", page_size=10_000))
    (one,) = [listed_run for listed_run in listed.runs if listed_run.ref.run == run]
    assert (one.status, one.started_time_ns) == (found.status, found.started_time_ns)


async def test_leases(
    tmp_path_factory: pytest.TempPathFactory, reads: Reads, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = reads.run()
    late = time.time_ns() + 3600 * S  # beyond the grace after a start
    await reads.events(run, W[7], *started(rank=0))
    await reads.events(run, W[8], *started(rank=1))
    monkeypatch.setattr("runstream_query.runs.time.time_ns", lambda: late)
    assert (await get(reads, run)).status == NOT_RESPONDING
    await reads.hot.renew_leases([W[8]], late)
    found = await get(reads, run)
    assert found.status == RUNNING
    assert [writer.responding for writer in found.writers] == [False, True]
    request = messages.SearchRunsRequest(workspace="ws", statuses=[RUNNING], page_size=10_000)
    assert run in {listed.ref.run for listed in (await reads.servicer.search_runs(request)).runs}
    monkeypatch.setattr("runstream_query.runs.time.time_ns", lambda: late + 21 * S)
    assert run not in {listed.ref.run for listed in (await reads.servicer.search_runs(request)).runs}


async def test_an_end_read_from_a_copy_does_not_count_while_the_lease_lives(
    reads: Reads, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = reads.run()
    late = time.time_ns() + 7200 * S
    await reads.events(run, W[9], *started(), ended(5, KILLED, observed=False))
    await reads.hot.renew_leases([W[9]], late)
    monkeypatch.setattr("runstream_query.runs.time.time_ns", lambda: late)
    assert (await get(reads, run)).status == RUNNING
    monkeypatch.setattr("runstream_query.runs.time.time_ns", lambda: late + 30 * S)
    assert (await get(reads, run)).status == FAILED


async def test_a_run_is_told_whole(reads: Reads) -> None:
    run = reads.run()
    refusal = run_pb2.Refusal(code=error_pb2.ERROR_CODE_TOO_LARGE, reason="long", elements=1, records=1)
    await reads.events(
        run,
        W[1],
        (
            "run_started",
            {"experiment": "whole", "launch": "l", "parent": "p", "run_type": "t", "display_name": "mine"},
        ),
        ("writer_started", {"role": MAIN, "launch": "l", "rank": 0, "host": "h", "pid": 7}),
        ("attribute_set", {"seq": 1, "kind": 1, "key": "tag", "value": "old"}),
        ("attribute_set", {"seq": 2, "kind": 1, "key": "tag", "value": "new"}),
        ("attribute_set", {"seq": 3, "kind": 1, "key": "bare", "value": "x", "time_ns": T0 - 9}),
        ("attribute_set", {"seq": 4, "kind": 1, "key": "bare", "time_ns": T0 - 8}),
        ("attribute_set", {"seq": 5, "kind": 2, "key": "property", "value": ""}),
        ("attribute_set", {"seq": 6, "kind": 1, "key": "gone", "value": "x", "time_ns": T0 - 7}),
        ("attribute_set", {"seq": 7, "kind": 1, "key": "gone", "removed": True, "time_ns": T0 - 6}),
        said(20, FAILED, 8, error_message="boom", error_code="UserError"),
        ended(21, EXCEPTION, error_message="later", exit_code=1),
        drained(9, None, logged=3, rejected=1, refusals=[refusal]),
    )
    await reads.tables.insert(
        "dead_letters", _dead(run, [("bad", 2, 0), ("bad", 2, 0), ("bad", 3, 5), ("worse", 1, 9)])
    )
    found = await get(reads, run)
    assert (found.experiment, found.number, found.display_name) == ("whole", 1, "mine")
    assert (found.status, found.error_message, found.error_code) == (FAILED, "boom", "UserError")
    assert (found.parent, found.run_type) == ("p", "t")
    assert (found.started_time_ns, found.ended_time_ns) == (T0, T0 + 20 * S)
    attributes = {(a.kind, a.key): a.value if a.HasField("value") else None for a in found.attributes}
    assert attributes == {(1, "bare"): None, (1, "tag"): "new", (2, "property"): ""}
    (writer,) = found.writers
    assert (writer.writer, writer.started.host, writer.ended.exit_code, writer.drained.logged) == (
        W[1],
        "h",
        1,
        3,
    )
    assert [(r.code, r.reason, r.elements, r.records) for r in found.rejections] == [
        (2, "bad", 5, 2),
        (2, "worse", 1, 1),
        (3, "long", 1, 1),
    ]
    assert found.settling  # it used ten sequence numbers, and nine are drained


def _dead(run: str, letters: list[tuple[str, int, int]]) -> Any:
    return to_table(
        "dead_letters",
        [
            {
                "topic": "points",
                "partition": 0,
                "epoch": EPOCH,
                "offset": offset,
                "workspace": "ws",
                "run": run,
                "writer": W[1],
                "first_seq": first,
                "seq_end": first + 1,
                "code": 2,
                "reason": reason,
                "elements": elements,
                "received_time": T0,
                "digest": 0,
                "digested": 0,
                "events": 0,
            }
            for offset, (reason, elements, first) in enumerate(letters)
        ],
    )


async def test_how_a_writer_ended_explains_a_failure(reads: Reads) -> None:
    killed, exited = reads.run(), reads.run()
    await reads.events(killed, W[1], *started(), ended(5, KILLED))
    await reads.events(exited, W[1], *started(), ended(5, EXCEPTION, exit_code=3))
    assert "killed" in (await get(reads, killed)).error_message
    assert "exit code 3" in (await get(reads, exited)).error_message


async def test_names(reads: Reads) -> None:
    run = reads.run()
    await reads.events(run, W[1], *started())
    first = (await get(reads, run)).display_name
    assert first.count("-") == 1
    assert first == (await get(reads, run)).display_name
    await reads.events(run, W[1], ("attribute_set", {"kind": 4, "key": "display_name", "value": "given"}))
    assert (await get(reads, run)).display_name == "given"


async def test_a_run_of_which_only_points_have_come(reads: Reads) -> None:
    run = reads.run()
    with pytest.raises(NotFound):
        await get(reads, run)
    await reads.log(scalars([1.0], run=run))
    found = await get(reads, run)
    assert (found.status, found.number, found.experiment) == (0, 0, "")


async def test_a_run_that_nobody_knows_has_no_metrics(reads: Reads) -> None:
    bare, tagged, logged, unknown = (reads.run() for _ in range(4))
    await reads.events(bare, W[1], *started())
    await reads.events(tagged, W[1], ("attribute_set", {"kind": 1, "key": "k"}))
    await reads.log(scalars([1.0], run=logged))
    assert await reads.stream([bare, tagged]) == []
    assert len(await reads.stream([bare, tagged, logged])) == 1
    assert (await get(reads, tagged)).attributes[0].key == "k"
    for runs in ([unknown], [bare, logged, unknown]):
        with pytest.raises(NotFound, match=f"no run '{unknown}' in workspace 'ws'"):
            await reads.stream(runs)
        with pytest.raises(NotFound):
            await reads.paged(runs, 10)
    with pytest.raises(NotFound):
        await reads.servicer.list_series(messages.ListSeriesRequest(run=ref(unknown)))


async def test_a_run_is_unknown_only_when_the_log_has_nothing_of_it(reads: Reads) -> None:
    """Though the writers are far behind."""
    ends = {"runs": Position("runs", 0, 8888, EPOCH), "points": Position("points", 0, 8888, EPOCH)}

    async def ends_of(topic: str) -> list[Position]:
        return [ends[topic]]

    hot = await open_hot("memory://", now_ns=T0)
    servicer = QueryServicer(reads.tables, hot, ends=ends_of)
    run, unknown = reads.run(), reads.run()
    barrier = messages.ReadBarrier(timeout_ms=200)
    for call in (
        servicer.get_run(messages.GetRunRequest(run=ref(run), barrier=barrier)),
        servicer.list_series(messages.ListSeriesRequest(run=ref(run), barrier=barrier)),
    ):
        with pytest.raises(DeadlineExceeded):  # nobody knows yet
            await call

    async def arrive() -> None:
        await asyncio.sleep(2.5)  # longer than reads wait for the events of runs that they find
        await hot.set_applied("runs", ends["runs"])
        await reads.log(scalars([1.0], run=run))
        await hot.set_applied("points", ends["points"])

    task = asyncio.create_task(arrive())
    assert len((await servicer.list_series(messages.ListSeriesRequest(run=ref(run)))).series) == 1
    await task
    with pytest.raises(NotFound):
        await servicer.list_series(messages.ListSeriesRequest(run=ref(unknown), barrier=barrier))
    await hot.close()


async def test_search(reads: Reads) -> None:
    runs = [reads.run() for _ in range(7)]
    for number, run in enumerate(runs):
        end = [said(number + 1, COMPLETED)] if number % 2 else []
        start = [
            ("run_started", {"experiment": f"e{number % 2}", "launch": run, "time_ns": T0 + (7 - number) * S})
        ]
        await reads.events(run, W[1], *start, *end, workspace="search")

    async def pages(size: int, **more: Any) -> tuple[list[str], int]:
        request = messages.SearchRunsRequest(workspace="search", page_size=size, **more)
        found: list[messages.Run] = []
        while True:
            page = await reads.servicer.search_runs(request)
            found += page.runs
            if not page.next_page_token:
                assert [run.number for run in found if run.experiment == "e0"] == sorted(
                    (run.number for run in found if run.experiment == "e0"), reverse=True
                )
                return [run.ref.run for run in found], page.total
            request.page_token = page.next_page_token

    for size in 1, 3, 100:
        assert await pages(size) == (runs, 7)
        assert await pages(size, experiments=["e1"]) == (runs[1::2], 3)
        assert await pages(size, statuses=[COMPLETED]) == (runs[1::2], 3)
    assert await pages(10, statuses=[FAILED]) == ([], 0)
    experiments = await reads.servicer.list_experiments(
        messages.ListExperimentsRequest(workspace="search", page_size=1)
    )
    assert [(e.name, e.runs, e.last_activity_ns) for e in experiments.experiments] == [("e0", 4, T0 + 7 * S)]
    more = messages.ListExperimentsRequest(
        workspace="search", page_size=1, page_token=experiments.next_page_token
    )
    assert [e.name for e in (await reads.servicer.list_experiments(more)).experiments] == ["e1"]
    with pytest.raises(InvalidArgument):
        await pages(10_001)


async def test_series(reads: Reads) -> None:
    run = reads.run()
    rows = [
        *scalars([1.0, 2.0, 9.0], [1, 3, 2], run=run, metric="stepped"),
        *scalars([1.0, 2.0, 7.5], [None, 3, 2], run=run, metric="mixed"),
        *scalars([1, "x"], run=run, metric="types"),
        Row(5, "table", "a", run=run),
        Row(6, "table", "b", run=run),
    ]
    await reads.log(rows, again=1)
    request = messages.ListSeriesRequest(run=ref(run))
    found = (await reads.servicer.list_series(request)).series
    assert [
        (
            s.series.metric,
            s.series.column,
            list(s.types),
            s.count,
            s.has_steps,
            s.last if s.HasField("last") else None,
        )
        for s in found
    ] == [
        ("mixed", "", [1], 3, False, 7.5),
        ("stepped", "", [1], 3, True, 2.0),
        ("table", "a", [2], 1, False, 5.0),
        ("table", "b", [2], 1, False, 6.0),
        ("types", "", [2, 5], 2, False, None),
    ]


async def test_links(reads: Reads) -> None:
    request = messages.GetPortalLinkRequest(run=point_pb2.RunRef(workspace="a/b", run="c d?"))
    assert (await reads.servicer.get_portal_link(request)).url == "https://runs.example/w/a%2Fb/r/c%20d%3F"


# ------------------------------------------------------------------------------------- barriers


def _at(offset: int, epoch: bytes = EPOCH, topic: str = "points") -> run_pb2.LogPosition:
    return run_pb2.LogPosition(topic=topic, offset=offset, epoch=epoch)


async def test_a_read_waits_for_its_positions(reads: Reads) -> None:
    run = reads.run()
    barrier = messages.ReadBarrier(positions=[_at(1000)], timeout_ms=20)
    with pytest.raises(DeadlineExceeded):
        await reads.stream(run, barrier=barrier)
    barrier.timeout_ms = 0

    async def arrive() -> None:
        await asyncio.sleep(0.05)
        await reads.log(scalars([1.0], run=run))
        await reads.hot.set_applied("points", Position("points", 0, 1000, EPOCH))

    task = asyncio.create_task(arrive())
    (series,) = await reads.stream(run, barrier=barrier)
    await task
    assert series.values() == [1.0]


async def test_positions_of_a_log_that_is_no_more_are_refused(reads: Reads) -> None:
    with pytest.raises(FailedPrecondition, match="epoch"):
        await reads.stream("run", barrier=messages.ReadBarrier(positions=[_at(1, bytes(16))]))
    for wrong in _at(1, b"short"), _at(1, topic="nothing"):
        with pytest.raises(InvalidArgument):
            await reads.stream("run", barrier=messages.ReadBarrier(positions=[wrong]))
    with pytest.raises(InvalidArgument):
        await reads.stream("run", barrier=messages.ReadBarrier(timeout_ms=300_001))


async def test_a_run_that_has_ended_is_read_when_it_is_settled(reads: Reads) -> None:
    run = reads.run()
    await reads.events(run, W[1], *started(), said(5, COMPLETED, 9))
    patience = messages.ReadBarrier(timeout_ms=60)
    with pytest.raises(DeadlineExceeded):  # what the writer logged is not drained
        await reads.stream(run, barrier=patience)
    await reads.events(run, W[1], drained(10, 5000))
    with pytest.raises(DeadlineExceeded):  # or not applied
        await reads.stream(run, barrier=patience)
    request = reads.request(run, barrier=messages.ReadBarrier(allow_settling=True))
    (info,) = [m.info async for m in reads.servicer.get_metrics(request)]
    assert [ref.run for ref in info.settling] == [run]
    assert (await get(reads, run)).settling

    async def arrive() -> None:
        await asyncio.sleep(0.05)
        await reads.hot.set_applied("points", Position("points", 0, 5000, EPOCH))

    task = asyncio.create_task(arrive())
    assert await reads.stream(run) == []
    await task
    assert not (await get(reads, run)).settling
    (info,) = [m.info async for m in reads.servicer.get_metrics(reads.request(run))]
    assert not info.settling
    assert [(p.topic, p.offset, p.epoch) for p in info.as_of] == [("points", 5000, EPOCH)]


async def test_a_run_of_a_client_without_a_spool_is_settled_with_what_the_log_holds(reads: Reads) -> None:
    end = [Position("points", 0, 100, EPOCH)]

    async def ends_of(topic: str) -> list[Position]:
        return end if topic == "points" else []

    hot = await open_hot("memory://", now_ns=T0)
    servicer = QueryServicer(reads.tables, hot, ends=ends_of)
    run, other = reads.run(), reads.run()
    await reads.events(run, W[1], *started(), said(5, COMPLETED, 9, drain_follows=False))
    await reads.events(run, W[2], *started(1, role=WORKER), ended(6, role=WORKER, drain_follows=False))
    await reads.events(other, W[1], *started(), said(5, COMPLETED, 9, drain_follows=False))
    await reads.events(other, W[2], *started(1, role=WORKER), ended(6, role=WORKER))
    wait = messages.ReadBarrier(timeout_ms=100)

    async def series(name: str) -> int:
        request = messages.ListSeriesRequest(run=ref(name), barrier=wait)
        return len((await servicer.list_series(request)).series)

    async def settling() -> bool:
        return (await servicer.get_run(messages.GetRunRequest(run=ref(run)))).run.settling

    await hot.set_applied("points", Position("points", 0, 99, EPOCH))
    with pytest.raises(DeadlineExceeded):
        await series(run)
    assert await settling()
    await reads.log(scalars([1.0], run=run))
    await hot.set_applied("points", end[0])
    assert await series(run) == 1
    assert not await settling()
    with pytest.raises(DeadlineExceeded):  # one of its writers has a spool
        await series(other)
    await hot.close()


async def test_a_live_run_and_a_lost_log_are_not_waited_for(reads: Reads) -> None:
    live, old = reads.run(), reads.run()
    await reads.events(live, W[1], *started())
    await reads.events(live, W[2], *started(1, role=WORKER), ended(2, KILLED, role=WORKER))
    await reads.events(old, W[3], *started(), said(5, COMPLETED, 9), drained(10, 77, bytes(16)))
    barrier = messages.ReadBarrier(timeout_ms=1)
    assert await reads.stream([live, old], barrier=barrier) == []


async def test_a_writer_that_drained_further_later_is_waited_for_again(reads: Reads) -> None:
    run = reads.run()
    await reads.events(run, W[1], *started(), said(5, COMPLETED, 9), drained(10))
    barrier = messages.ReadBarrier(timeout_ms=50)
    assert await reads.stream(run, barrier=barrier) == []
    await reads.events(run, W[1], ended(6, seq_end=12))
    with pytest.raises(DeadlineExceeded):
        await reads.stream(run, barrier=barrier)
    await reads.events(run, W[1], drained(12))
    assert await reads.stream(run, barrier=barrier) == []


async def test_a_read_sees_the_runs_that_are_in_the_log_by_now(reads: Reads) -> None:
    async def ends(topic: str) -> list[Position]:
        return [Position(topic, 0, 7777, EPOCH)]

    servicer = QueryServicer(reads.tables, reads.hot, ends=ends)
    run = reads.run()

    async def arrive() -> None:
        await asyncio.sleep(0.05)
        await reads.events(run, W[1], *started())
        await reads.hot.set_applied("runs", Position("runs", 0, 7777, EPOCH))

    task = asyncio.create_task(arrive())
    assert (await servicer.get_run(messages.GetRunRequest(run=ref(run)))).run.status == RUNNING
    await task
