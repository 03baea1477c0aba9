"""GetMetrics and its paged sibling over the real engine: order, rows, types, repeats, pages, selections,
attempts."""

from __future__ import annotations

import math
import random
from collections.abc import AsyncIterator, Sequence
from typing import Any

import numpy as np
import pytest
import pytest_asyncio

from runstream.columns import Series
from runstream.v1 import query_service_pb2
from runstream_query import levels, reduce
from runstream_query.errors import InvalidArgument, NotFound
from runstream_query.settings import QuerySettings
from tests.reads import DECLARE, DECLARE_TABLE, NO_STEP, T0, Reads, Row, W, check, opened, scalars

pytestmark = pytest.mark.asyncio(loop_scope="module")

# Small, so that small tests go through every path.
SETTINGS = QuerySettings(batch_elements=50, page_elements=40, chunk_elements=16, plan_runs=3)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def reads(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Reads]:
    async with opened(tmp_path_factory.mktemp("query"), SETTINGS) as made:
        yield made


VALUES: list[Any] = [
    *(1.5, -0.0, 0.0, math.nan, math.inf, -math.inf, 5e-324, 1.7976931348623157e308),
    *(0, 1, -1, 2**53, 2**53 + 1, -(2**53) - 1, 2**63 - 1, -(2**63), 2**63, -(2**63) - 1, 10**400),
    *(True, False, None, "", "text", "text", "ünï\n\t\0'\"\\{x:String}", "1", "nan"),
]


async def test_each_element_keeps_its_type_and_value(reads: Reads) -> None:
    run = reads.run()
    rows = scalars(VALUES, run=run)
    await reads.log(rows)
    check(await reads.stream(run), rows)
    check(await reads.paged(run, 4), rows)


async def test_a_metric_whose_elements_all_have_a_step_is_in_the_order_of_steps(reads: Reads) -> None:
    run = reads.run()
    steps = [5, 3, 9, 3, -7, 2**62, -(2**62), 3]
    rows = scalars([float(step) for step in steps], steps, run=run)
    await reads.log(rows)
    (series,) = await reads.stream(run)
    assert series.step.tolist() == sorted(steps)
    check([series], rows)


async def test_one_element_without_a_step_makes_it_the_order_of_time(reads: Reads) -> None:
    run = reads.run()
    rows = scalars([1.0, 2.0, 3.0, 4.0], [9, None, 1, 5], run=run)
    await reads.log(rows)
    (series,) = await reads.stream(run)
    assert series.values() == [1.0, 2.0, 3.0, 4.0]
    assert series.step.tolist() == [9, NO_STEP, 1, 5]


async def test_a_column_without_steps_decides_for_the_whole_metric(reads: Reads) -> None:
    run = reads.run()
    rows = [
        *scalars([1.0, 2.0], [9, 1], run=run, column="a"),
        *scalars([3.0, 4.0], None, run=run, column="b"),
    ]
    await reads.log(rows)
    assert [series.values() for series in await reads.stream(run)] == [[1.0, 2.0], [3.0, 4.0]]


async def test_the_order_is_the_metrics_own_whatever_is_selected(reads: Reads) -> None:
    run = reads.run()
    rows = [
        *scalars([1.0, 2.0], [9, 1], run=run, rank=0, writer=W[1]),
        *scalars([3.0], None, run=run, rank=1, writer=W[2]),
    ]
    await reads.log(rows)
    (series,) = await reads.stream(run, ranks=[0])
    assert series.values() == [1.0, 2.0]


async def test_equal_times_are_ordered_by_writer_seq_and_idx(reads: Reads) -> None:
    run = reads.run()
    rows = [
        Row(float(n), run=run, writer=W[writer], seq=seq, idx=idx, time=T0)
        for n, (writer, seq, idx) in enumerate(
            (writer, seq, idx) for writer in (3, 1, 2) for seq in (1, 0) for idx in (2, 0, 1)
        )
    ]
    random.Random(1).shuffle(rows)
    await reads.log(rows)
    check(await reads.stream(run), rows)
    check(await reads.paged(run, 5), rows)


