"""Searches among runs: filters against a plain evaluator, orders, pages, families, columns."""

from __future__ import annotations

import math
import random
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import pytest_asyncio

from runstream.v1 import query_service_pb2 as messages
from runstream.v1 import run_pb2
from runstream_query.errors import InvalidArgument
from runstream_query.filter_fields import STATUS_BY_WORD, Field
from runstream_query.filter_grammar import Comparison, Every, Node, Not, Some, parse_filter
from runstream_query.filter_tokens import FilterSyntaxError, Token, quoted_name, quoted_text
from tests.reads import T0, Reads, Row, opened

SEED = 20_261_126
SECOND = 1_000_000_000
NAMES = ["lr", "model", "a b", "x.y", "`t`", "ü"]
TEXTS = [
    "0.1",
    "1e-1",
    "ridge",
    "Ridge",
    "true",
    "",
    "nan",
    "-inf",
    "x'; DROP TABLE points; --",
    "50%_\\",
    "🙂",
]
NUMBERS = [0.1, -3.5, 0.0, -0.0, 1e300, math.nan, math.inf, -math.inf, 5.0]


@dataclass
class Known:
    """A run as the test knows it."""

    id: str
    status: int
    started: int
    ended: int
    name: str
    tags: dict[str, str | None] = field(default_factory=dict)
    params: dict[str, str | None] = field(default_factory=dict)
    metrics: dict[str, list[Any]] = field(default_factory=dict)
    archived: bool = False


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def reads(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Reads]:
    async with opened(tmp_path_factory.mktemp("search")) as found:
        yield found


async def make(reads: Reads, count: int, chance: random.Random) -> list[Known]:
    """Runs of all kinds, some of what they say said twice."""
    known = []
    for number in range(count):
        run, writer = f"run-{number:03}", number.to_bytes(16, "big")
        started = T0 + chance.randrange(20) * SECOND
        one = Known(run, 0, started, 0, chance.choice(["fern", "Fern", "otter", "ü"]))
        events: list[tuple[str, dict[str, Any]]] = [
            ("run_started", {"experiment": "e", "launch": "L", "display_name": one.name, "time_ns": started}),
            ("writer_started", {"role": 1, "launch": "L", "time_ns": started}),
        ]
        seq = 10
        for target, kind in ((one.tags, 1), (one.params, 3)):
            for name in chance.sample(NAMES, chance.randrange(4)):
                for _ in range(chance.choice([1, 1, 2])):  # the last setting counts
                    value = chance.choice([*TEXTS, None]) if kind == 1 else chance.choice(TEXTS)
                    target[name] = value
                    seq += 1
                    said: dict[str, Any] = {"kind": kind, "key": name, "seq": seq, "time_ns": started + seq}
                    events.append(("attribute_set", said if value is None else {**said, "value": value}))
        if chance.random() < 0.2:
            one.archived = True
            events.append(
                ("attribute_set", {"kind": 4, "key": "archived", "seq": 99, "time_ns": started + 99})
            )
        if chance.random() < 0.7:
            one.status, one.ended = chance.choice([9, 10, 11]), started + chance.randrange(4000) * SECOND
            events.append(("run_ended", {"status": one.status, "seq": 100, "time_ns": one.ended}))
        else:
            one.status = run_pb2.RUN_STATUS_RUNNING
        await reads.events(run, writer, *events)
        rows = []
        for name in chance.sample(NAMES, chance.randrange(4)):
            values = [
                chance.choice([*NUMBERS, *TEXTS[:3]]) if chance.random() < 0.2 else chance.choice(NUMBERS)
                for _ in range(chance.randrange(1, 5))
            ]
            one.metrics[name] = values
            rows += [
                Row(value, run=run, metric=name, seq=seq, writer=writer, time=T0 + seq)
                for seq, value in enumerate(values)
            ]
        if rows:
            await reads.log(rows, again=chance.randrange(2))
        known.append(one)
    return known


# ------------------------------------------------------------------------- what filters should mean


def holds(run: Known, node: Node) -> bool:
    """Whether a run matches, worked out plainly."""
    match node:
        case Not(term):
            return not holds(run, term)
        case Every(terms):
            return all(holds(run, term) for term in terms)
        case Some(terms):
            return any(holds(run, term) for term in terms)
        case Comparison(of, operator, values):
            if operator == "":
                return value_of(run, of, "") is not None
            if operator == "!=":
                return not compared(run, of, "==", values[0])
            return any(compared(run, of, "==" if operator == "in" else operator, value) for value in values)


