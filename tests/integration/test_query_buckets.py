"""Reduced series against a NumPy reference, on the real engine."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runstream.columns import Buckets, buckets_of
from runstream.v1 import query_service_pb2
from runstream_query import reduce
from runstream_query.settings import QuerySettings
from tests.reads import DECLARE, NO_STEP, T0, Reads, Row, W, opened, reference

pytestmark = pytest.mark.asyncio(loop_scope="module")

SETTINGS = QuerySettings(batch_elements=200, page_elements=60, plan_runs=3)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def reads(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Reads]:
    async with opened(tmp_path_factory.mktemp("query"), SETTINGS) as made:
        yield made


async def read(reads: Reads, run: str, buckets: int, **more: Any) -> list[Buckets]:
    reduction = query_service_pb2.Reduction(buckets=buckets)
    request = reads.request(run, reduction=reduction, **more)
    return [buckets_of(m.buckets) async for m in reads.servicer.get_metrics(request) if m.HasField("buckets")]


def check(found: list[Buckets], rows: list[Row], most: int) -> None:
    """Each bucket says the truth about the elements between its first and last x, and together they have
    all."""
    expected = reference(rows)
    steps = {(r.metric, r.writer, r.seq, r.idx): r.step for r in rows}
    numeric: dict[tuple[str, str], list[tuple[int, float, int]]] = {}
    for (_, metric, column), logged_values in expected.items():
        stepped = all(step is not None for (name, *_), step in steps.items() if name == metric)
        unique = {
            (r.step, r.writer, r.seq, r.idx): r for r in rows if r.metric == metric and r.column == column
        }
        order = sorted(
            (r for r in unique.values() if r.value is not DECLARE),
            key=lambda r: (r.step if stepped else 0, r.time, r.writer, r.seq, r.idx),
        )
        for row, (number, value) in zip(order, logged_values, strict=True):
            if isinstance(value, (float, bool)) or (isinstance(value, int) and -(2**63) <= value < 2**63):
                x = row.step if stepped else number
                assert x is not None
                numeric.setdefault((metric, column), []).append((x, float(value), row.time))
    assert {(b.metric, b.column) for b in found} == set(numeric)
    for series in found:
        elements = numeric[series.metric, series.column]
        assert 1 <= len(series.first_x) <= most
        taken = 0
        for at in range(len(series.first_x)):
            low, high = int(series.first_x[at]), int(series.last_x[at])
            inside = [element for element in elements if low <= element[0] <= high]
            taken += len(inside)
            assert inside[0][0] == low
            assert inside[-1][0] == high
            values = [value for _, value, _ in inside]
            finite = [value for value in values if math.isfinite(value)]
            flags = any(map(math.isnan, values)) + 2 * (math.inf in values) + 4 * (-math.inf in values)
            wanted = [
                min(finite) if finite else math.nan,
                max(finite) if finite else math.nan,
                values[0],
                values[-1],
                flags,
            ]
            got = [series.min[at], series.max[at], series.first[at], series.last[at], series.non_finite[at]]
            np.testing.assert_array_equal(np.array(got, np.float64), np.array(wanted, np.float64))
            assert series.last_time_ns[at] == inside[-1][2]
        assert taken == len(elements)


_VALUE = st.one_of(
    st.floats(),
    st.integers(-(2**63), 2**63 - 1),
    st.booleans(),
    st.none(),
    st.text(max_size=2),
    st.just(2**63),
    st.sampled_from([math.nan, math.inf, -math.inf, 0.0, 1.0]),
)
_STEP = st.one_of(st.integers(0, 20), st.integers(NO_STEP + 1, 2**63 - 1))


@st.composite
def logged(draw: st.DrawFn) -> list[Row]:
    """What a script may have logged under one name."""
    mode = draw(st.sampled_from(["all", "none", "some"]))
    rows = []
    for seq in range(draw(st.integers(1, 12))):
        step = draw(_STEP) if mode == "all" or (mode == "some" and draw(st.booleans())) else None
        time = T0 + draw(st.integers(0, 5))
        columns = draw(st.sampled_from([("",), ("a", "b"), ("a",), ("b",)]))
        rows += [Row(draw(_VALUE), column=c, step=step, seq=seq, time=time) for c in columns]
    return rows


@pytest.mark.parametrize("by_engine", [False, True])
async def test_buckets_are_exact(reads: Reads, monkeypatch: pytest.MonkeyPatch, by_engine: bool) -> None:
    """Hypothesis draws many metrics at once, so that those that are read are asked for with one query."""
    if by_engine:
        monkeypatch.setattr(reduce, "_ENGINE_ELEMENTS", 0)
        monkeypatch.setattr(reduce, "batches", lambda units, _: [[unit] for unit in units])
    drawn: list[tuple[list[Row], int]] = []

    @given(logged(), st.integers(1, 12))
    @settings(max_examples=50 if by_engine else 150, database=None, suppress_health_check=list(HealthCheck))
    def draw(rows: list[Row], buckets: int) -> None:
        drawn.append((rows, buckets))

    draw()
    for buckets in range(1, 13):
        run = reads.run()
        rows = [
            replace(row, run=run, metric=f"m{number}")
            for number, (of_metric, wanted) in enumerate(drawn)
            if wanted == buckets
            for row in of_metric
        ]
        if rows:
            await reads.log(rows, again=1)
            check(await read(reads, run, buckets), rows, buckets)


@pytest.mark.parametrize("steps", ["all", "none"])
@pytest.mark.parametrize("columns", [("",), ("a", "b")])
async def test_large_metrics(
    reads: Reads, monkeypatch: pytest.MonkeyPatch, steps: str, columns: tuple[str, ...]
) -> None:
    monkeypatch.setattr(reduce, "_ENGINE_ELEMENTS", 100)
    run = reads.run()
    special = {7: math.nan, 8: math.inf, 9: -math.inf, 200: math.nan}
    rows = [
        Row(
            special.get(seq, math.sin(seq * 7.3 + writer)),
            run=run,
            column=column,
            seq=seq,
            writer=W[writer],
            step=(seq * 37) % 90 - 20 if steps == "all" else None,
            time=T0 + seq // 5,
        )
        for writer in range(2)
        for seq in range(250)
        for column in columns
        if (seq + len(column)) % 11
    ]
    await reads.log(rows, again=1)
    for buckets in 1, 7, 50, 20_000:
        check(await read(reads, run, buckets), rows, buckets)


async def test_steps_at_the_ends_of_the_range(reads: Reads, monkeypatch: pytest.MonkeyPatch) -> None:
    run = reads.run()
    steps = [NO_STEP + 1, -1, 0, 1, 2**63 - 1]
    rows = [Row(float(n), run=run, step=step, seq=n) for n, step in enumerate(steps)]
    await reads.log(rows)
    for engine in 50_000, 1:
        monkeypatch.setattr(reduce, "_ENGINE_ELEMENTS", engine)
        for buckets in 1, 2, 3, 20_000:
            check(await read(reads, run, buckets), rows, buckets)


async def test_the_axis_is_told_and_a_part_may_be_selected(reads: Reads) -> None:
    run = reads.run()
    rows = [Row(float(n), "stepped", run=run, step=n, seq=n) for n in range(10)]
    rows += [Row(float(n), "plain", run=run, seq=n, time=T0 + n) for n in range(10)]
    await reads.log(rows)
    found = {b.metric: b for b in await read(reads, run, 2)}
    assert found["stepped"].by_step
    assert not found["plain"].by_step
    (part,) = await read(reads, run, 1, min_step=3, max_step=4)
    assert (part.metric, part.first_x.tolist(), part.max.tolist()) == ("stepped", [3], [4.0])


async def test_texts_alone_have_no_buckets(reads: Reads) -> None:
    run = reads.run()
    await reads.log([Row("a", run=run), Row(None, "n", run=run), Row(DECLARE, "d", run=run)])
    assert await read(reads, run, 3) == []


async def test_pages_of_buckets(reads: Reads) -> None:
    run = reads.run()
    rows = [
        Row(float(n), metric, column, run=run, seq=n, time=T0 + n)
        for metric, column in (("a", ""), ("b", "x"), ("b", "y"), ("c", ""))
        for n in range(20)
    ]
    await reads.log(rows)
    whole = [chunk async for chunk in _chunks(reads, run)]
    for size in 1, 7, 20, 33, 1000:
        request = query_service_pb2.GetMetricsPageRequest(
            request=reads.request(run, reduction=query_service_pb2.Reduction(buckets=10)), page_size=size
        )
        joined: dict[tuple[str, str], list[float]] = {}
        while True:
            page = await reads.servicer.get_metrics_page(request)
            assert sum(chunk.count for chunk in page.buckets) <= size
            for chunk in page.buckets:
                joined.setdefault((chunk.metric, chunk.column), []).extend(
                    np.frombuffer(chunk.last, np.float64).tolist()
                )
            request.page_token = page.next_page_token
            if not request.page_token:
                break
        assert joined == {(b.metric, b.column): b.last.tolist() for b in whole}


async def _chunks(reads: Reads, run: str) -> AsyncIterator[Buckets]:
    for buckets in await read(reads, run, 10):
        yield buckets
