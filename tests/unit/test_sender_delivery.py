"""Delivery by a sender in the test, from spools made byte by byte to a server that keeps everything."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from runstream.sender import refusals
from runstream.v1 import run_pb2
from tests import spools
from tests.publish import IngestServer, refusal
from tests.sending import Sending, assert_holds, expected
from tests.spoolmaker import ABANDONED, START_NS, SpoolMaker, block, doubles, hold_lock, release_lock

ENGINES = ("mmap", "append")


@pytest.fixture
def sending(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sending]:
    made = Sending(tmp_path, monkeypatch)
    yield made
    made.close()


def writer(sending: Sending, **more: object) -> SpoolMaker:
    made = SpoolMaker(sending.spool, server=sending.server.address, **more)  # type: ignore[arg-type]
    made.run()
    made.series()
    return made


def read(made: SpoolMaker) -> spools.Spool:
    return spools.read(made.path)


@pytest.mark.parametrize("engine", ENGINES)
def test_every_kind_of_call_arrives(sending: Sending, engine: str) -> None:
    made = writer(sending, engine=engine)
    made.series(1, "t", "a")
    made.series(2, "t", "b")
    values = [1.5, -0.0, float("nan"), float("inf"), 7, -(2**63), True, False, None, "text é", ""]
    for seq, value in enumerate(values):
        made.scalar(seq, value, step=seq if seq % 2 else None)
    seq = len(values)
    made.call(seq, 2, str(2**70).encode())
    made.call(seq + 1, 3, block((0, 1, 3, doubles(1, 2, 3))))
    made.call(seq + 2, 3, block((1, 2, 2, struct.pack("<2q", 5, 6)), (2, 3, 2, bytes((1, 0)))))
    mixed = bytes((1, 5, 2, 6, 4)) + bytes(3) + struct.pack("<dqqqq", 0.5, 1, 9, 0, 0)
    mixed += struct.pack("<III", 2, 3, 5) + b"123xy"
    made.call(seq + 3, 3, block((1, 4, 5, mixed), (2, 1, 5, doubles(1, 2, 3, 4, 5))))
    made.call(seq + 4, 3, block((1, 5, 0, b"")))
    made.call(seq + 5, 3, block((0, 6, 0, b"")))
    for i in range(20):  # rows of one shape
        made.call(seq + 6 + i, 3, block((1, 1, 1, doubles(i)), (2, 2, 1, struct.pack("<q", i))), step=i)
    wanted = expected(read(made))
    sending.drain()
    assert_holds(sending.log, wanted)
    (drained,) = sending.log.of_kind("writer_drained")
    assert drained.writer_drained.logged == len(
        [v for v, _ in wanted.values() if v not in ("DECLARATION", "TABLE")]
    )
    assert drained.writer_drained.seq_end == seq + 26
    (ended,) = sending.log.of_kind("writer_ended")
    assert ended.writer_ended.outcome == run_pb2.WRITER_OUTCOME_KILLED
    assert ended.writer_ended.observed
    assert not ended.writer_ended.exit_seen


@pytest.mark.parametrize("engine", ENGINES)
def test_large_blocks_are_cut(sending: Sending, engine: str) -> None:
    made = writer(sending, engine=engine)
    made.scalar(0, 1.0)
    made.call(1, 3, block((0, 1, 50_000, doubles(*range(50_000)))), step=3)
    texts = [f"{i:02x}" * 500 for i in range(200)]
    ends = [1000 * (i + 1) for i in range(200)]
    mixed = bytes([5]) * 200 + struct.pack("<200q", *range(200)) + struct.pack("<201I", 200, *ends)
    made.call(2, 3, block((0, 4, 200, mixed + "".join(texts).encode())))
    made.call(3, 3, block((0, 1, 2, doubles(1, 2))), block((0, 1, 2, doubles(3, 4)), first_idx=2))
    made.scalar(4, 2.0)
    wanted = expected(read(made))
    sending.drain()
    assert_holds(sending.log, wanted)
    assert max(sending.log.sizes) <= 8192


def test_scalars_over_several_segments(sending: Sending) -> None:
    made = writer(sending)
    made.series(1, "n")
    for seq in range(7000):
        made.scalar(seq, seq if seq % 3 else float(seq), series=seq % 2, step=seq)
    wanted = expected(read(made))
    sending.drain()
    assert_holds(sending.log, wanted)
    assert not list(sending.spool.glob("*/*"))


@pytest.mark.parametrize("engine", ENGINES)
def test_a_late_commit_in_a_hole_comes_with_its_own_seq(sending: Sending, engine: str) -> None:
    made = writer(sending, engine=engine)
    made.live()
    try:
        made.scalar(0, 0.0)
        for seq in range(2, 6200):
            made.scalar(seq, float(seq))
        sending.until(lambda: len(sending.log.elements) == 6199)
        sending.until(lambda: not list(made.path.glob("00000001.*")), "the full segments are removed")
        assert list(made.path.glob("00000000.*"))  # the one with the hole stays
        state = json.loads((made.path / "state.json").read_text())
        assert state["holes"] == [[1, START_NS + 1000]]
        sending.restart()  # the hole is remembered
        made.scalar(1, 1.0, time_ns=START_NS + 1500)
        sending.until(lambda: len(sending.log.elements) == 6200)
        (late,) = [value for key, value in sending.log.elements.items() if key.seq == 1]
        assert late.value == 1.0
        assert late.time_ns == START_NS + 1000  # what stood before it; nothing delivered moves
        assert late.logged_time_ns == START_NS + 1500
        sending.until(lambda: not list(made.path.glob("00000000.*")))
    finally:
        made.die()
    sending.drain()
    (drained,) = sending.log.of_kind("writer_drained")
    assert drained.writer_drained.logged == 6200


def test_ordering_time_is_the_running_maximum(sending: Sending) -> None:
    made = writer(sending)
    times = [50, 10, 60, 60, 20, 70]
    for seq, time_ns in enumerate(times):
        made.scalar(seq, 1.0, time_ns=START_NS + time_ns)
    sending.drain()
    by_seq = {key.seq: value for key, value in sending.log.elements.items()}
    assert [by_seq[i].time_ns - START_NS for i in range(6)] == [50, 50, 60, 60, 60, 70]
    assert [by_seq[i].logged_time_ns - START_NS for i in range(6)] == times


def test_holes_of_a_dead_writer_and_abandoned_calls_are_nothing(sending: Sending) -> None:
    made = writer(sending)
    made.scalar(0, 0.0)
    made.slot(1, 5.0, commit=False)
    made.slot(2, 0, kind=ABANDONED)
    made.scalar(5000, 1.0)  # two segments further, with nothing between
    sending.drain()
    assert sending.log.values("m") == [0.0, 1.0]
    (drained,) = sending.log.of_kind("writer_drained")
    assert drained.writer_drained.seq_end == 5001
    assert drained.writer_drained.lost == 0


def test_lifecycle_of_a_run(sending: Sending) -> None:
    made = writer(sending, rank=3, local_rank=1, world_size=8)
    made.live()
    try:
        made.event(
            0, 16, experiment="exp", launch="launch", display_name="d", parent="", run_type="", time_ns=1
        )
        made.event(1, 18, kind="tag", key="k", value="v", removed=False, time_ns=1)
        made.scalar(2, 1.0)
        made.event(3, 17, status="Failed", error_message="no", error_code="E", time_ns=1)
        sending.until(lambda: sending.log.of_kind("writer_drained"))
        (drained,) = sending.log.of_kind("writer_drained")
        assert (drained.seq, drained.writer_drained.seq_end, drained.writer_drained.logged) == (0, 4, 1)
        assert drained.writer_drained.positions[0].topic == "points"
        assert not sending.log.of_kind("writer_ended")
        (started,) = sending.log.of_kind("writer_started")
        assert (started.writer_started.rank, started.writer_started.world_size) == (3, 8)
        (ended,) = sending.log.of_kind("run_ended")
        assert ended.run_ended.status == run_pb2.RUN_STATUS_FAILED
        made.scalar(4, 2.0)  # more came after the end
        sending.until(lambda: sending.log.of_kind("writer_drained")[0].writer_drained.logged == 2)
        made.exit(5, "exception", exit_code=1, error_message="boom", dropped={"0": 7})
        sending.until(lambda: sending.log.of_kind("writer_ended"))
        (left,) = sending.log.of_kind("writer_ended")
        assert not left.writer_ended.observed
        assert left.writer_ended.exit_seen
    finally:
        made.die()
    sending.drain()
    (left,) = sending.log.of_kind("writer_ended")
    assert left.writer_ended.observed
    assert left.writer_ended.outcome == run_pb2.WRITER_OUTCOME_EXCEPTION
    assert left.writer_ended.error_message == "boom"
    (drained,) = sending.log.of_kind("writer_drained")
    assert (drained.writer_drained.seq_end, drained.writer_drained.dropped) == (6, 7)
    (tag,) = sending.log.of_kind("attribute_set")
    assert (tag.attribute_set.key, tag.attribute_set.value) == ("k", "v")


def test_leases_name_the_living(sending: Sending) -> None:
    living, dead = writer(sending), writer(sending)
    living.live()
    try:
        sending.until(lambda: sending.log.of_kind("writer_started"))
        sending.until(lambda: any(lease == {living.writer.hex()} for lease in sending.log.leases))
        assert not any(dead.writer.hex() in lease for lease in sending.log.leases[-1:])
    finally:
        living.die()


def test_what_is_refused_for_good_is_cut_down_to_the_one_series(sending: Sending) -> None:
    made = writer(sending)
    made.run(1, "other")
    for series in range(1, 10):
        made.series(series, f"m{series}")
    for seq in range(1000):
        made.scalar(seq, float(seq), series=seq % 10, run=seq % 2)
    wanted = {key: value for key, value in expected(read(made)).items() if key.metric != "m7"}

    def refuse(record: object) -> object:
        bad = any(one.metric == "m7" for one in record.points.series)  # type: ignore[attr-defined]
        return refusal(2, reason="m7 is wrong") if bad else None

    sending.server.service.refuse = refuse  # type: ignore[assignment]
    sending.drain()
    assert_holds(sending.log, wanted)
    drained = {event.run.run: event.writer_drained for event in sending.log.of_kind("writer_drained")}
    assert (drained["other"].logged, drained["other"].rejected) == (500, 100)
    assert (drained["run"].logged, drained["run"].rejected) == (500, 0)
    (told,) = drained["other"].refusals
    assert (told.code, told.reason, told.elements) == (2, "m7 is wrong", 100)
    assert not drained["run"].refusals
    (kept,) = (sending.root / "home" / "refused").iterdir()
    assert "m7 is wrong" in kept.read_text()


def test_a_refused_event_leaves_the_others(sending: Sending) -> None:
    made = writer(sending)
    made.event(0, 18, kind="tag", key="good", value="v", removed=False)
    made.event(1, 18, kind="tag", key="bad", value="v", removed=False)

    def refuse(record: object) -> object:
        bad = any(event.attribute_set.key == "bad" for event in record.run_events.events)  # type: ignore[attr-defined]
        return refusal(2) if bad else None

    sending.server.service.refuse = refuse  # type: ignore[assignment]
    sending.drain()
    assert [event.attribute_set.key for event in sending.log.of_kind("attribute_set")] == ["good"]
    (drained,) = sending.log.of_kind("writer_drained")
    assert (drained.writer_drained.logged, drained.writer_drained.rejected) == (0, 0)
    (told,) = drained.writer_drained.refusals
    assert (told.code, told.reason, told.elements, told.records) == (2, "no", 0, 1)


def test_why_something_was_refused_is_told_while_the_run_goes_on(sending: Sending) -> None:
    made = writer(sending)
    made.series(1, "bad")
    sending.server.service.refuse = lambda record: (
        refusal(3, reason="too large") if any(one.metric == "bad" for one in record.points.series) else None
    )

    def told() -> list[tuple[int, str, int]]:
        return [
            (one.code, one.reason, one.elements)
            for event in sending.log.of_kind("writer_drained")
            for one in event.writer_drained.refusals
        ]

    made.live()
    try:
        made.scalar(0, 0.0)
        made.scalar(1, 1.0, series=1)
        sending.until(lambda: told() == [(3, "too large", 1)])
        assert not sending.log.of_kind("writer_ended")
        sending.restart()  # what was counted is remembered
        made.scalar(2, 2.0, series=1)
        made.scalar(3, 3.0)
        sending.until(lambda: told() == [(3, "too large", 2)])
    finally:
        made.die()
    sending.drain()
    assert told() == [(3, "too large", 2)]
    (drained,) = sending.log.of_kind("writer_drained")
    assert (drained.writer_drained.logged, drained.writer_drained.rejected) == (4, 2)


def test_reasons_beyond_the_first_are_counted_together() -> None:
    found: refusals.Refusals = {}
    for i in range(30):
        refusals.note(found, refusals.Reason(2, f"value {i} is wrong"), refusals.Count(i, 1))
    again = refusals.load(json.loads(json.dumps(refusals.dump(found))))
    told = refusals.messages(again)
    assert len(told) == 11
    assert [one.elements for one in told] == [*range(9, -1, -1), sum(range(10, 30))]
    assert sum(one.records for one in told) == 30


def test_what_is_refused_for_now_is_sent_again(sending: Sending) -> None:
    made = writer(sending)
    for seq in range(100):
        made.scalar(seq, float(seq))
    left = [3]

    def refuse(record: object) -> object:
        left[0] -= 1
        return refusal(6, retryable=True) if left[0] >= 0 else None

    sending.server.service.refuse = refuse  # type: ignore[assignment]
    sending.drain()
    assert len(sending.log.elements) == 100
    assert sending.log.of_kind("writer_drained")[0].writer_drained.rejected == 0


def test_unreadable_records_and_definitions_are_counted(sending: Sending) -> None:
    made = writer(sending)
    made.scalar(0, 1.0)
    made.slot(1, 10, kind=64)  # a record that isn't there
    made.scalar(2, 1.0, series=9)  # a series that isn't there
    made.call(3, 3, b"\x09\0\0\0\0\0\0\0")  # a block without its columns
    made.event(4, 18, kind="nonsense", key="k", value="v")
    made.scalar(5, 1.0)
    sending.drain()
    assert len(sending.log.elements) == 2
    (drained,) = sending.log.of_kind("writer_drained")
    assert (drained.writer_drained.logged, drained.writer_drained.lost) == (2, 4)


def test_a_text_beyond_the_limit_stops_nothing_else(sending: Sending) -> None:
    made = writer(sending)
    made.scalar(0, "x" * (2 << 20))
    made.scalar(1, "x" * ((2 << 20) + 1))
    made.scalar(2, "y")
    sending.drain()
    assert sorted(key.seq for key in sending.log.elements) == [0, 2]
    (drained,) = sending.log.of_kind("writer_drained")
    assert (drained.writer_drained.logged, drained.writer_drained.rejected) == (3, 1)


def test_another_server_with_other_data_gets_what_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sending: Sending
) -> None:
    made = writer(sending)
    made.live()
    try:
        for seq in range(3000):
            made.scalar(seq, float(seq))
        sending.until(lambda: not (made.path / "00000000.slots").exists())
        sending.server.stop()
        with IngestServer(port=sending.server.port) as other:
            made.scalar(3000, 1.0)
            sending.until(lambda: len(other.log.elements) == 3001 - 2048)
            assert min(key.seq for key in other.log.elements) == 2048
            made.die()
            sending.drain()
            assert other.log.of_kind("writer_started")
            assert other.log.of_kind("writer_drained")[0].writer_drained.logged == 3001 - 2048
    finally:
        made.die()


def test_a_restarted_sender_continues_behind_what_is_acknowledged(sending: Sending) -> None:
    made = writer(sending)
    made.live()
    try:
        for seq in range(500):
            made.scalar(seq, float(seq))
        sending.until(lambda: (made.path / "state.json").exists() and len(sending.log.elements) == 500)
        sending.until(lambda: json.loads((made.path / "state.json").read_text())["acked_seq"] == 500)
        sending.restart()
        made.scalar(500, 1.0)
        sending.until(lambda: len(sending.log.elements) == 501)
        assert sending.log.repeated == 0
    finally:
        made.die()
    sending.drain()
    assert sending.log.of_kind("writer_drained")[0].writer_drained.logged == 501


def test_compressed_on_request(sending: Sending, monkeypatch: pytest.MonkeyPatch) -> None:
    from runstream.sender.settings import SenderSettings

    sending.restart(settings=SenderSettings(compress="on", autostart=False, observe=False))
    made = writer(sending)
    for seq in range(3000):
        made.scalar(seq, float(seq))
    wanted = expected(read(made))
    sending.drain()
    assert_holds(sending.log, wanted)


def test_folders_that_are_not_to_be_touched(sending: Sending) -> None:
    newer = SpoolMaker(sending.spool, server=sending.server.address, format=2)
    made = writer(sending)
    link = made.path.with_name("0" * 32)
    link.symlink_to(made.path)
    (made.path.parent / "notes").mkdir()
    made.scalar(0, 1.0)
    sending.until(lambda: not made.path.exists())
    sending.steps(0.2)
    assert newer.path.exists()
    assert link.is_symlink()
    assert (made.path.parent / "notes").exists()
    assert len(sending.log.elements) == 1


def test_two_senders_never_serve_one_writer(sending: Sending) -> None:
    made = writer(sending)
    other = hold_lock(made.path / "sender.lock")
    try:
        made.scalar(0, 1.0)
        sending.steps(0.3)
        assert not sending.log.elements
    finally:
        release_lock(other)
    sending.drain()
    assert len(sending.log.elements) == 1


def test_large_files_of_records_are_punched(sending: Sending, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runstream.sender.tidying.PUNCH_BYTES", 64 << 10)
    made = writer(sending)
    made.live()
    try:
        for seq in range(12):
            made.call(seq, 3, block((0, 1, 4096, bytes(8 << 12))))
        records = made.path / "00000000.records"
        size = records.stat().st_size
        sending.until(lambda: records.stat().st_blocks * 512 < size // 2, "delivered records are punched out")
        assert records.stat().st_size == size
        sending.restart()
        made.scalar(12, 4.0)
        made.call(13, 1, b"text")
        sending.until(lambda: sending.log.values("m")[-2:] == [4.0, "text"])
    finally:
        made.die()
    sending.drain()
    assert len(sending.log.elements) == 12 * 4096 + 2


def test_a_state_of_an_older_sender_proves_nothing_and_counts_on(sending: Sending) -> None:
    made = writer(sending)
    made.live()
    try:
        made.scalar(0, 0.0)
        sending.until(lambda: (made.path / "state.json").exists())
        sending.until(lambda: json.loads((made.path / "state.json").read_bytes())["acked_seq"] == 1)
        state = json.loads((made.path / "state.json").read_bytes())
        sending.restart()
        del state["digests"], state["first_seq"]
        (made.path / "state.json").write_text(json.dumps(state))
        made.scalar(1, 1.0)
    finally:
        made.die()
    sending.until(lambda: sending.log.of_kind("writer_drained"))
    (drained,) = sending.log.of_kind("writer_drained")
    assert drained.writer_drained.logged == 2
    assert not drained.writer_drained.HasField("logged_digest")


def test_counts_of_a_copy_begin_where_its_spool_begins(sending: Sending) -> None:
    made = writer(sending)
    for seq in range(3000):
        made.scalar(seq, float(seq))
    (made.path / "00000000.slots").unlink()
    sending.drain()
    (drained,) = sending.log.of_kind("writer_drained")
    said = drained.writer_drained
    assert (said.first_seq, said.seq_end, said.logged) == (2048, 3000, 952)
