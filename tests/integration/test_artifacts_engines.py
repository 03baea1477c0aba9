"""Files with the content in a bucket, on a full disk, in great number, and with little memory."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from deploy.engines.s3 import S3
from tests.disks import small_disk as small_disk
from tests.integration.test_artifacts_line import BEGIN, files, ran, sha256
from tests.server import Place, wait_for

MB = 1_000_000


@pytest.mark.engine
def test_content_in_a_bucket(place: Place, s3_server: S3) -> None:
    at, _, options = s3_server.url.partition("?")
    url = f"{at}/test-{os.urandom(8).hex()}?{options}"
    place.up(RUNSTREAM_OBJECTS_URL=url)
    code = BEGIN + (
        """
data = os.urandom(1 << 20) * 70
run.upload_file("large", io.BytesIO(data))
for n in range(50):
    run.upload_file(f"{n}", io.BytesIO(b"%d" % n))
run.download_file("large", "back")
assert open("back", "rb").read() == data
run.complete()
print(hashlib.sha256(data).hexdigest())
"""
    )
    digest = ran(place.script(code, "r")).strip()
    found = files(place, "r")
    assert found["large"].hex() == digest
    assert found["7"] == sha256(b"7")
    assert len(found) == 51
    assert not (place.data / "objects").exists()


def test_a_bucket_that_is_away_for_a_while_loses_nothing(place: Place, tmp_path: Path) -> None:
    storage = S3(tmp_path / "s3").start()
    try:
        place.up(RUNSTREAM_OBJECTS_URL=storage.url)
        storage.engine.pause()
        code = BEGIN + 'run.upload_file("a", io.BytesIO(b"abc" * 100)); run.log("x", 1.0); run.complete()'
        ran(place.script(code, "r"))
        assert files(place, "r") == {}
        storage.engine.resume()
        wait_for(lambda: files(place, "r") == {"a": sha256(b"abc" * 100)}, "the file to arrive")
    finally:
        storage.stop()


def test_a_full_disk_costs_the_file_and_not_the_training(guest: Place, small_disk: Path) -> None:
    code = BEGIN + (
        """
open("large", "wb").write(bytes(40_000_000))
run.upload_file("large", "large")
run.upload_file("stream", io.BytesIO(bytes(40_000_000)))
run.log("after", 1.0)
run.upload_file("small", io.BytesIO(b"small"))
run.complete()
"""
    )
    done = guest.script(code, "r", RUNSTREAM_SPOOL=str(small_disk), RUNSTREAM_MODE="offline")
    assert done.returncode == 0, done.stderr
    assert "large of run r is not kept: No space" in done.stderr
    assert "stream of run r is not kept: No space" in done.stderr
    assert guest.runstream("sync", str(small_disk / "offline")).returncode == 0
    assert files(guest, "r") == {"small": sha256(b"small")}


def peak_mb(pid: int) -> float:
    """Memory that a process has had at most since its mark was cleared, MB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / MB
    raise AssertionError("no VmHWM")


def test_a_large_file_needs_little_memory(place: Place) -> None:
    server = place.up()
    ran(place.script(BEGIN + 'run.log("x", 1.0); run.flush(); run.complete()', "warm"))
    sender = place.sender()
    block = os.urandom(1 << 20)
    with open(place.work / "large", "wb") as file:
        for n in range(300):
            file.write(n.to_bytes(8, "little") + block[8:])
    for pid in server.process.pid, sender:
        Path(f"/proc/{pid}/clear_refs").write_text("5")
    before = {pid: peak_mb(pid) for pid in (server.process.pid, sender)}
    code = BEGIN + (
        """
import resource
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
run.upload_file("large", "large")
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
run.flush()
run.complete()
print((after - before) / 1000)
"""
    )
    script = float(ran(place.script(code, "r")))
    assert script < 20
    assert peak_mb(sender) - before[sender] < 60
    assert peak_mb(server.process.pid) - before[server.process.pid] < 220  # two chunks and what gRPC holds
    with open(place.work / "large", "rb") as file:
        assert files(place, "r")["large"] == hashlib.file_digest(file, "sha256").digest()


def test_many_small_files_arrive_by_name(guest: Place) -> None:
    code = BEGIN + (
        """
for n in range(2_000):
    run.upload_file(f"many/{n:04}", io.BytesIO(b"%d" % n * 20))
names = run.get_file_names()
assert names == [f"many/{n:04}" for n in range(2_000)], len(names)
"""
    )
    ran(guest.script(code, "r"))
    found = files(guest, "r")  # a page of them
    assert all(found[f"many/{n:04}"] == sha256(b"%d" % n * 20) for n in range(0, 1000, 7))
    wait_for(lambda: not list(guest.spool.glob("*/*/files/*.data")), "the spool to be empty")
