"""Ledgers over the real engine: what was logged is what is stored, by identity, or it is told what isn't."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio

from runstream.v1 import error_pb2, run_pb2
from runstream.v1 import query_service_pb2 as messages
from runstream_ingest.batch import describe
from runstream_ingest.errors import invalid
from runstream_ingest.writers.dead_letter import Refused, _lost_row, _rows
from runstream_query.errors import InvalidArgument, NotFound
from runstream_store.log import Lost, StoredRecord
from runstream_store.position import Position
from tests.batches import Element, make_batch
from tests.publish import Identity
from tests.reads import DECLARE, Reads, Row, opened, scalars, to_table
from tests.sending import digest, digest_of_seqs

pytestmark = pytest.mark.asyncio(loop_scope="module")

EPOCH = bytes(range(16))
PROVEN, COUNTED, APPLIED = 1, 2, 3
ARRIVING, OPEN, SURPLUS, MISSING = 4, 5, 6, 7


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def reads(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Reads]:
    async with opened(tmp_path_factory.mktemp("ledger")) as made:
        made.epochs["points"] = made.epochs["runs"] = EPOCH
        yield made


def who(run: str) -> bytes:
    """A writer of its own for each run: what is missing is looked for among all that a writer logged."""
    return hashlib.md5(run.encode()).digest()


def identities(rows: Iterable[Row]) -> set[Identity]:
    return {
        Identity(row.workspace, row.run, row.writer.hex(), row.seq, row.idx, row.metric, row.column)
        for row in rows
    }


def drained(rows: Sequence[Row], seq_end: int, seqs: Sequence[int] = (), **more: Any) -> dict[str, Any]:
    """What a sender says that logged these elements, and events with these numbers."""
    return {
        "seq_end": seq_end,
        "logged": len(identities(row for row in rows if row.value is not DECLARE)),
        "logged_digest": digest(identities(rows)),
        "events": len(seqs),
        "events_digest": digest_of_seqs(seqs),
        **more,
    }


async def told(reads: Reads, run: str, *said: dict[str, Any], ended: bool = True, seq_end: int = 100) -> None:
    """A writer that says so. Numbers 0 and 1 are its run's start and a tag."""
    events: list[tuple[str, dict[str, Any]]] = [
        ("run_started", {"seq": 0, "experiment": "e", "launch": "l"}),
        ("writer_started", {"role": 1, "launch": "l"}),
    ]
    if ended:
        events.append(("writer_ended", {"role": 1, "outcome": 1, "seq_end": seq_end, "observed": True}))
    events += [("writer_drained", {"seq": number, **one}) for number, one in enumerate(said)]
    await reads.events(run, who(run), *events)
    await reads.events(run, who(run), ("attribute_set", {"seq": 1, "kind": 1, "key": "k", "value": "v"}))


async def ledger(reads: Reads, run: str, compare: bool = True, **more: Any) -> messages.GetLedgerResponse:
    request = messages.GetLedgerRequest(compare=compare, **more)
    request.run.workspace, request.run.run = "ws", run
    return await reads.servicer.get_ledger(request)


def logged(run: str) -> list[Row]:
    """Scalars, a list, rows and an empty list."""
    rows = scalars([float(n) for n in range(20)], run=run)[2:]
    rows += [Row(float(i), "list", seq=20, idx=i, run=run) for i in range(5)]
    rows += [Row(float(i), "t", column, seq=21 + i, run=run) for i in range(3) for column in ("a", "ä\0b")]
    rows.append(Row(DECLARE, "empty", seq=24, run=run))
    return of_run(run, rows)


def of_run(run: str, rows: Iterable[Row]) -> list[Row]:
    """The rows, logged by its writer."""
    return [replace(row, writer=who(run)) for row in rows]


async def test_what_is_stored_is_proven_by_identity(reads: Reads) -> None:
    run = reads.run()
    rows = logged(run)
    await reads.log(rows, again=2)
    await told(reads, run, drained(rows, 100, [0, 1]))
    found = await ledger(reads, run)
    (writer,) = found.writers
    assert (found.state, writer.state, writer.missing, writer.missing_events) == (PROVEN, PROVEN, 0, 0)
    assert (writer.stored, writer.stored_events) == (18 + 5 + 6, 2)
    assert (await ledger(reads, run, compare=False)).state == APPLIED


async def test_a_writer_that_logged_nothing_has_ended_too(reads: Reads) -> None:
    run = reads.run()
    rows = logged(run)
    await reads.log(rows)
    await told(reads, run, drained(rows, 100, [0, 1]))
    await reads.events(
        run,
        hashlib.md5(b"idle" + run.encode()).digest(),
        ("writer_started", {"role": 2, "launch": "l"}),
        ("writer_ended", {"role": 2, "outcome": 1, "seq_end": 0, "observed": True}),
        ("writer_drained", {"seq": 0, **drained([], 0)}),
    )
    found = await ledger(reads, run)
    assert [(one.state, one.ended) for one in found.writers] == [(PROVEN, True)] * 2
    assert found.state == PROVEN
    assert (await ledger(reads, run, compare=False)).state == APPLIED