def value_of(run: Known, of: Field, kind: str) -> Any:
    """The value of a field; None when there is none (of this kind)."""
    if of.group in ("tags", "params"):
        values = run.tags if of.group == "tags" else run.params
        return (values[of.name] or "") if of.name in values else None
    if of.group == "metrics":
        values_of_metric = run.metrics.get(of.name)
        if values_of_metric is None:
            return None
        if of.figure == "count" or kind == "":
            return float(len(values_of_metric))
        chosen = [value for value in values_of_metric if isinstance(value, str) == (kind == "text")]
        if of.figure in ("min", "max"):
            chosen = [value for value in chosen if not math.isnan(value)]
        if not chosen:
            return None
        figures = {"last": chosen[-1], "first": chosen[0], "min": min(chosen), "max": max(chosen)}
        return figures[of.figure]
    return {
        "id": run.id,
        "name": run.name,
        "status": run.status,
        "started": run.started,
        "ended": run.ended or None,
        "duration": (run.ended - run.started) / SECOND if run.ended else 1e9,  # to now, long ago
        "archived": True if run.archived else None,
    }[of.name]


def compared(run: Known, of: Field, operator: str, value: Token) -> bool:
    text = value.kind in ("text", "word")
    mine = value_of(run, of, "text" if text else "number")
    if of.name == "archived" and not of.group:
        return run.archived == (value.text.lower() == "true")
    if mine is None:
        return False
    theirs: Any = value.text
    match of.type:
        case "status":
            theirs = STATUS_BY_WORD[value.text.lower()]
        case "time":
            theirs = value.time_ns
        case "metric" | "duration" if not text:
            theirs = value.number
        case "text" if value.kind == "number":
            try:
                mine, theirs = float(mine), value.number
            except ValueError:
                return False
        case "text" if value.kind == "word" and value.text.lower() in ("true", "false"):
            mine, theirs = mine.lower(), value.text.lower()
    if isinstance(theirs, float) and math.isnan(theirs):
        return math.isnan(mine)
    if isinstance(mine, str) and isinstance(theirs, str) and operator in ("<", "<=", ">", ">="):
        mine, theirs = mine.encode(), theirs.encode()
    meanings: dict[str, Callable[[], bool]] = {
        "==": lambda: mine == theirs,
        "<": lambda: mine < theirs,
        "<=": lambda: mine <= theirs,
        ">": lambda: mine > theirs,
        ">=": lambda: mine >= theirs,
        "contains": lambda: theirs.lower() in mine.lower(),
        "matches": lambda: re.search(theirs, mine) is not None,
    }
    return meanings[operator]()


def random_filter(chance: random.Random, depth: int = 0) -> str:
    """A filter of any shape."""
    if depth < 3 and chance.random() < 0.5:
        kind = chance.choice(["and", "or", "not"])
        if kind == "not":
            return f"not ({random_filter(chance, depth + 1)})"
        return f"({random_filter(chance, depth + 1)} {kind} {random_filter(chance, depth + 1)})"
    name, text = quoted_name(chance.choice(NAMES)), quoted_text(chance.choice(TEXTS))
    number = repr(chance.choice(NUMBERS)).replace("nan", "0.1")
    order, equal = chance.choice(["==", "!=", "<", "<=", ">", ">="]), chance.choice(["==", "!="])
    figure = chance.choice(["last", "min", "max", "first", "count"])
    pattern, odd = (
        chance.choice(["^R", "idge$", "[0-9]+", "(?i)ridge"]),
        chance.choice(["nan", "inf", "-inf"]),
    )
    return chance.choice(
        [
            lambda: f"{chance.choice(['params', 'tags', 'metrics'])}.{name}",
            lambda: f"{chance.choice(['params', 'tags'])}.{name} {order} {text}",
            lambda: f"{chance.choice(['params', 'tags'])}.{name} {order} {number}",
            lambda: f"{chance.choice(['params', 'tags'])}.{name} == True",
            lambda: f"params.{name} in ({text}, {number}, ridge)",
            lambda: f"params.{name} not in ({text})",
            lambda: f"tags.{name} contains {text}",
            lambda: f"tags.{name} matches {pattern!r}",
            lambda: f"metrics.{name}.{figure} {order} {number}",
            lambda: f"metrics.{name} {equal} {chance.choice([odd, text])}",
            lambda: f"status {equal} {chance.choice(['running', 'Failed', 'COMPLETED'])}",
            lambda: f"name {order} {chance.choice(['fern', 'Otter'])}",
            lambda: f"duration {order} {chance.choice(['30m', '1h', '600'])}",
            lambda: f"started {order} '2023-11-14T22:13:30Z'",
            lambda: f"ended {order} 2023-11-14",
            lambda: "archived == false",
        ]
    )()