async def test_rows_of_a_table_share_their_number_and_may_lack_columns(reads: Reads) -> None:
    run = reads.run()
    rows = [
        Row(f"{column}{seq}.{idx}", run=run, column=column, seq=seq, idx=idx, time=T0 + seq)
        for seq in range(12)
        for idx in range(3)
        for column in "abc"
        if (seq + idx + ord(column)) % 3
    ]
    await reads.log(rows)
    found = await reads.stream(run)
    check(found, rows)
    assert max(series.row[-1] for series in found) == 35
    assert len(rows) > max(SETTINGS.batch_elements, SETTINGS.page_elements)
    for size in 1, 2, 7, 1000:
        check(await reads.paged(run, size), rows)


async def test_a_name_may_be_a_vector_and_a_table(reads: Reads) -> None:
    run = reads.run()
    rows = [Row(1.0, run=run, seq=0), Row(2.0, run=run, column="a", seq=1, time=T0 + 1)]
    await reads.log(rows)
    found = await reads.stream(run)
    assert [(series.column, series.row.tolist()) for series in found] == [("", [0]), ("a", [1])]


async def test_what_is_empty_is_told(reads: Reads) -> None:
    run = reads.run()
    rows = [
        Row(DECLARE, "list", run=run, seq=0),
        Row(DECLARE_TABLE, "table", run=run, seq=1),
        Row(DECLARE, "column", "a", run=run, seq=2),
        Row(DECLARE, "mixed", "a", run=run, seq=3),
        Row(1, "mixed", "b", run=run, seq=4),
        Row(DECLARE, "filled", run=run, seq=5),
        Row(7, "filled", run=run, seq=6),
        Row(DECLARE_TABLE, "both", run=run, seq=7),
        Row("x", "both", run=run, seq=8),
    ]
    await reads.log(rows, again=1)
    for found in await reads.stream(run), await reads.paged(run, 1), await reads.paged(run, 100):
        assert {(s.metric, s.column): (sorted(s.declared), s.values()) for s in found} == {
            ("list", ""): ([7], []),
            ("table", ""): ([8], []),
            ("column", "a"): ([7], []),
            ("mixed", "a"): ([7], []),
            ("mixed", "b"): ([], [1]),
            ("filled", ""): ([], [7]),
            ("both", ""): ([8], ["x"]),
        }


async def test_a_declaration_without_step_leaves_the_order_of_steps(reads: Reads) -> None:
    run = reads.run()
    await reads.log([Row(DECLARE, run=run, seq=9), *scalars([1.0, 2.0], [2, 1], run=run)])
    (series,) = await reads.stream(run)
    assert series.values() == [2.0, 1.0]


async def test_repeats_are_one_and_equal_points_are_many(reads: Reads) -> None:
    run = reads.run()
    rows = [Row(1.0, run=run, step=1, seq=seq) for seq in range(120)]
    await reads.log(rows, again=2)
    check(await reads.stream(run), rows)
    check(await reads.paged(run, 50), rows)


@pytest.mark.parametrize("steps", ["all", "none", "some"])
async def test_a_large_metric_comes_in_pieces(reads: Reads, steps: str) -> None:
    run = reads.run()
    chance = random.Random(steps)
    rows = [
        Row(
            chance.choice([float(n), n, None, str(n)]),
            run=run,
            column=column,
            seq=n,
            writer=W[writer],
            time=T0 + n // 7,
            step=chance.randrange(40) if steps == "all" or (steps == "some" and n % 2) else None,
        )
        for writer in range(3)
        for n in range(150)
        for column in ("x", "y")
        if chance.random() < 0.8
    ]
    # Cells of a row share their step.
    first: dict[tuple[bytes, int], int | None] = {}
    rows = [Row(**{**_fields(r), "step": first.setdefault((r.writer, r.seq), r.step)}) for r in rows]
    chance.shuffle(rows)
    await reads.log(rows, again=1)
    check(await reads.stream(run), rows)
    check(await reads.paged(run, 33), rows)


def _fields(row: Row) -> dict[str, Any]:
    return {name: getattr(row, name) for name in Row.__slots__}


async def test_many_elements_at_one_step(reads: Reads) -> None:
    run = reads.run()
    rows = [Row(n, run=run, step=3, seq=n, time=T0 + n) for n in range(500)]
    await reads.log(rows)
    check(await reads.stream(run), rows)