@pytest.mark.parametrize("which", range(0, 30, 4))
async def test_one_that_is_missing_shows(reads: Reads, which: int) -> None:
    run = reads.run()
    rows = logged(run)
    await told(reads, run, drained(rows, 100, [0, 1]))
    await reads.log(rows[:which] + rows[which + 1 :], again=1)
    (writer,) = (await ledger(reads, run)).writers
    assert writer.state == MISSING
    assert writer.missing == 1
    alone = [row for row in rows if row.seq == rows[which].seq] == [rows[which]]
    covered = any(gap.first <= rows[which].seq <= gap.last for gap in writer.gaps)
    assert covered == alone
    assert (writer.gaps[-1].first, writer.gaps[-1].last) == (25, 99)  # never logged


async def test_a_missing_declaration_or_event_shows(reads: Reads) -> None:
    run = reads.run()
    rows = logged(run)
    await reads.log(rows[:-1])
    await told(reads, run, drained(rows, 25, [0, 1]), seq_end=25)
    (writer,) = (await ledger(reads, run)).writers
    assert (writer.state, writer.missing) == (MISSING, 0)  # not an element, but there
    assert [(gap.first, gap.last) for gap in writer.gaps] == [(24, 24)]
    run = reads.run()
    await reads.log(logged(run))
    await told(reads, run, drained(logged(run), 27, [0, 1, 26]), seq_end=27)
    (writer,) = (await ledger(reads, run)).writers
    assert (writer.state, writer.missing, writer.missing_events) == (MISSING, 0, 1)
    assert [(gap.first, gap.last) for gap in writer.gaps] == [(25, 26)]


async def test_another_element_in_the_place_of_one_shows(reads: Reads) -> None:
    for other in (Row(1.0, seq=9, idx=1), Row(1.0, "n", seq=9), Row(1.0, seq=90)):
        run = reads.run()
        kept = [row for row in logged(run) if row.seq != 9]
        await reads.log(of_run(run, [*kept, replace(other, run=run)]))
        await told(reads, run, drained(logged(run), 100, [0, 1]))
        (writer,) = (await ledger(reads, run)).writers
        assert (writer.state, writer.missing) == (MISSING, 0)


async def test_more_than_was_logged_shows(reads: Reads) -> None:
    run = reads.run()
    rows = logged(run)
    more = [Row(0.0, "late", seq=50, run=run), Row(0.0, step=7, seq=9, run=run)]
    await reads.log(of_run(run, [*rows, *more]))
    await told(reads, run, drained(rows, 100, [0, 1]))
    (writer,) = (await ledger(reads, run)).writers
    assert (writer.state, writer.missing) == (SURPLUS, -2)  # the same call with another step is another row


async def test_what_ingest_refused_is_no_loss(reads: Reads) -> None:
    run = reads.run()
    rows = logged(run)
    refused = {"rejected": 2, "rejected_digest": digest(identities(rows[3:5]))}
    refused |= {"rejected_events": 1, "rejected_events_digest": digest_of_seqs([77])}
    why = run_pb2.Refusal(code=error_pb2.ERROR_CODE_INVALID, reason="wrong", elements=2, records=1)
    await reads.log(rows[:3] + rows[5:])
    await told(reads, run, drained(rows, 100, [0, 1, 77], refusals=[why], **refused))
    found = await ledger(reads, run)
    assert found.state == PROVEN
    assert [(one.reason, one.elements) for one in found.rejections] == [("wrong", 2)]


async def test_dead_letters_are_accounted_for_by_identity(reads: Reads) -> None:
    run = reads.run()
    rows = of_run(run, scalars([1.0, 2.0, 3.0, 4.0], run=run))
    await reads.log(rows[:2])
    await told(reads, run, drained(rows, 4, [0, 1]), seq_end=4)
    letter = [Element(value=3.0, offset=0), Element(value=4.0, offset=1)]
    payload = make_batch(
        letter, writer=who(run), first_seq=2, runs=[("ws", run)], series=[("m", "", "")]
    ).SerializeToString()
    for offset in (5, 9):  # delivered twice
        record = StoredRecord(Position("points", 0, offset, EPOCH), b"", b"")
        block = _rows(Refused(record, invalid("why not"), describe(payload), 1))
        await reads.tables.insert("dead_letters", to_table("dead_letters", block))
    found = await ledger(reads, run)
    (writer,) = found.writers
    assert (writer.state, writer.dead, writer.missing) == (PROVEN, 2, 0)
    assert [(one.reason, one.elements) for one in found.rejections] == [("why not", 2)]
    await reads.log(rows[2:])  # replayed by a better server
    assert (await ledger(reads, run)).state == PROVEN