@pytest.mark.asyncio(loop_scope="module")
async def test_filters_mean_what_they_say(reads: Reads) -> None:
    chance = random.Random(SEED)
    known = await make(reads, 60, chance)
    await reads.summarise()
    for number in range(30):
        text = random_filter(chance)
        tree = parse_filter(text)
        assert tree is not None
        found = await reads.search(
            workspace="ws", filter=text, page_size=1000, archive=messages.ARCHIVE_VIEW_ALL
        )
        expected = {run.id for run in known if holds(run, tree)}
        assert {run.ref.run for run in found.runs} == expected, f"seed {SEED}, filter {number}: {text}"
        assert found.total == len(expected)


@pytest.mark.asyncio(loop_scope="module")
async def test_orders_and_pages(reads: Reads) -> None:
    """Pages put together are the whole, in order; what comes meanwhile takes nothing away."""
    everything = await reads.search(workspace="ws", page_size=1000, columns=["metrics.*", "params.*"])
    assert [(-r.started_time_ns, r.ref.run) for r in everything.runs] == sorted(
        (-r.started_time_ns, r.ref.run) for r in everything.runs
    )

    def place(run: messages.Run, descending: bool) -> tuple[Any, ...]:
        value = next((m.last for m in run.metrics if m.metric == "lr" and m.HasField("last")), None)
        number = 0.0 if value is None or math.isnan(value) else value
        kind = 3 if value is None else 1 if math.isnan(value) else 0
        return kind, -number if descending else number, -run.started_time_ns, run.ref.run

    texts = {run.ref.run for run in everything.runs if any(_only_text(m) for m in run.metrics)}
    old = {run.ref.run for run in everything.runs}
    numeric = [run for run in everything.runs if run.ref.run not in texts]
    for descending in (False, True):
        order = [messages.RunOrder(field="metrics.lr", descending=descending)]
        token, paged = "", []
        for page in range(1000):
            found = await reads.search(
                workspace="ws", order_by=order, page_size=7, page_token=token, columns=["metrics.lr"]
            )
            paged += [run.ref.run for run in found.runs]
            token = found.next_page_token
            if page == 1:  # a run that comes before and one that comes after
                for name, value in (("low", -1e308), ("high", 1e308)):
                    run, writer = f"{name}-{descending}", name.ljust(16).encode()
                    await reads.events(run, writer, ("run_started", {"experiment": "new"}))
                    await reads.log([Row(value, run=run, metric="lr", writer=writer)])
            if not token:
                break
        ids = [run for run in paged if run in old]
        assert sorted(ids) == sorted(old)
        wanted = [run.ref.run for run in sorted(numeric, key=lambda run: place(run, descending))]
        assert [run for run in ids if run not in texts] == wanted


def _only_text(metric: messages.MetricSummary) -> bool:
    return metric.metric == "lr" and not metric.HasField("last")


@pytest.mark.asyncio(loop_scope="module")
async def test_errors_name_the_part(reads: Reads) -> None:
    for fields, subject, position in (
        ({"filter": "params.a == "}, "filter", 12),
        ({"filter": "tags.a matches '('"}, "filter", 15),
        ({"order_by": [messages.RunOrder(field="loss")]}, "order_by[0]", 0),
        ({"columns": ["tags.*", "status"]}, "columns[1]", 0),
    ):
        with pytest.raises(FilterSyntaxError) as caught:
            await reads.search(workspace="ws", **fields)
        assert (caught.value.subject, caught.value.position) == (subject, position)
    page = await reads.search(workspace="ws", filter="archived == false", page_size=1)
    with pytest.raises(InvalidArgument, match="another request"):
        await reads.search(workspace="ws", filter="archived", page_token=page.next_page_token)


