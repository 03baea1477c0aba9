"""Numbers and bytes of the spool, as docs/formats.md has them."""

import struct
import sys
import threading
import zlib
from operator import length_hint
from pathlib import Path

import pytest

from runstream.spool import blocks, layout, segments
from runstream.spool.tally import Tally
from tests import spools


def test_segments() -> None:
    assert [layout.segment_slots(k) for k in (0, 1, 7, 8, 9)] == [2048, 4096, 262_144, 262_144, 262_144]
    assert [layout.segment_start(k) for k in (0, 1, 2, 7, 8, 9)] == [
        *(0, 2048, 2048 * 3, 2048 * 127),
        *(2048 * 127 + 262_144, 2048 * 127 + 2 * 262_144),
    ]
    for number in range(30):
        start = layout.segment_start(number)
        assert start == spools.start_of(number)
        assert layout.segment_start(number + 1) - start == layout.segment_slots(number)
        assert layout.segment_of(start) == number
        assert layout.segment_of(start + layout.segment_slots(number) - 1) == number


def test_a_record_is_padded_and_checked_with_its_writer() -> None:
    writer = bytes(range(16))
    data = b"".join(layout.record(writer, 3, 7, [b"ab", memoryview(b"cde")]))
    assert len(data) == 24 + 8
    magic, crc, length, kind, flags, seq = struct.unpack_from("<4sIIHHQ", data)
    assert (magic, length, kind, flags, seq) == (b"RSC1", 5, 3, 0, 7)
    assert data[24:] == b"abcde\0\0\0"
    assert crc == zlib.crc32(writer + data[8 : 24 + 5])
    assert list(spools.records(b"RSC1 torso" + data + bytes(40) + data[:20], writer)) == [(3, 0, 7, b"abcde")]
    assert list(spools.records(data, bytes(16))) == []


def test_large_blocks_are_cut_by_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "_MAX_PART", 100)
    columns = [
        (0, blocks.column([float(i) for i in range(20)])),
        (1, blocks.column(["x" * i for i in range(20)])),
    ]
    parts = blocks.encode(columns)
    firsts = [struct.unpack_from("<II", part[0])[1] for part in parts]
    assert firsts == sorted(set(firsts))
    assert len(parts) > 3
    names = {0: {"metric": "m", "column": "a"}, 1: {"metric": "m", "column": "b"}}
    found = [
        (*name, idx, value)
        for part in parts
        for name, first, values in spools._block(b"".join(part), names)
        for idx, value in enumerate(values, first)
    ]
    assert [value for _, column, _, value in found if column == "a"] == [float(i) for i in range(20)]
    assert [idx for _, column, idx, _ in found if column == "b"] == list(range(20))
    assert [value for _, column, _, value in found if column == "b"] == ["x" * i for i in range(20)]


def test_claims_without_a_global_lock() -> None:
    """What a free-threaded build uses in place of the iterator."""
    guarded = segments._Guarded(iter(range(40_000)))
    taken: list[list[int]] = [[] for _ in range(8)]

    def work(mine: list[int]) -> None:
        mine.extend(guarded)

    threads = [threading.Thread(target=work, args=(mine,)) for mine in taken]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(number for mine in taken for number in mine) == list(range(40_000))
    assert length_hint(guarded) == 0


def test_tally_of_many_threads() -> None:
    tally = Tally()

    def work() -> None:
        for _ in range(5000):
            tally.add()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tally.add(5)
    assert tally.total() == 40_005


def test_at_most_two_segments_are_mapped(tmp_path: Path) -> None:
    out = spools.run(
        tmp_path,
        "mmap",
        """
run = experiment.start_logging(outputs=False)
most = 0
for i in range(1_200_000):
    run.log("n", i)
    if i % 20_000 == 0:
        with open("/proc/self/maps") as maps:
            most = max(most, sum(".slots" in line for line in maps))
print(most, len(os.listdir("/proc/self/fd")))
""",
    )
    mapped, descriptors = map(int, out.split())
    assert mapped <= 2
    assert descriptors < 12


def test_logging_as_on_windows(tmp_path: Path) -> None:
    """No fcntl, no fallocate, no fork: the append engine, and nothing that is missing there."""
    spools.run(
        tmp_path,
        "",
        """
for name in ("fork", "posix_fallocate", "writev", "register_at_fork", "getuid", "uname", "link"):
    delattr(os, name)
import types
msvcrt = types.ModuleType("msvcrt")
msvcrt.LK_NBLCK, msvcrt.locking = 1, lambda *_: None
sys.modules.update(fcntl=None, pwd=None, grp=None, resource=None, msvcrt=msvcrt)
sys.platform = "win32"
run = experiment.start_logging(outputs=False)
for i in range(3000): run.log("n", i)
run.log_list("l", [0.5] * 100_000)
run.complete()
""",
    )
    spool = spools.only(tmp_path / "spool")
    assert spool.header["engine"] == "append"
    assert spool.values("n") == list(range(3000))
    assert len(spool.values("l")) == 100_000
    assert sys.platform != "win32"
