"""The reader of spools against a plain one that shares no code with it."""

from __future__ import annotations

import os
import struct
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runstream.spool.reader import Hole, SpoolReader, Taken
from runstream.spool.records import RecordFile
from tests import spools
from tests.spoolmaker import RECORD, START_NS, SpoolMaker, block, doubles, start_of

ENGINES = ("mmap", "append")
Got = dict[int, tuple[bytes, int, list[bytes]]]  # seq → slot, ordering time, payloads


def open_reader(made: SpoolMaker, **more: object) -> SpoolReader:
    return SpoolReader(made.path, made.writer, made.engine, **more)  # type: ignore[arg-type]


def take_all(reader: SpoolReader, got: Got, limit: int = 100) -> None:
    while (taken := reader.take_late() or reader.take(limit)) is not None:
        note(reader, taken, got)


def note(reader: SpoolReader, taken: Taken, got: Got) -> None:
    assert len(taken.slots) == len(taken.time_ns) > 0
    for at in range(len(taken.slots)):
        seq, slot = taken.seq(at), taken.slots[at]
        assert seq not in got
        payloads: list[bytes] = []
        if slot["kind"] == RECORD:
            records = reader.records(seq, int(slot["value"]))
            assert records is not None, seq
            skip = 32 if made_by_append(reader) else 0
            payloads = [bytes(record.payload[skip:]) for record in records]
        got[seq] = slot.tobytes(), int(taken.time_ns[at]), payloads


def made_by_append(reader: SpoolReader) -> bool:
    return reader.engine == "append"


def finish(reader: SpoolReader, got: Got) -> None:
    """As a sender does with a dead writer."""
    while reader.poll(final=True):
        take_all(reader, got)
    take_all(reader, got)


steps = st.lists(
    st.one_of(
        st.tuples(st.just("claim"), st.integers(1, 6)),
        st.tuples(st.just("commit"), st.integers(0, 30)),
        st.tuples(st.just("commit"), st.integers(0, 30)),
        st.tuples(st.just("commit"), st.integers(0, 30)),
        st.tuples(st.just("poll"), st.just(0)),
        st.tuples(st.just("poll"), st.just(0)),
        st.tuples(st.just("tear"), st.integers(1, 60)),
        st.tuples(st.just("leap"), st.integers(1, 5000)),
    ),
    max_size=60,
)


@pytest.mark.parametrize("engine", ENGINES)
@settings(max_examples=60)
@given(steps=steps, begin=st.sampled_from([0, 2040, 6140]))
def test_whatever_the_order_each_commit_is_taken_once(
    engine: str, steps: list[tuple[str, int]], begin: int
) -> None:
    """Claims, commits out of order, torn records and polls in any sequence."""
    with tempfile.TemporaryDirectory() as folder:
        made = SpoolMaker(Path(folder), engine=engine)
        made.run(0)
        made.series(0)
        reader = open_reader(made)
        got: Got = {}
        claimed: list[int] = []
        following = begin
        for what, amount in steps:
            if what == "claim":
                claimed += range(following, following + amount)
                following += amount
            elif what == "leap":  # calls that never return
                following += amount
            elif what == "commit" and claimed:
                seq = claimed.pop(amount % len(claimed))
                kind = amount % 4
                time_ns = START_NS + seq * 10 - (amount % 3) * 25
                if kind == 0:
                    made.scalar(seq, "x" * (amount * 7), time_ns=time_ns)
                elif kind == 1:
                    first, second = doubles(1, 2), doubles(*range(amount))
                    parts = block((0, 1, 2, first)), block((0, 1, amount, second), first_idx=2)
                    made.call(seq, 3, *parts, time_ns=time_ns)
                else:
                    made.scalar(seq, float(seq), step=amount, time_ns=time_ns)
            elif what == "tear" and claimed:
                whole = made.record_bytes(1, claimed[0], b"torn" * 20)
                made.append(made.records_path(claimed[0]), whole[:amount])
            elif what == "poll":
                reader.poll()
                take_all(reader, got, limit=3)
        finish(reader, got)
        plain = spools.read(made.path)
        assert got.keys() == plain.calls.keys()
        for seq, call in plain.calls.items():
            slot, _, payloads = got[seq]
            assert struct.unpack_from("<q", slot, 24)[0] == call.time_ns
            if call.record == 1:
                assert payloads[0].decode() == call.elements[0][3]
        reader.close()


