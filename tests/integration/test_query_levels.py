"""Charts from coarser levels say what the elements say, at every zoom, whatever is inserted, repeated and
merged meanwhile."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
import pytest_asyncio

from runstream.columns import Buckets, buckets_of
from runstream.v1 import point_pb2, query_service_pb2
from runstream_query import blocks, levels, reduce
from runstream_query.bucket_sql import BucketRows, Series, alike
from runstream_query.settings import QuerySettings
from runstream_store.tables.clickhouse import ClickHouseTables
from tests.integration.test_query_buckets import check
from tests.reads import DECLARE, T0, Reads, Row, W, opened

pytestmark = pytest.mark.asyncio(loop_scope="module")

VALUES: Sequence[Any] = [1.5, -2.0, 0.0, 7.25, math.nan, math.inf, -math.inf, 3, True, None, "text", DECLARE]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def reads(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Reads]:
    async with opened(tmp_path_factory.mktemp("levels"), QuerySettings(batch_elements=100)) as made:
        yield made


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Makes levels of the smallest metrics; counts what is done."""
    monkeypatch.setattr(levels, "LEVEL_ELEMENTS", 1)
    monkeypatch.setattr(levels, "_ELEMENTS_A_BIN", 2)
    monkeypatch.setattr(levels, "_BINS_A_BUCKET", 1)
    monkeypatch.setattr(reduce, "_ENGINE_ELEMENTS", 0)
    monkeypatch.setattr(reduce, "batches", lambda units, _: [[unit] for unit in units])
    done: Counter[str] = Counter()
    bins, reduced = BucketRows.bins, levels._reduced

    async def counted(self: BucketRows, shift: int, parts: Sequence[str] | None = None) -> Series:
        done["made" if parts is None else "added"] += 1
        return await bins(self, shift, parts)

    def used(*arguments: Any) -> Series | None:
        found = reduced(*arguments)
        done["used"] += found is not None
        return found

    monkeypatch.setattr(BucketRows, "bins", counted)
    monkeypatch.setattr(levels, "_reduced", used)
    return done


async def command(reads: Reads, sql: str) -> None:
    assert isinstance(reads.tables, ClickHouseTables)
    await reads.tables._writer.run(lambda client: client.command(sql))


async def read(reads: Reads, run: str, buckets: int, **more: Any) -> list[Buckets]:
    request = reads.request(run, reduction=query_service_pb2.Reduction(buckets=buckets), **more)
    return [buckets_of(m.buckets) async for m in reads.servicer.get_metrics(request) if m.HasField("buckets")]


def draw(chance: random.Random, run: str, seq: int, spread: int) -> list[Row]:
    """A block as a writer may send it: late, out of order, with steps that others have, too."""
    return [
        Row(
            chance.choice(VALUES) if chance.random() < 0.3 else chance.random(),
            metric=chance.choice(["a", "b"]),
            column=chance.choice(["", "", "x"]),
            step=chance.randrange(-spread, spread),
            writer=chance.choice(W[1:4]),
            seq=seq + place,
            time=T0 + chance.randrange(20),
            run=run,
        )
        for place in range(chance.randrange(1, 40))
    ]


@pytest.mark.parametrize("seed", range(4))
async def test_charts_are_exact(reads: Reads, small: Counter[str], seed: int) -> None:
    chance, run = random.Random(seed), reads.run()
    spread = chance.choice([30, 1000, 2**40, 2**62])
    rows: list[Row] = []
    for turn in range(10):
        what = chance.random()
        if what < 0.5 or not rows:
            fresh = draw(chance, run, 100 * turn, spread)
            rows += fresh
            await reads.log(fresh, again=chance.randrange(2))
        elif what < 0.65:
            await reads.log(chance.sample(rows, chance.randrange(1, len(rows) + 1)))  # delivered again
        elif what < 0.75:
            await reads.log(draw(chance, reads.run(), 0, spread))
        else:
            await command(reads, "OPTIMIZE TABLE points FINAL")
        for _ in range(3):
            low, high = sorted(chance.choice([r.step for r in rows]) or 0 for _ in range(2))
            zoom: dict[str, int] = {}
            if chance.random() < 0.7:
                zoom |= {"min_step": low - chance.randrange(2)}
            if chance.random() < 0.7:
                zoom |= {"max_step": high + chance.randrange(2)}
            inside = [
                r
                for r in rows
                if r.step is not None
                and zoom.get("min_step", r.step) <= r.step <= zoom.get("max_step", r.step)
            ]
            most = chance.randrange(1, 12)
            check(await read(reads, run, most, **zoom), inside, most)
    assert small["used"] > 10
    assert small["added"] > 0
    rows.append(Row(0.5, metric="a", run=run, seq=99_999))  # without a step: rows are counted from now on
    await reads.log(rows[-1:])
    check(await read(reads, run, 5), rows, 5)