async def test_many_runs_and_metrics_in_one_call(reads: Reads) -> None:
    runs = [reads.run() for _ in range(2 * SETTINGS.plan_runs + 1)]
    rows = [
        row
        for run in runs
        for metric in ("a", "a ", "b", "B", "ä", "z" * 1000)
        for row in scalars([run, metric, 3.0], [2, 1, 0] if metric == "b" else None, run=run, metric=metric)
    ]
    await reads.log(rows)
    check(await reads.stream(runs), rows)
    for size in 1, 10, 17:
        check(await reads.paged(runs, size), rows)
    chosen = await reads.stream(runs[:4], metrics=["a ", "b", "nothing"])
    check(chosen, [row for row in rows if row.run in runs[:4] and row.metric in ("a ", "b")])


async def test_runs_without_events_are_told_from_those_that_are_not_there(reads: Reads) -> None:
    logged, tagged, nothing = (reads.run() for _ in range(3))
    await reads.log(scalars([1.0], run=logged), again=3)
    await reads.events(tagged, W[1], ("attribute_set", {"kind": 1, "key": "k", "value": "v"}))
    await reads.log(scalars([1.0], run=nothing, workspace="another"))
    assert [series.run for series in await reads.stream([logged, tagged])] == [logged]
    with pytest.raises(NotFound, match=f"'{nothing}'"):
        await reads.stream([logged, nothing, tagged])


async def test_runs_of_several_workspaces(reads: Reads) -> None:
    run = reads.run()
    await reads.log([Row(float(n), run=run, workspace=f"ws{n}") for n in range(3)])
    request = query_service_pb2.GetMetricsRequest()
    for n in (2, 0):
        request.selection.runs.add(workspace=f"ws{n}", run=run)
    page = query_service_pb2.GetMetricsPageRequest(request=request, page_size=1)
    found = []
    while True:
        answer = await reads.servicer.get_metrics_page(page)
        found += [(chunk.run.workspace, chunk.doubles) for chunk in answer.points]
        page.page_token = answer.next_page_token
        if not page.page_token:
            break
    assert found == [("ws0", np.float64(0).tobytes()), ("ws2", np.float64(2).tobytes())]


async def test_ranks_steps_and_times_select(reads: Reads) -> None:
    run = reads.run()
    rows = [
        Row(f"{rank} {n}", run=run, rank=rank, writer=W[rank + 1], seq=n, step=n if n else None, time=T0 + n)
        for rank in (-1, 0, 1)
        for n in range(5)
    ]
    await reads.log(rows)

    async def values(**more: Any) -> list[str]:
        found = await reads.stream(run, **more)
        return found[0].values() if found else []

    assert await values(ranks=[1]) == [f"1 {n}" for n in range(5)]
    assert len(await values(ranks=[0, 1])) == 10
    assert len(await values()) == 15
    assert await values(ranks=[0], min_step=3) == ["0 3", "0 4"]
    assert await values(ranks=[0], max_step=2) == ["0 1", "0 2"]
    assert await values(ranks=[0], min_step=NO_STEP) == ["0 1", "0 2", "0 3", "0 4"]
    assert await values(ranks=[0], min_time_ns=T0 + 1, max_time_ns=T0 + 2) == ["0 1", "0 2"]
    assert await values(ranks=[7]) == []
    (series,) = await reads.stream(run, ranks=[0], min_step=3)
    assert series.row.tolist() == [0, 1]