async def test_of_an_older_sender_only_numbers_are_compared(reads: Reads) -> None:
    run = reads.run()
    rows = logged(run)
    await reads.log(rows)
    await told(reads, run, {"seq_end": 100, "logged": 29})
    assert (await ledger(reads, run)).state == COUNTED


async def test_while_it_lives_it_is_open_and_claims_prove_so_far(reads: Reads) -> None:
    run = reads.run()
    rows = logged(run)
    await reads.log(rows)
    await told(reads, run, ended=False)
    found = await ledger(reads, run)
    assert (found.state, found.writers[0].HasField("said")) == (OPEN, False)
    so_far = [row for row in rows if row.seq < 12]
    claim = messages.WriterClaim(writer=who(run), said=run_pb2.WriterDrained(**drained(so_far, 12, [0, 1])))
    found = await ledger(reads, run, claims=[claim])
    (writer,) = found.writers
    assert (found.state, writer.claimed, writer.ended, writer.stored) == (PROVEN, True, False, len(so_far))
    claim.said.logged += 1
    assert (await ledger(reads, run, claims=[claim])).state == MISSING


async def test_a_copy_without_its_beginning_proves_the_rest(reads: Reads) -> None:
    run = reads.run()
    rows = logged(run)
    await reads.log(rows)
    rest = [row for row in rows if row.seq >= 10]
    await told(reads, run, drained(rest, 100, first_seq=10))
    (writer,) = (await ledger(reads, run)).writers
    assert (writer.state, writer.stored) == (PROVEN, len(rest) - 1)  # one is a declaration


async def test_two_definitions_of_a_run_are_added_up(reads: Reads) -> None:
    run = reads.run()
    rows = logged(run)
    await reads.log(rows)
    await told(reads, run, drained(rows[:9], 100, [0]), drained(rows[9:], 100, [1]))
    assert (await ledger(reads, run)).state == PROVEN


async def test_what_is_on_its_way_is_arriving(reads: Reads) -> None:
    run = reads.run()
    at = run_pb2.LogPosition(topic="points", partition=1, offset=40, epoch=EPOCH)
    await told(reads, run, drained(logged(run), 100, [0, 1], positions=[at]))
    found = await ledger(reads, run)
    assert (found.state, [one.offset for one in found.writers[0].awaited]) == (ARRIVING, [40])
    await reads.hot.set_applied("points", Position("points", 1, 40, EPOCH))
    assert (await ledger(reads, run)).state == MISSING
    assert (await ledger(reads, run, compare=False)).state == APPLIED


async def test_a_log_that_lost_records_or_is_no_more_is_compared_unasked(reads: Reads) -> None:
    run, whole, gone = reads.run(), reads.run(), reads.run()
    at = run_pb2.LogPosition(topic="points", partition=2, offset=40, epoch=EPOCH)
    await reads.hot.set_applied("points", Position("points", 2, 40, EPOCH))
    for name in run, whole:
        rows = logged(name)
        await reads.log(rows[:-2] if name is run else rows)
        await told(reads, name, drained(rows, 100, [0, 1], positions=[at]))
    lost = [_lost_row(Lost("points", 2, 30, 35), EPOCH, 2 * 10**18)]
    await reads.tables.insert("dead_letters", to_table("dead_letters", lost))
    found = await ledger(reads, run, compare=False)
    assert found.state == MISSING
    assert [(one.partition, one.first, one.records) for one in found.expired] == [(2, 30, 6)]
    assert (await ledger(reads, whole, compare=False)).state == PROVEN
    other = run_pb2.LogPosition(topic="points", partition=2, offset=40, epoch=bytes(16))
    await told(reads, gone, drained(logged(gone), 100, [0, 1], positions=[other]))
    assert (await ledger(reads, gone, compare=False)).state == MISSING


async def test_elements_of_a_writer_that_nobody_announced(reads: Reads) -> None:
    run = reads.run()
    await reads.log(scalars([1.0, 2.0], run=run))
    found = await ledger(reads, run)
    assert [(one.state, one.stored, one.HasField("said")) for one in found.writers] == [(OPEN, 2, False)]


async def test_wrong_requests(reads: Reads) -> None:
    with pytest.raises(NotFound):
        await ledger(reads, "nobody's")
    with pytest.raises(InvalidArgument, match="writer has 3 bytes"):
        await ledger(reads, "x", claims=[messages.WriterClaim(writer=b"abc")])
