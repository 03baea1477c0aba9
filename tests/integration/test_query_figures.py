"""What is kept of series is always what counting them anew would give, whatever is inserted, repeated and
merged meanwhile."""

from __future__ import annotations

import math
import random
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any

import pytest
import pytest_asyncio

from runstream_query import blocks
from runstream_query.attempts import Hidden
from runstream_query.blocks import Blocks, Part
from runstream_query.figures import FiguresReader, SeriesFigures
from runstream_query.sql import Clause
from runstream_store.tables.clickhouse import ClickHouseTables
from tests.reads import DECLARE, DECLARE_TABLE, NO_STEP, T0, Reads, Row, W, opened, typed

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def reads(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Reads]:
    async with opened(tmp_path_factory.mktemp("figures")) as made:
        yield made


async def command(reads: Reads, sql: str) -> None:
    assert isinstance(reads.tables, ClickHouseTables)
    await reads.tables._writer.run(lambda client: client.command(sql))


def reference(rows: Iterable[Row]) -> list[SeriesFigures]:
    unique = {(r.metric, r.column, r.step, r.writer, r.seq, r.idx): r for r in rows}.values()
    elements = [r for r in unique if r.value is not DECLARE and r.value is not DECLARE_TABLE]
    stepless = {r.metric for r in elements if r.step is None}
    found = []
    for metric, column in sorted({(r.metric, r.column) for r in unique}):
        own = sorted(
            (r for r in elements if (r.metric, r.column) == (metric, column)),
            key=lambda r: (0 if metric in stepless else r.step, r.time, r.writer, r.seq, r.idx),
        )
        of_type = [typed(r.value)[:2] for r in own]
        numbers = [value for kind, value in of_type if kind <= 3]
        steps = [r.step for r in own if r.step is not None]
        types = {typed(r.value)[0] for r in unique if (r.metric, r.column) == (metric, column)}
        found.append(
            SeriesFigures(
                metric=metric,
                column=column,
                elements=len(own),
                types=sum(1 << kind for kind in types),
                stepped=metric not in stepless,
                last_step=max(steps, default=NO_STEP),
                last=(of_type[-1][1], of_type[-1][0]) if own else None,
                last_number=numbers[-1] if numbers else None,
            )
        )
    return found


def plain(series: Sequence[SeriesFigures]) -> list[str]:
    """So that NaN is like NaN."""
    return [repr(one) for one in series]


class Counting(FiguresReader):
    """Tells how often something was counted."""

    counted = 0

    async def count(
        self, workspace: str, run: str, hidden: Hidden, elements: Clause | None = None
    ) -> Sequence[SeriesFigures]:
        self.counted += 1
        return await super().count(workspace, run, hidden, elements)


def draw(chance: random.Random, run: str, seq: int) -> list[Row]:
    """A block as a writer may send it."""
    values: list[Any] = [1.5, -2.0, math.nan, math.inf, 3, True, None, "text", 2**70, DECLARE]
    return [
        Row(
            chance.choice(values),
            metric=chance.choice(["a", "b", "c"]),
            column=chance.choice(["", "", "x"]),
            step=chance.choice([None, *range(8)]) if chance.random() < 0.2 else chance.randrange(50),
            writer=chance.choice(W[1:4]),
            seq=seq + place,
            time=T0 + chance.randrange(20),
            run=run,
        )
        for place in range(chance.randrange(1, 9))
    ]


@pytest.mark.parametrize("seed", range(4))
async def test_figures_are_exact(reads: Reads, seed: int) -> None:
    chance, run, other = random.Random(seed), reads.run(), reads.run()
    reader = FiguresReader(reads.tables, 30)
    rows: list[Row] = []
    for turn in range(12):
        what = chance.random()
        if what < 0.5 or not rows:
            fresh = draw(chance, run, 100 * turn)
            rows += fresh
            await reads.log(fresh, again=chance.randrange(2))
        elif what < 0.65:
            await reads.log(chance.sample(rows, chance.randrange(1, len(rows) + 1)))  # delivered again
        elif what < 0.8:
            await reads.log(draw(chance, other, 100 * turn))
        else:
            await command(reads, "OPTIMIZE TABLE points FINAL")
        assert plain(await reader.read("ws", run)) == plain(reference(rows)), f"seed {seed}, turn {turn}"