@pytest.mark.parametrize("engine", ENGINES)
@settings(max_examples=40)
@given(times=st.lists(st.integers(1, 1000), min_size=1, max_size=40), holes=st.sets(st.integers(0, 39)))
def test_ordering_time(engine: str, times: list[int], holes: set[int]) -> None:
    """The running maximum in order of the sequence; late ones get what stood before them."""
    with tempfile.TemporaryDirectory() as folder:
        made = SpoolMaker(Path(folder), engine=engine)
        reader = open_reader(made)
        got: Got = {}
        present = [seq for seq in range(len(times)) if seq not in holes]
        for seq in present:
            made.scalar(seq, 1.0, time_ns=times[seq])
        for _ in range(3):
            reader.poll()
            take_all(reader, got)
        high, before = 0, {}
        for seq in range(len(times)):
            before[seq] = high
            if seq not in holes:
                high = max(high, times[seq])
                assert got[seq][1] == high
        last = max(present, default=-1)
        late = [seq for seq in sorted(holes) if seq < last]
        for seq in late:
            made.scalar(seq, 1.0, time_ns=times[seq])
        for _ in range(3):
            reader.poll()
            take_all(reader, got)
        for seq in late:
            assert got[seq][1] == before[seq]
        assert not reader.holes
        reader.close()


def test_a_slot_is_taken_in_the_poll_after_the_one_that_saw_it(tmp_path: Path) -> None:
    made = SpoolMaker(tmp_path)
    reader = open_reader(made)
    made.scalar(0, 1.0)
    reader.poll()
    assert reader.take(10) is None
    made.scalar(1, 1.0)
    reader.poll()
    taken = reader.take(10)
    assert taken is not None
    assert (taken.first, taken.end) == (0, 1)


def test_a_late_commit_waits_for_its_second_poll_too(tmp_path: Path) -> None:
    made = SpoolMaker(tmp_path)
    reader = open_reader(made)
    made.scalar(1, 1.0)
    reader.poll()
    reader.poll()
    assert reader.take(10) is not None
    made.scalar(0, 1.0)
    reader.poll()
    assert reader.take_late() is None
    reader.poll()
    assert reader.take_late() is not None
    assert reader.take_late() is None


@pytest.mark.parametrize("engine", ENGINES)
def test_it_continues_where_the_state_says(tmp_path: Path, engine: str) -> None:
    made = SpoolMaker(tmp_path, engine=engine)
    for seq in range(3000):
        if seq not in (5, 2500):
            made.scalar(seq, float(seq))
    reader = open_reader(made, acked_seq=2800, time_ns=7, holes=[Hole(5, 6, 1), Hole(2500, 2501, 2)])
    got: Got = {}
    made.scalar(5, 1.0)
    for _ in range(3):
        reader.poll()
        take_all(reader, got)
    assert sorted(got) == [5, *range(2800, 3000)]
    assert got[5][1] == 1
    assert reader.delivered_segments(3000, set()) == [0]  # segment 1 has the other hole, and isn't full
    reader.close()


@pytest.mark.parametrize("engine", ENGINES)
def test_missing_segments_below_the_first_are_acknowledged(tmp_path: Path, engine: str) -> None:
    made = SpoolMaker(tmp_path, engine=engine)
    made.scalar(start_of(2) + 1, 1.0)
    reader = open_reader(made)
    got: Got = {}
    finish(reader, got)
    assert list(got) == [start_of(2) + 1]
    assert [hole[:2] for hole in reader.holes] == [(start_of(2), start_of(2) + 1)]


def test_a_segment_may_be_there_although_the_one_before_never_was(tmp_path: Path) -> None:
    made = SpoolMaker(tmp_path)
    made.scalar(0, 1.0)
    reader = open_reader(made)
    got: Got = {}
    for _ in range(2):
        reader.poll()
        take_all(reader, got)
    made.scalar(start_of(3), 2.0)
    reader.look_for_segments()
    for _ in range(2):
        reader.poll()
        take_all(reader, got)
    assert sorted(got) == [0, start_of(3)]
    made.scalar(start_of(1) + 7, 3.0)  # its file comes only now
    for _ in range(2):
        reader.poll()
        take_all(reader, got)
    assert sorted(got) == [0, start_of(1) + 7, start_of(3)]
    reader.close()