async def test_identities(reads: Reads) -> None:
    run = reads.run()
    rows = [
        Row(n, run=run, writer=W[n % 3], seq=n // 3, idx=n % 2, rank=n % 3 - 1, time=T0 + n)
        for n in range(60)
    ]
    await reads.log(rows)
    for found in (
        await reads.stream(run, include_identity=True),
        await reads.paged(run, 7, include_identity=True),
    ):
        (series,) = found
        assert series.identity is not None
        got = [
            (writer.tobytes(), seq, idx, rank)
            for writer, seq, idx, rank in zip(
                series.identity.writer,
                series.identity.seq.tolist(),
                series.identity.idx.tolist(),
                series.identity.rank.tolist(),
                strict=True,
            )
        ]
        assert got == [(row.writer, row.seq, row.idx, row.rank) for row in rows]


async def test_long_texts_are_cut_into_messages_and_pages(reads: Reads) -> None:
    run = reads.run()
    rows = scalars([str(n) * 400_000 for n in range(8)], run=run)
    await reads.log(rows)
    sizes = []
    async for message in reads.servicer.get_metrics(reads.request(run)):
        sizes.append(message.ByteSize())
    assert max(sizes) < 3 << 20
    check(await reads.stream(run), rows)
    check(await reads.paged(run, 1000), rows)


async def test_nothing_there_is_an_empty_answer(reads: Reads) -> None:
    run = reads.run()
    await reads.log(scalars([1.0], run=run))
    assert await reads.stream(run, metrics=["no such metric"]) == []
    assert await reads.paged(run, 10, metrics=["no such metric"]) == []


async def test_a_token_is_good_for_its_request_only(reads: Reads) -> None:
    run = reads.run()
    await reads.log(scalars([1.0, 2.0, 3.0], run=run))
    page = query_service_pb2.GetMetricsPageRequest(request=reads.request(run), page_size=1)
    token = (await reads.servicer.get_metrics_page(page)).next_page_token
    assert token
    other = query_service_pb2.GetMetricsPageRequest(
        request=reads.request(run, metrics=["m"]), page_size=1, page_token=token
    )
    with pytest.raises(InvalidArgument, match="another request"):
        await reads.servicer.get_metrics_page(other)
    for wrong in "x", token[:-3], "e30", "WzFd":
        page.page_token = wrong
        with pytest.raises(InvalidArgument):
            await reads.servicer.get_metrics_page(page)


async def test_requests_out_of_bounds_are_refused(reads: Reads) -> None:
    with pytest.raises(InvalidArgument, match="at least one run"):
        await reads.stream([])
    with pytest.raises(InvalidArgument, match="one is missing"):
        await reads.stream([""])
    with pytest.raises(InvalidArgument, match="10,000"):
        await reads.stream([str(n) for n in range(10_001)])
    with pytest.raises(InvalidArgument, match="buckets"):
        await reads.stream("run", reduction=query_service_pb2.Reduction(buckets=20_001))
    with pytest.raises(InvalidArgument, match="include_identity"):
        await reads.stream("run", reduction=query_service_pb2.Reduction(buckets=1), include_identity=True)
    request = query_service_pb2.GetMetricsPageRequest(request=reads.request("run"), page_size=1_000_001)
    with pytest.raises(InvalidArgument, match="page_size"):
        await reads.servicer.get_metrics_page(request)


# ------------------------------------------------------------------------------------- attempts


def _launch(name: str, at: int, restart: int = 0, role: int = 1) -> list[tuple[str, dict[str, Any]]]:
    started = {"launch": name, "restart": restart, "time_ns": T0 + at}
    return [
        ("run_started", {**started, "experiment": "e"}),
        ("writer_started", {**started, "role": role}),
    ]


async def _attempts(reads: Reads, run: str) -> None:
    """Attempt 1 in W[1], then 2 in W[2]; W[3] is attached and belongs to none."""
    await reads.events(run, W[1], *_launch("one", 0))
    await reads.events(run, W[2], *_launch("two", 100))
    await reads.events(run, W[3], ("writer_started", {"role": 3, "time_ns": T0 + 200}))


async def test_the_newest_attempt_wins_from_its_first_step_on(reads: Reads) -> None:
    run = reads.run()
    await _attempts(reads, run)
    rows = [
        *(Row(f"one {s}", run=run, writer=W[1], seq=s, step=s, time=T0 + s) for s in range(10)),
        *(Row(f"two {s}", run=run, writer=W[2], seq=s, step=s, time=T0 + 100 + s) for s in range(6, 8)),
        *(Row(f"free {s}", run=run, writer=W[3], seq=s, step=s, time=T0 + 200 + s) for s in (2, 9)),
    ]
    await reads.log(rows, again=1)
    wanted = [
        *(f"one {s}" for s in range(3)),
        "free 2",
        *(f"one {s}" for s in range(3, 6)),
        *("two 6", "two 7", "free 9"),
    ]
    for found in await reads.stream(run), await reads.paged(run, 3):
        (series,) = found
        assert series.values() == wanted
        assert series.row.tolist() == list(range(len(wanted)))


async def test_attempts_count_for_each_metric_and_rank(reads: Reads) -> None:
    run = reads.run()
    await _attempts(reads, run)
    rows = [
        *(
            Row(f"one {rank} {s}", run=run, writer=W[1], rank=rank, seq=10 * rank + s, step=s, time=T0 + s)
            for rank in (0, 1)
            for s in range(3)
        ),
        Row("two 0 1", run=run, writer=W[2], rank=0, seq=1, step=1, time=T0 + 101),
        Row("other", metric="other", run=run, writer=W[1], seq=99, step=5),
    ]
    await reads.log(rows)
    found = {series.metric: series.values() for series in await reads.stream(run)}
    assert found == {"m": ["one 0 0", "one 1 0", "one 1 1", "two 0 1", "one 1 2"], "other": ["other"]}


async def test_elements_without_a_step_are_never_hidden(reads: Reads) -> None:
    run = reads.run()
    await _attempts(reads, run)
    rows = [
        *(Row(f"one {s}", run=run, writer=W[1], seq=s, time=T0 + s) for s in range(3)),
        *(Row(f"two {s}", run=run, writer=W[2], seq=s, time=T0 + 100 + s, step=s) for s in range(2)),
        Row("old", run=run, writer=W[1], seq=9, time=T0 + 50, step=7),
    ]
    await reads.log(rows)
    (series,) = await reads.stream(run)
    assert series.values() == ["one 0", "one 1", "one 2", "two 0", "two 1"]


async def test_attempts_of_one_job_are_ordered_by_restarts_whatever_the_clocks_say(reads: Reads) -> None:
    run = reads.run()
    await reads.events(run, W[1], *_launch("job", 1000))
    await reads.events(run, W[2], *_launch("job.1", 500, restart=1))
    rows = [Row(f"w{w} {s}", run=run, writer=W[w], seq=s, step=s) for w in (1, 2) for s in range(3)]
    await reads.log(rows)
    (series,) = await reads.stream(run)
    assert series.values() == ["w2 0", "w2 1", "w2 2"]


async def test_large_metrics_and_buckets_hide_the_same(reads: Reads, monkeypatch: pytest.MonkeyPatch) -> None:
    run = reads.run()
    await _attempts(reads, run)
    old = [Row(-1.0, run=run, writer=W[1], seq=s, step=s, time=T0 + s) for s in range(300)]
    new = [Row(1.0, run=run, writer=W[2], seq=s, step=s, time=T0 + s) for s in range(100, 200)]
    await reads.log([*old, *new], again=1)
    (series,) = await reads.stream(run)
    assert series.values() == [-1.0] * 100 + [1.0] * 100
    request = reads.request(run, reduction=query_service_pb2.Reduction(buckets=2))
    for engine in 50_000, 1:
        monkeypatch.setattr(reduce, "_ENGINE_ELEMENTS", engine)
        (chunk,) = [m.buckets async for m in reads.servicer.get_metrics(request) if m.HasField("buckets")]
        assert np.frombuffer(chunk.last_x, np.int64).tolist() == [99, 199]
        assert np.frombuffer(chunk.max, np.float64).tolist() == [-1.0, 1.0]


def identities(series: Sequence[Series]) -> list[tuple[str, bytes, int, int, float]]:
    """Metric, writer, sequence number, step and value of every element, in reading order."""
    found = []
    for one in series:
        assert one.identity is not None
        writers, seqs = one.identity.writer, one.identity.seq.tolist()
        for writer, seq, step, value in zip(writers, seqs, one.step.tolist(), one.values(), strict=True):
            found.append((one.metric, writer.tobytes(), seq, step, value))
    return found


async def test_an_older_attempt_is_read_whole(reads: Reads) -> None:
    """Of a run that went back to an earlier step: all that each attempt logged, whatever counts."""
    run, other = reads.run(), reads.run()
    await _attempts(reads, run)
    await reads.events(other, W[4], *_launch("four", 0))
    logged = {
        1: [Row(-float(s), run=run, writer=W[1], seq=s, step=s, time=T0 + s) for s in range(10)],
        2: [Row(float(s), run=run, writer=W[2], seq=s, step=s, time=T0 + 100 + s) for s in range(4, 8)],
    }
    logged[1].append(Row(5.0, metric="only", run=run, writer=W[1], seq=99, step=9))
    free = [Row(0.5, run=run, writer=W[3], seq=s, step=s, time=T0 + 200 + s) for s in (2, 9)]
    alone = [Row(7.0, run=other, writer=W[4], seq=s, step=s) for s in range(3)]
    await reads.log([*logged[1], *logged[2], *free, *alone], again=1)
    for attempt, rows in logged.items():
        wanted = [(row.metric, row.writer, row.seq, row.step, row.value) for row in rows]
        for found in (
            await reads.stream(run, attempt=attempt, include_identity=True),
            await reads.paged(run, 3, attempt=attempt, include_identity=True),
        ):
            assert identities(found) == wanted
            check(found, rows)
    assert await reads.stream(run, attempt=3) == []
    # Of several runs each has attempts of its own.
    both = await reads.stream([run, other], attempt=1, include_identity=True)
    assert sum(len(one.step) for one in both) == len(logged[1]) + len(alone)
    check(await reads.stream([run, other], attempt=1), [*logged[1], *alone])
    # All conditions hold together.
    cut = await reads.stream(run, attempt=1, min_step=8, metrics=["m"], include_identity=True)
    assert identities(cut) == [("m", W[1], s, s, -float(s)) for s in (8, 9)]


async def test_buckets_and_figures_of_an_attempt(reads: Reads, monkeypatch: pytest.MonkeyPatch) -> None:
    run = reads.run()
    await _attempts(reads, run)
    old = [Row(-float(s), run=run, writer=W[1], seq=s, step=s, time=T0 + s) for s in range(300)]
    new = [Row(float(s), run=run, writer=W[2], seq=s, step=s, time=T0 + s) for s in range(100, 200)]
    await reads.log([*old, *new], again=1)
    monkeypatch.setattr(levels, "LEVEL_ELEMENTS", 100)  # a level would be worth it
    whole = reads.request(run, reduction=query_service_pb2.Reduction(buckets=4))
    async for _ in reads.servicer.get_metrics(whole):
        pass
    for engine in 50_000, 1:
        monkeypatch.setattr(reduce, "_ENGINE_ELEMENTS", engine)
        for attempt, rows in (1, old), (2, new):
            request = reads.request(
                run, attempt=attempt, reduction=query_service_pb2.Reduction(buckets=len(rows))
            )
            (chunk,) = [m.buckets async for m in reads.servicer.get_metrics(request) if m.HasField("buckets")]
            assert np.frombuffer(chunk.last_x, np.int64).tolist() == [row.step for row in rows]
            assert np.frombuffer(chunk.last, np.float64).tolist() == [row.value for row in rows]

    async def figures(attempt: int) -> list[tuple[int, float]]:
        ref = {"workspace": "ws", "run": run}
        listed = await reads.servicer.list_series(
            query_service_pb2.ListSeriesRequest(run=ref, attempt=attempt)  # type: ignore[arg-type]
        )
        return [(one.count, one.last) for one in listed.series]

    assert await figures(0) == [(200, 199.0)]
    assert await figures(1) == [(300, -299.0)]
    assert await figures(2) == [(100, 199.0)]
    assert await figures(3) == []
    # Whoever follows the run hears of what counts too.
    watched = query_service_pb2.PollRunRequest(run={"workspace": "ws", "run": run})  # type: ignore[arg-type]
    change = (await reads.servicer.poll_run(watched)).change
    assert [(one.count, one.last) for one in change.series] == [(200, 199.0)]


async def test_writers_know_their_attempt(reads: Reads) -> None:
    """By the launcher's count of restarts and not by the clock; a writer of no launch has none."""
    run = reads.run()
    await reads.events(run, W[1], *_launch("job", 1000))
    await reads.events(run, W[2], *_launch("job.1", 500, restart=1))
    await reads.events(run, W[3], ("writer_started", {"role": 3, "time_ns": T0 + 200}))
    await reads.events(run, W[4], *_launch("later", 9000))
    request = query_service_pb2.GetRunRequest(run={"workspace": "ws", "run": run})  # type: ignore[arg-type]
    found = (await reads.servicer.get_run(request)).run
    assert {writer.writer: writer.attempt for writer in found.writers} == {W[1]: 1, W[2]: 2, W[3]: 0, W[4]: 3}
