"""Cuts a large metric into parts that can be read one after the other, each at the cost of its own size.

The parts are ranges of the leading key of the reading order: of steps, which the tables' sorting key can
skip to, or of times. For times it can't, so each part also carries the sequence numbers that occur in it, by
which whole stretches of a writer are skipped. The cuts come from a sample: parts are roughly equal, and
together they are everything.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Final

from runstream_query.elements import Source, Window
from runstream_query.plan import Unit
from runstream_query.selection import DECLARATION
from runstream_query.sql import ask_rows

_SAMPLE_SIZE: Final = 4096
_METRIC: Final = f"""
FROM points AS p
WHERE p.workspace = {{workspace:String}} AND p.run = {{run:String}} AND p.metric = {{metric:String}}
    AND p.type < {DECLARATION}
"""
_SAMPLE: Final = f"SELECT groupArraySample({_SAMPLE_SIZE}, 1)({{axis}}) AS sample"
_TIME: Final = "toUnixTimestamp64Nano(p.time)"
_SEQS: Final = f"""
SELECT roundDown({_TIME}, {{cuts:Array(Int64)}}) AS low, min(p.seq) AS first, max(p.seq) AS last
{_METRIC} GROUP BY low
"""


async def windows(source: Source, unit: Unit, size: int) -> list[Window]:
    """Parts of a metric, in reading order, each of very roughly `size` elements."""
    names: dict[str, object] = {"workspace": source.workspace, "run": unit.run, "metric": unit.metric}
    elements = source.selection.elements()
    sql = _SAMPLE.format(axis="p.step" if unit.stepped else _TIME) + _METRIC + elements.further
    params = {**names, **elements.params}
    (row,) = await ask_rows(source.tables, sql, params, source.timeout_s, heavy=True)
    sample = sorted(row["sample"])
    parts = -(-unit.weight // size)
    if parts < 2 or not sample:
        return [Window("step" if unit.stepped else "time", None, None)]
    cuts = sorted({sample[len(sample) * part // parts] for part in range(1, parts)})
    if unit.stepped:
        return [Window("step", low, high) for low, high in pairwise([None, *cuts, None])]
    # What lies below the first number is rounded to it: one below all cuts keeps the first part apart.
    floor = min(sample[0], cuts[0]) - 1
    params = {**names, "cuts": [floor, *cuts]}
    rows = await ask_rows(source.tables, _SEQS, params, source.timeout_s, heavy=True)
    seqs = {row["low"]: (row["first"], row["last"]) for row in rows}
    return [
        Window("time", low, high, seqs[floor if low is None else low])
        for low, high in pairwise([None, *cuts, None])
        if (floor if low is None else low) in seqs
    ]