def test_a_half_made_segment_is_not_opened(tmp_path: Path) -> None:
    made = SpoolMaker(tmp_path)
    (made.path / "00000000.slots").write_bytes(bytes(100))
    reader = open_reader(made)
    assert not reader.poll()


# ------------------------------------------------------------------------------------- records


def contents(path: Path, made: SpoolMaker, *, final: bool = False) -> list[tuple[int, bytes]]:
    file = RecordFile(path, made.writer)
    found = []
    while records := file.read(final):
        found += [(record.seq, bytes(record.payload)) for record in records]
    file.close()
    return found


@given(
    pieces=st.lists(
        st.one_of(
            st.tuples(st.just("record"), st.binary(max_size=200)),
            st.tuples(st.just("torn"), st.integers(1, 220)),
            st.tuples(st.just("noise"), st.binary(max_size=40)),
            st.tuples(st.just("zeros"), st.integers(1, 5000)),
        ),
        max_size=20,
    )
)
@settings(max_examples=150)
def test_every_whole_record_is_found_among_rubbish(pieces: list[tuple[str, bytes | int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        made = SpoolMaker(Path(folder))
        data = b""
        for seq, (what, content) in enumerate(pieces):
            if isinstance(content, bytes):
                data += made.record_bytes(1, seq, content) if what == "record" else content
            elif what == "torn":
                data += made.record_bytes(1, seq, bytes(200))[:content]
            else:
                data += bytes(content)
        path = made.path / "00000000.records"
        path.write_bytes(data)
        plain = [(seq, payload) for _, _, seq, payload in spools.records(data, made.writer)]
        assert contents(path, made, final=True) == plain


def test_records_of_another_writer_do_not_count(tmp_path: Path) -> None:
    made, other = SpoolMaker(tmp_path), SpoolMaker(tmp_path)
    path = made.path / "00000000.records"
    path.write_bytes(other.record_bytes(1, 0, b"theirs") + made.record_bytes(1, 1, b"ours"))
    assert contents(path, made) == [(1, b"ours")]


def test_a_record_that_is_being_written_is_waited_for(tmp_path: Path) -> None:
    made = SpoolMaker(tmp_path)
    path = made.path / "00000000.records"
    whole = made.record_bytes(1, 0, os.urandom(3 << 20))
    file = RecordFile(path, made.writer)
    for part in (whole[:10], whole[10 : 2 << 20], whole[2 << 20 : -20]):
        made.append(path, part)
        assert file.read() == []
    made.append(path, whole[-20:])
    (record,) = file.read()
    assert bytes(record.payload) == whole[24:]
    made.append(path, made.record_bytes(1, 1, b"next"))
    assert [record.seq for record in file.read()] == [1]
    file.close()


def test_a_cut_record_holds_up_the_following_only_for_a_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = SpoolMaker(tmp_path)
    path = made.path / "00000000.records"
    file = RecordFile(path, made.writer)
    made.append(path, made.record_bytes(1, 0, bytes(100_000))[:50] + made.record_bytes(1, 1, b"x"))
    assert file.read() == []
    monkeypatch.setattr("runstream.spool.records.TORN_AFTER_S", -1.0)
    assert [record.seq for record in file.read()] == [1]
    file.close()


def test_punched_files(tmp_path: Path) -> None:
    from runstream.sender.punch import punch

    made = SpoolMaker(tmp_path)
    path = made.path / "00000000.records"
    path.write_bytes(b"".join(made.record_bytes(1, seq, os.urandom(5000)) for seq in range(2000)))
    before = contents(path, made)
    size, record = path.stat().st_size, 24 + 5000
    punch(path, 0, 1500 * record)
    assert path.stat().st_size == size
    assert contents(path, made) == before[1500:]


def test_numbers_of_segments() -> None:
    from runstream.spool import layout

    for number in range(12):
        first, end = layout.segment_start(number), layout.segment_start(number + 1)
        assert first == start_of(number)
        assert layout.segment_of(first) == layout.segment_of(end - 1) == number
        assert layout.segment_slots(number) == end - first
