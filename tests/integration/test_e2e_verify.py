"""`run.verify()` and `runstream verify`: with a live run, after its end, with refusals, with no server."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path
from typing import Any

from tests.server import Place, wait_for

BEGIN = """
import sys
from runstream import Experiment, Workspace
run = Experiment(Workspace.from_config(), "v").start_logging()
print(run.id)
"""
LOGGED = (
    BEGIN
    + """
for step in range(5000):
    run.log("loss", float(step), step=step)
run.log_list("list", list(range(100)))
run.log_table("t", {"a": [1, 2], "b": ["x", None]})
run.log_list("nothing", [])
run.tag("k", "v")
"""
)


def verify(place: Place, run: str, *options: str) -> tuple[int, dict[str, Any]]:
    done = place.runstream("verify", run, "--json", *options)
    return done.returncode, json.loads(done.stdout) if done.stdout else {"stderr": done.stderr}


def test_a_run_is_proven_while_it_goes_on_and_when_its_spool_is_gone(guest: Place) -> None:
    code = LOGGED + "found = run.verify()\nprint(found)\nprint(bool(found), found.state, found.exit_code)\n"
    code += "run.log('after', 1)\nrun.complete()\n"
    printed = guest.script(code)
    assert printed.returncode == 0, printed.stderr
    run, verdict, writer, *_, last = printed.stdout.splitlines()
    assert "all that was logged is stored: 5,104 elements of 1 processes, compared by identity" in verdict
    assert "proven; not ended; logged 5,104, stored 5,104" in writer
    assert last == "True proven 0"
    wait_for(lambda: not list(guest.spool.glob("*/*/writer.json")), "the spool to go")
    status, found = verify(guest, run)
    assert (status, found["state"], found["whole"]) == (0, "proven", True)
    (one,) = found["writers"]
    assert (one["ended"], one["logged"], one["stored"], one["missing"]) == (True, 5105, 5105, 0)
    assert one["events"] >= 3
    assert "all that was logged is stored" in guest.runstream("verify", run).stdout
    done = guest.runstream("verify", "nobody")
    assert (done.returncode, done.stdout) == (4, "")
    assert "there is no run 'nobody'" in done.stderr


def test_without_a_server_it_is_told_what_is_in_the_spool(place: Place) -> None:
    run = place.script(LOGGED + "run.complete()\n").stdout.split()[0]
    done = place.runstream("verify", run, "--timeout", "1")
    assert done.returncode == 3
    server = place.up()
    assert verify(place, run)[0] == 0
    server.kill()
    code = (
        BEGIN + "run.log('x', 1)\nfound = run.verify(1)\nprint(found.state, found.writers[0].in_spool > 0)\n"
    )
    code += "print(found.exit_code, 'can\\'t be asked' in str(found), bool(found))\n"
    printed = place.script(code).stdout.splitlines()
    assert printed[1:] == ["open True", "5 True False"]


def test_files_whose_content_is_gone_are_told(place: Place) -> None:
    place.up()
    code = BEGIN + "import io\nfor n in range(3):\n"
    code += "    run.upload_file(f'file{n}.bin', io.BytesIO(bytes([n]) * 1000))\n"
    code += "run.upload_file('file0.bin', io.BytesIO(b'of another version'))\nrun.complete()\n"
    run = place.script(code).stdout.split()[0]
    status, found = verify(place, run)
    assert (status, found["files"], found["missing_files"]) == (0, 4, [])
    key = hashlib.sha256(bytes([0]) * 1000).hexdigest()
    (content,) = (path for path in place.data.rglob(f"*{key[4:]}*") if path.is_file())
    content.unlink()
    status, found = verify(place, run)
    assert (status, found["files"], found["missing_files"]) == (1, 4, ["file0.bin (version 1)"])
    told = place.runstream("verify", run)
    assert "MISSING: the content of 1 files is not in the storage" in told.stdout
    assert "file0.bin (version 1)" in told.stdout


def test_what_was_dropped_or_refused_is_told(guest: Place) -> None:
    # The writer's cap: what is beyond is dropped and counted.
    code = BEGIN + "import numpy as np\nfor n in range(40):\n    run.log_list('l', np.zeros(100_000))\n"
    code += "run.complete()\n"
    printed = guest.script(code, RUNSTREAM_SPOOL_CAP="2M")
    run = printed.stdout.split()[0]
    status, found = verify(guest, run)
    assert (status, found["state"], found["whole"]) == (6, "proven", False)
    (one,) = found["writers"]
    assert one["dropped"] > 0
    assert one["stored"] == one["logged"]
    assert one["logged"] == (40 - one["dropped"]) * 100_000


def test_a_writer_that_lives_elsewhere_leaves_it_open(place: Place, tmp_path: Path) -> None:
    place.up()
    other = Place(tmp_path / "other")
    # Same server, another home and spool: another machine.
    found = place.discovery()
    assert found is not None
    code = LOGGED + "run.flush()\nprint('there', flush=True)\nsys.stdin.readline()\n"
    process = other.popen(code, RUNSTREAM_SERVER=found["grpc"], RUNSTREAM_API_KEY=found["token"])
    try:
        assert process.stdout is not None
        run = process.stdout.readline().strip()
        assert process.stdout.readline() == "there\n"
        status, told = verify(place, run)
        assert (status, told["state"]) == (5, "open")
        assert process.stdin is not None
        process.communicate()
        deadline = time.monotonic() + 60
        while (status := verify(place, run)[0]) == 5:
            assert time.monotonic() < deadline
        assert status == 0
    finally:
        process.kill()
        process.communicate()
        other.close()