async def test_only_what_may_be_new_is_read_again(reads: Reads, small: Counter[str]) -> None:
    run = reads.run()
    rows = [Row(float(step), step=step, seq=step, run=run) for step in range(200)]
    await reads.log(rows)
    check(await read(reads, run, 10), rows, 10)
    assert (small["made"], small["added"]) == (1, 0)
    await reads.log([Row(1.0, step=1, run=reads.run())])
    await read(reads, run, 7)
    await command(reads, "OPTIMIZE TABLE points FINAL")
    check(await read(reads, run, 7, min_step=3, max_step=150), rows[3:151], 7)
    assert (small["made"], small["added"]) == (1, 0), (
        "what came was of another run, and the merge brought nothing"
    )
    more = [Row(-5.0, step=step, seq=1000 + step, run=run) for step in (7, 300)]
    await reads.log(more)
    check(await read(reads, run, 10), rows + more, 10)
    assert (small["made"], small["added"]) == (1, 1)
    await command(
        reads, f"ALTER TABLE points DELETE WHERE run = '{run}' AND step < 100 SETTINGS mutations_sync = 2"
    )
    kept = [row for row in rows + more if row.step is not None and row.step >= 100]
    check(await read(reads, run, 10), kept, 10)


async def test_parts_that_are_merged_before_they_are_read(
    reads: Reads, small: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = reads.run()
    rows = [Row(float(step), step=step, seq=step, run=run) for step in range(60)]
    await reads.log(rows[:50])
    await read(reads, run, 10)
    bins = BucketRows.bins

    async def merged(self: BucketRows, shift: int, parts: Sequence[str] | None = None) -> Series:
        if small["merged"] == 0:
            small["merged"] += 1
            await command(reads, "OPTIMIZE TABLE points FINAL")
        return await bins(self, shift, parts)

    monkeypatch.setattr(BucketRows, "bins", merged)
    await reads.log(rows[50:])
    check(await read(reads, run, 10), rows, 10)
    assert small["merged"] == 1


async def test_elements_of_several_parts_at_one_step(reads: Reads, small: Counter[str]) -> None:
    """Their times tell which is first and last, not when they came."""
    run = reads.run()
    rows = [Row(float(step), step=step, seq=step, run=run, time=T0 + 100) for step in range(64)]
    early = [Row(500.0 + step, step=step, seq=step, writer=W[2], run=run, time=T0) for step in range(64)]
    late = [Row(900.0 + step, step=step, seq=step, writer=W[3], run=run, time=T0 + 50) for step in range(64)]
    for number, part in enumerate((rows, early, late)):
        await reads.log(part)
        check(await read(reads, run, 4), [*rows, *early, *late][: 64 * (number + 1)], 4)
    assert small["added"] == 2


async def test_selections_of_other_kinds_read_the_elements(reads: Reads, small: Counter[str]) -> None:
    run = reads.run()
    rows = [Row(float(n), step=n // 2, seq=n, run=run, rank=n % 2, time=T0 + n) for n in range(100)]
    await reads.log(rows)
    await read(reads, run, 10)
    assert small["used"] == 1
    check(await read(reads, run, 10, ranks=[1]), rows[1::2], 10)
    check(await read(reads, run, 10, max_time_ns=T0 + 49), rows[:50], 10)
    assert small["used"] == 1


async def test_pages_are_as_the_stream(reads: Reads, small: Counter[str]) -> None:
    """Metrics with and without a level come in order."""
    run = reads.run()
    rows = [
        Row(float(n), metric=f"m{n % 5}", step=n if n % 5 != 2 else None, seq=n, run=run) for n in range(200)
    ]
    await reads.log(rows)
    for _ in range(2):
        whole = await read(reads, run, 8)
        assert [one.metric for one in whole] == [f"m{n}" for n in range(5)]
        request = query_service_pb2.GetMetricsPageRequest(
            request=reads.request(run, reduction=query_service_pb2.Reduction(buckets=8)), page_size=5
        )
        found: dict[str, list[int]] = {}
        while True:
            page = await reads.servicer.get_metrics_page(request)
            for chunk in page.buckets:
                found.setdefault(chunk.metric, []).extend(buckets_of(chunk).first_x.tolist())
            if not page.next_page_token:
                break
            request.page_token = page.next_page_token
        assert found == {one.metric: one.first_x.tolist() for one in whole}


async def test_metrics_come_in_order(reads: Reads, monkeypatch: pytest.MonkeyPatch) -> None:
    """However each is made: with others, from a level, or one query for those that were logged together."""
    monkeypatch.setattr(levels, "LEVEL_ELEMENTS", 100)
    monkeypatch.setattr(levels, "_ELEMENTS_A_BIN", 2)
    monkeypatch.setattr(levels, "_BINS_A_BUCKET", 1)
    monkeypatch.setattr(reduce, "_ENGINE_ELEMENTS", 90)
    monkeypatch.setattr(reduce, "_ALIKE_ELEMENTS", 50)
    monkeypatch.setattr(reduce, "_ELEMENTS_A_BUCKET", 1)
    run = reads.run()
    sizes = [3, 120, 3, 60, 4, 60, 130, 5, 60]
    rows = [
        Row(float(n), metric=f"m{m}", step=n, seq=1000 * m + n, run=run)
        for m, size in enumerate(sizes)
        for n in range(size)
    ]
    await reads.log(rows)
    for _ in range(2):
        whole = await read(reads, run, 4)
        assert [one.metric for one in whole] == [f"m{m}" for m in range(len(sizes))]
        check(whole, rows, 4)
    assert {metric for _, found, metric in reads.servicer._levels._kept if found == run} == {"m1", "m6"}


@pytest.mark.parametrize("seed", range(3))
async def test_metrics_that_were_logged_together(
    reads: Reads, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(reduce, "_ALIKE_ELEMENTS", 1)
    monkeypatch.setattr(reduce, "_ELEMENTS_A_BUCKET", 0)
    monkeypatch.setattr(reduce, "_PACK_ELEMENTS", 150)
    chance, runs = random.Random(seed), [reads.run() for _ in range(2)]
    low, high = (-20, 20) if seed else (-(2**63) + 1, 2**63 - 1)
    rows = [
        Row(
            chance.choice(VALUES),
            metric=metric,
            column=chance.choice(["", "x"]),
            step=step,
            writer=chance.choice(W[1:3]),
            seq=seq,
            time=T0 + chance.randrange(9),
            run=run,
        )
        for run in runs
        for metric in ("a", "b", "c")
        for seq, step in enumerate([low, high, *(chance.randrange(-20, 20) for _ in range(30))])
    ]
    for run in runs:  # so that both have the same extent
        for metric in ("a", "b", "c"):
            rows += [Row(0.0, metric=metric, step=step, seq=99 + (step > 0), run=run) for step in (low, high)]
    await reads.log(rows, again=seed % 2)
    packs: list[int] = []

    async def counted(source: Any, units: Sequence[Any], buckets: int) -> Any:
        packs.append(len(units))
        return await alike(source, units, buckets)

    monkeypatch.setattr(reduce, "alike", counted)
    for most, metrics in (1, []), (5, []), (12, ["b"]):
        reduction = query_service_pb2.Reduction(buckets=most)
        request = reads.request(runs, reduction=reduction, metrics=metrics)
        found = [
            buckets_of(m.buckets) async for m in reads.servicer.get_metrics(request) if m.HasField("buckets")
        ]
        for run in runs:
            logged = [row for row in rows if row.run == run and (not metrics or row.metric in metrics)]
            check([one for one in found if one.run == run], logged, most)
    assert sum(packs) == 6 + 6 + 2
    assert min(packs) > 1


async def test_without_a_sight_of_parts_elements_are_read(
    reads: Reads, small: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = reads.run()
    rows = [Row(float(step), step=step, seq=step, run=run) for step in range(60)]
    await reads.log(rows[:50])
    check(await read(reads, run, 10), rows[:50], 10)
    assert small["used"] == 1
    unreadable, empty = "SELECT name FROM system.nothing", f"{blocks._PARTS} AND 0"
    for sql, count in (unreadable, 52), (unreadable, 55), (empty, 57), (empty, 60):
        monkeypatch.setattr(blocks, "_PARTS", sql)
        await reads.log(rows[count - 3 : count])
        check(await read(reads, run, 10), rows[:count], 10)
        series = query_service_pb2.ListSeriesRequest(run=point_pb2.RunRef(workspace="ws", run=run))
        assert (await reads.servicer.list_series(series)).series[0].count == count
    assert small["used"] == 1


async def test_few_are_kept(reads: Reads, small: Counter[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A level becomes coarser, and others are dropped, before too much is kept."""
    monkeypatch.setattr(levels, "_KEPT_BINS", 60)
    runs = [reads.run() for _ in range(4)]
    for run in runs:
        rows = [Row(float(step), step=step, seq=step, run=run) for step in range(300)]
        await reads.log(rows)
        check(await read(reads, run, 3), rows, 3)
        kept = reads.servicer._levels._kept
        assert sum(level.size for level in kept.values()) <= 60
        assert kept["ws", run, "m"].size <= 30