async def test_only_what_may_be_new_is_counted_again(reads: Reads) -> None:
    run, other = reads.run(), reads.run()
    reader = Counting(reads.tables, 30)
    await reads.log([Row(1.0, step=1, run=run)])
    await reader.read("ws", run)
    await reader.read("ws", run)
    assert reader.counted == 1
    await reads.log([Row(1.0, step=1, run=other)])
    await reader.read("ws", run)
    await command(reads, "OPTIMIZE TABLE points FINAL")
    await reader.read("ws", run)
    assert reader.counted == 1, "what came was of another run, and the merge brought nothing"
    await reads.log([Row(2.0, step=2, seq=1, run=run)])
    await command(reads, "OPTIMIZE TABLE points FINAL")
    assert [one.elements for one in await reader.read("ws", run)] == [2]
    assert reader.counted == 2
    await command(
        reads, f"ALTER TABLE points DELETE WHERE run = '{run}' AND step = 1 SETTINGS mutations_sync = 2"
    )
    assert [one.elements for one in await reader.read("ws", run)] == [1]
    await command(reads, "TRUNCATE TABLE points")
    assert await reader.read("ws", run) == []


async def test_figures_are_of_what_counts(reads: Reads) -> None:
    """What is kept is kept of the elements that were not hidden, and of no others."""
    run, reader = reads.run(), Counting(reads.tables, 30)
    rows = [Row(float(w), step=s, seq=s, writer=W[w], run=run) for w in (1, 2) for s in range(3 * w, 10)]
    await reads.log(rows, again=1)
    hidden = Hidden({(run, "m"): {(-1, W[1]): 6}})
    for wanted, elements in (hidden, 3 + 4), (hidden, 3 + 4), (Hidden(), 7 + 4):
        (found,) = await reader.read("ws", run, wanted)
        assert (found.elements, found.last_number) == (elements, 2.0)
    assert reader.counted == 2


async def test_parts_that_are_merged_while_they_are_looked_at(
    reads: Reads, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part that is gone has no rows to be seen, which must not pass for having none of the run."""
    run, reader = reads.run(), FiguresReader(reads.tables, 30)
    await reads.log([Row(1.0, step=1, run=run)])
    await reader.read("ws", run)
    await reads.log([Row(2.0, step=2, seq=1, run=run)])
    look = blocks.look
    seen: list[blocks.Sight] = []

    async def then_merged(*arguments: Any) -> blocks.Sight:
        sight = await look(*arguments)
        if not seen:
            await command(reads, "OPTIMIZE TABLE points FINAL")
        seen.append(sight)
        return sight

    monkeypatch.setattr(blocks, "look", then_merged)
    assert [one.elements for one in await reader.read("ws", run)] == [2]
    assert seen[0].parts != seen[1].parts


async def test_few_are_kept(reads: Reads, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runstream_query.figures._KEPT_SERIES", 2)
    reader, runs = Counting(reads.tables, 30), [reads.run() for _ in range(3)]
    for run in runs:
        await reads.log([Row(1.0, run=run)])
    for run in [*runs, runs[2], runs[1]]:
        await reader.read("ws", run)
    assert reader.counted == 3
    await reader.read("ws", runs[0])
    assert reader.counted == 4


async def test_which_blocks_are_known() -> None:
    known = Blocks.of([Part("b", 3, 5, 0), Part("a", 1, 2, 0), Part("c", 8, 8, 0)])
    assert known.ranges == [(1, 5), (8, 8)]
    merged, late, new = Part("m", 1, 5, 0), Part("l", 7, 7, 0), Part("n", 9, 9, 0)
    last = Part("c", 8, 8, 0)
    assert known.unknown([merged, last]) == []
    assert known.unknown([merged, late, last, new]) == [late, new]
    assert known.unknown([Part("all", 1, 9, 0)]) == [Part("all", 1, 9, 0)]
    assert Blocks().unknown([Part("c", 8, 8, 10)]) == [Part("c", 8, 8, 10)]
    assert known.unknown([merged]) is None, "rows are gone"
    assert known.unknown([merged, Part("c", 8, 8, 10)]) is None, "rows were changed"