@pytest.mark.asyncio(loop_scope="module")
async def test_families_columns_and_sparklines(reads: Reads) -> None:
    for run, parent in (("p", ""), ("c1", "p"), ("c2", "p"), ("g", "c1")):
        started = {"experiment": "family", "parent": parent} if parent else {"experiment": "family"}
        param = {"kind": 3, "key": "k", "value": run}
        writer = run.ljust(16).encode()
        await reads.events(run, writer, ("run_started", started), ("attribute_set", param))
    await reads.log([Row(float(s), run="c1", metric="m", step=s, seq=s) for s in range(200)], again=1)
    await reads.log([Row(1.5, run="c1", metric="t", column="x", seq=500)])

    async def ids(**more: Any) -> set[str]:
        found = await reads.search(workspace="ws", experiments=["family"], **more)
        return {run.ref.run for run in found.runs}

    assert await ids() == {"p", "c1", "c2", "g"}
    assert await ids(family=messages.FamilySelection(top_level=True)) == {"p"}
    assert await ids(family=messages.FamilySelection(children_of="p")) == {"c1", "c2"}
    assert await ids(family=messages.FamilySelection(descendants_of="p")) == {"c1", "c2", "g"}
    assert await ids(filter="parent == p") == {"c1", "c2"}
    assert await ids(filter="metrics.t[x] == 1.5") == {"c1"}
    found = await reads.search(
        workspace="ws",
        experiments=["family"],
        filter="id == c1",
        columns=["metrics.*", "params.k"],
        sparklines=["m", "none"],
    )
    (child,) = found.runs
    assert [(a.kind, a.key, a.value) for a in child.attributes] == [(3, "k", "c1")]
    assert {(m.metric, m.column): (m.last, m.min, m.max, m.first, m.count) for m in child.metrics} == {
        ("m", ""): (199.0, 0.0, 199.0, 0.0, 200),
        ("t", "x"): (1.5, 1.5, 1.5, 1.5, 1),
    }
    (line,) = child.sparklines
    assert line.metric == "m"
    assert 32 < len(line.values) <= 64
    assert line.values[-1] == 199.0
    assert list(line.values) == sorted(line.values)


@pytest.mark.asyncio(loop_scope="module")
async def test_a_newer_attempt_hides_what_it_repeats(reads: Reads) -> None:
    """The summary is of what is read: an older attempt's later steps are hidden."""
    first, second = b"1" * 16, b"2" * 16
    for writer, launch, at in ((first, "L.1", T0), (second, "L.2", T0 + SECOND)):
        await reads.events(
            "again", writer,
            ("run_started", {"experiment": "again", "launch": launch, "time_ns": at}),
            ("writer_started", {"role": 1, "launch": launch, "time_ns": at}),
        )  # fmt: skip
    for writer, base, steps in ((first, 100, range(10)), (second, 0, range(4, 7))):
        rows = [
            Row(float(base + s), run="again", step=s, seq=s, writer=writer, time=T0 + base + s) for s in steps
        ]
        await reads.log(rows)
    (run,) = (await reads.search(workspace="ws", experiments=["again"], columns=["metrics.*"])).runs
    (metric,) = run.metrics
    assert (metric.last, metric.min, metric.max, metric.first, metric.count) == (6.0, 4.0, 103.0, 100.0, 7)
    assert run.attempts == 2


@pytest.mark.asyncio(loop_scope="module")
async def test_the_status_follows_the_leases(reads: Reads) -> None:
    """A stored status supposes that nobody renews; what the leases say counts when it is read."""
    writer = b"lease-of-a-write"
    ended = {"role": 1, "launch": "L", "outcome": 4, "seq_end": 3}
    await reads.events(
        "leased",
        writer,
        ("run_started", {"experiment": "leased", "launch": "L"}),
        ("writer_started", {"role": 1, "launch": "L"}),
        ("writer_ended", ended),
    )
    found = await reads.search(workspace="ws", experiments=["leased"], filter="status == Running")
    assert [run.status for run in found.runs] == [run_pb2.RUN_STATUS_RUNNING]  # a copy's end; the lease lives
    assert (await reads.search(workspace="ws", experiments=["leased"], statuses=[10])).total == 0
