"""What all tables must do with rows and queries. How they begin and end is in `test_tables_opened.py`."""

from __future__ import annotations

import asyncio
import math
import random
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from runstream_store.errors import QueryError, QueryTimeout, QueryTooLarge, RowsRefused, TablesError
from runstream_store.identity import KEYS, VERSIONS
from runstream_store.tables import Tables
from runstream_store.tables.schema import NO_STEP, SCHEMAS
from tests.contract.rows import (
    LONG,
    START_NS,
    WRITER,
    Row,
    count,
    expected,
    ordered,
    plain,
    points,
    table,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

TEXTS = ["", "a", "b ", "ünï", "\0", "a\0b", "😀 \N{COMBINING ACUTE ACCENT}", "'\"\\\n\t{x:Int8}%s"]
TIMES = [0, START_NS, START_NS + 1, 4_102_444_800_123_456_789]
IDS = [bytes(16), WRITER, b"\xff" * 16, b"abc" + bytes(13)]


def random_row(name: str, chance: random.Random) -> Row:
    """A row of any table, of few values, so that identities repeat."""
    row: Row = {}
    for field in SCHEMAS[name]:
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        if pa.types.is_string(kind):
            row[field.name] = chance.choice(TEXTS)
        elif pa.types.is_timestamp(kind):
            row[field.name] = chance.choice(TIMES)
        elif pa.types.is_fixed_size_binary(kind):
            row[field.name] = chance.choice(IDS).ljust(kind.byte_width, b"\xfe")
        elif pa.types.is_binary(kind):
            row[field.name] = chance.choice([b"", b"\xff\xfe\0", b"text"])
        elif pa.types.is_floating(kind):
            row[field.name] = chance.choice([0.0, -0.0, 1.5, math.nan, math.inf, -math.inf, 5e-324, 1.7e308])
        else:
            low = 0 if pa.types.is_unsigned_integer(kind) else -(2 ** (kind.bit_width - 1))
            high = low + 2**kind.bit_width - 1
            row[field.name] = chance.choice([low, high, 0, 1])
    return row


def repeated_rows(name: str, seed: int) -> list[Row]:
    """Rows of which identities repeat: with the same content, or with another version."""
    chance = random.Random(seed)
    rows: list[Row] = []
    by_version: dict[tuple[Any, ...], Row] = {}
    for _ in range(120):
        row = random_row(name, chance)
        key = tuple(row[part] for part in (*KEYS[name], VERSIONS.get(name, KEYS[name][0])))
        rows.append(by_version.setdefault(key, row))
    return rows


async def final(tables: Tables, name: str) -> list[Row]:
    columns = ", ".join(f"`{field.name}`" for field in SCHEMAS[name])
    found = plain(await tables.query(f"SELECT {columns} FROM {name} FINAL"))
    return sorted(found, key=lambda row: ordered(name, row))


class TestRows:
    @pytest.mark.parametrize("name", SCHEMAS)
    async def test_rows_come_back_as_they_were(self, tables: Tables, name: str) -> None:
        rows = repeated_rows(name, 1)
        await tables.insert(name, table(name, rows))
        assert await final(tables, name) == expected(name, rows)

    @pytest.mark.parametrize("name", SCHEMAS)
    async def test_whatever_is_repeated_is_stored_once(self, tables: Tables, name: str) -> None:
        """In another grouping, another order, other encodings, before and after merges."""
        rows = repeated_rows(name, 2)
        block = table(name, rows)
        await tables.insert(name, block)
        await tables.insert(name, block)
        chance = random.Random(3)
        for _ in range(3):
            shuffled = chance.sample(rows, len(rows))
            cuts = sorted(chance.sample(range(len(rows)), 5))
            for first, after in zip([0, *cuts], [*cuts, len(rows)], strict=True):
                await tables.insert(name, plain_text(table(name, shuffled[first:after])))
        assert await final(tables, name) == expected(name, rows)

    async def test_values_keep_their_bits(self, tables: Tables) -> None:
        special = [math.nan, math.inf, -math.inf, -0.0, 0.0, 5e-324, 2.0**53 + 1, 1e308, 0.1]
        rows = plain(points(0, len(special)))
        for row, value in zip(rows, special, strict=True):
            row["value"] = value
        for row, step in zip(rows, [NO_STEP, -(2**63) + 1, -1, 0, 1, 2**63 - 1], strict=False):
            row["step"] = step
        rows[-1]["seq"], rows[-1]["idx"] = 2**64 - 1, 2**32 - 1
        await tables.insert_points(table("points", rows))
        assert await final(tables, "points") == expected("points", rows)

    async def test_any_text(self, tables: Tables) -> None:
        chance = random.Random(4)
        texts = [
            "".join(chr(chance.randrange(0xD800)) for _ in range(chance.randrange(40))) for _ in range(200)
        ]
        texts += ["😀" * 50_000, "\0", "\ufeff", "\u2028", "{{a}}", " x "]
        rows = plain(points(0, len(texts)))
        for row, text in zip(rows, texts, strict=True):
            row["value"], row["text"], row["metric"] = 0.0, text, text[:1000]
        await tables.insert_points(table("points", rows))
        assert await final(tables, "points") == expected("points", rows)

    async def test_inserted_rows_are_seen_at_once_by_every_reader(self, tables: Tables) -> None:
        for number in range(5):
            await tables.insert_points(points(number * 100, 100))
            seen = await asyncio.gather(*(count(tables) for _ in range(6)))
            assert seen == [100 * (number + 1)] * 6

    async def test_concurrent_inserts(self, tables: Tables) -> None:
        await asyncio.gather(*(tables.insert_points(points(number * 50, 100)) for number in range(20)))
        assert await count(tables) == 20 * 50 + 50

    async def test_rows_made_of_other_rows(self, tables: Tables) -> None:
        await tables.insert_points(points(0, 100))
        for text in ("made", "x" * 100_000):  # also of what is too long for an address
            columns = "workspace, run, kind, key, writer, seq, version, value, removed, precedence"
            sql = """
                SELECT 'w', 'r', 1, {key:String}, unhex('00112233445566778899aabbccddeeff'), count(),
                    now64(9), {text:String}, 0, 0
                FROM points FINAL
            """
            params = {"key": text[:4], "text": text}
            await tables.derive("attributes", columns.split(", "), sql, params, timeout_s=60)
            rows = await tables.query(
                "SELECT value, seq FROM attributes FINAL WHERE key = {key:String}", {"key": text[:4]}
            )
            assert rows.to_pylist() == [{"value": text, "seq": 100}]
        with pytest.raises(TablesError):
            await tables.derive("attributes", ["key"], "SELECT nothing FROM nowhere", {}, timeout_s=60)

    async def test_an_empty_block_is_nothing(self, tables: Tables) -> None:
        await tables.insert_points(points(0, 0))
        assert await count(tables) == 0

    async def test_a_large_block_in_pieces(self, tables: Tables) -> None:
        whole = pa.concat_tables([points(number * 30_000, 30_000) for number in range(10)])
        await tables.insert_points(whole)
        assert await count(tables) == 300_000
        assert await count(tables, "(SELECT DISTINCT seq FROM points)") == 300_000


class TestRefusing:
    @pytest.mark.parametrize(
        "block",
        [
            points(0, 3).drop_columns("value"),
            points(0, 3).append_column("more", pa.array([1, 2, 3])),
            points(0, 3).set_column(9, "value", pa.array([1, 2, 3])),
            points(0, 3).set_column(9, "value", pa.array([1.0, None, 3.0])),
            points(0, 3).set_column(5, "writer", pa.array([b"short"] * 3)),
        ],
    )
    async def test_a_block_that_does_not_fit(self, tables: Tables, block: pa.Table) -> None:
        with pytest.raises(RowsRefused):
            await tables.insert_points(block)
        assert await count(tables) == 0

    async def test_an_unknown_table(self, tables: Tables) -> None:
        with pytest.raises(RowsRefused):
            await tables.insert("nothing", points(0, 1))


class TestQueries:
    async def test_values_are_bound(self, tables: Tables) -> None:
        await tables.insert_points(points(0, 10))
        for text in [*TEXTS, "x' OR '1'='1", "{other:String}", "é" * 1000]:
            found = await tables.query(
                "SELECT {text:String} AS text, {many:Array(String)} AS many, {number:UInt64} AS number,"
                " {wide:Int64} AS wide, {id:FixedString(16)} AS id, {value:Float64} AS value",
                {
                    "text": text,
                    "many": [text, "b"],
                    "number": 2**64 - 1,
                    "wide": -(2**63),
                    "id": WRITER,
                    "value": 0.1,
                },
            )
            assert found.to_pylist() == [
                {
                    "text": text,
                    "many": [text, "b"],
                    "number": 2**64 - 1,
                    "wide": -(2**63),
                    "id": WRITER,
                    "value": 0.1,
                }
            ]

    async def test_a_value_as_filter(self, tables: Tables) -> None:
        await tables.insert_points(points(0, 10))
        sql = "SELECT seq FROM points WHERE run = {run:String} AND seq IN {seqs:Array(UInt64)} ORDER BY seq"
        found = await tables.query(sql, {"run": "run", "seqs": [3, 5, 1000]})
        assert found.column("seq").to_pylist() == [3, 5]
        none = await tables.query(sql, {"run": "another", "seqs": [3]})
        assert (none.num_rows, none.column_names) == (0, ["seq"])

    async def test_values_and_placeholders_must_match(self, tables: Tables) -> None:
        for params in ({}, {"a": 1, "b": 2}, {"b": 1}):
            with pytest.raises(QueryError):
                await tables.query("SELECT {a:UInt8} AS a", params)

    async def test_names_of_many_blocks(self, tables: Tables) -> None:
        """Each block brings a dictionary of its own."""
        for number in range(5):
            metrics = [points(10 * metric, 10, metric=f"m{number}-{metric}") for metric in range(300)]
            await tables.insert_points(
                pa.concat_tables(metrics, promote_options="default").unify_dictionaries()
            )
        found = await tables.query("SELECT metric, count() AS n FROM points FINAL GROUP BY metric")
        assert set(found.column("n").to_pylist()) == {10}
        names = {f"m{number}-{metric}" for number in range(5) for metric in range(300)}
        assert set(found.column("metric").to_pylist()) == names
        rows = await tables.query("SELECT metric, seq FROM points")
        counts = pc.value_counts(rows.column("metric").cast(pa.string()))
        assert {one["values"].as_py(): one["counts"].as_py() for one in counts} == dict.fromkeys(names, 10)

    async def test_a_wrong_query(self, tables: Tables) -> None:
        with pytest.raises(QueryError, match="nonsense"):
            await tables.query("SELECT nonsense FROM points")
        assert await count(tables) == 0

    async def test_a_failed_query_leaves_nothing_to_the_next(self, tables: Tables) -> None:
        """chDB puts what a failed query had already given before the next result of the same client."""
        fails = "SELECT number, throwIf(number = 90000) AS thrown FROM numbers(100000)"
        for _ in range(6):
            with pytest.raises(QueryError):
                await tables.query(fails)
            found = await tables.query("SELECT number FROM numbers(3)")
            assert found.column("number").to_pylist() == [0, 1, 2]

    async def test_a_query_that_takes_too_long_is_stopped(self, tables: Tables) -> None:
        for heavy in (False, True):
            with pytest.raises(QueryTimeout):
                await tables.query(LONG, heavy=heavy, timeout_s=0.2)
        assert await count(tables) == 0

    async def test_a_query_that_needs_too_much_memory_is_stopped(self, tables: Tables) -> None:
        with pytest.raises(QueryTooLarge):
            await tables.query("SELECT sum(cityHash64(randomString(16000000))) AS n FROM numbers(1000)")
        assert await count(tables) == 0

    async def test_a_cancelled_query_is_stopped(self, tables: Tables) -> None:
        for _ in range(5):
            cancelled = asyncio.create_task(tables.query(LONG, heavy=True))
            await asyncio.sleep(0.05)
            cancelled.cancel()
            with pytest.raises(asyncio.CancelledError):
                await cancelled
        found = await tables.query("SELECT 1 AS one", heavy=True)  # by the same reader
        assert found.column("one").to_pylist() == [1]

    async def test_small_queries_do_not_wait_for_heavy_ones(self, tables: Tables) -> None:
        heavy = [asyncio.create_task(tables.query(LONG, heavy=True, timeout_s=60.0)) for _ in range(3)]
        await asyncio.sleep(0.1)
        assert await asyncio.gather(*(count(tables) for _ in range(5))) == [0] * 5
        await tables.insert_points(points(0, 10))
        assert await count(tables) == 10
        assert not any(one.done() for one in heavy)
        for one in heavy:
            one.cancel()
        await asyncio.gather(*heavy, return_exceptions=True)


def plain_text(block: pa.Table) -> pa.Table:
    """The same block without dictionaries."""
    fields = [
        pa.field(field.name, pa.string() if pa.types.is_dictionary(field.type) else field.type)
        for field in block.schema
    ]
    return block.cast(pa.schema(fields))


async def test_rows_are_removed_and_others_stay(tables: Tables) -> None:
    runs = ["kept", "gone", "it's \\ {x:Int8}", "gone too"]
    for n, run in enumerate(runs):
        await tables.insert_points(points(n * 1000, 1000, run=run))
        await tables.insert_points(points(n * 1000, 500, run=run))  # some of them again
    gone = runs[1:]
    params = {"workspaces": ["local"] * len(gone), "runs": gone}
    condition = "(workspace, run) IN arrayZip({workspaces:Array(String)}, {runs:Array(String)})"
    later = tables.insert_points(points(9000, 100, run="later"))
    await asyncio.gather(tables.remove("points", condition, params), later)
    await tables.remove("points", condition, params)
    wanted = [*plain(points(0, 1000, run="kept")), *plain(points(9000, 100, run="later"))]
    assert await final(tables, "points") == sorted(wanted, key=lambda row: ordered("points", row))
    await tables.insert_points(points(0, 10, run="gone"))
    counted = "SELECT run, count() AS n FROM points FINAL GROUP BY run ORDER BY run"
    assert plain(await tables.query(counted)) == [
        {"run": "gone", "n": 10},
        {"run": "kept", "n": 1000},
        {"run": "later", "n": 100},
    ]
    with pytest.raises(TablesError):
        await tables.remove("points", "no_such_column = 1", {})
    assert plain(await tables.query("SELECT 1 AS n")) == [{"n": 1}]
