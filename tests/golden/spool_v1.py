"""A spool of version 1, for ever: `python -m tests.golden.spool_v1` writes it, with both engines.

It is made by the product's own writer, with fixed identities and times, and then damaged in all ways that the
format allows for. Later releases read the same elements from these bytes; they need not write the same bytes.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest import mock

from runstream import Experiment, Workspace, home
from runstream.core import delivery, experiment, run
from runstream.spool import folder, process, writer
from tests import spools

FOLDER = Path(__file__).with_name("spool-v1")
ENGINES = ("mmap", "append")
TIME = 1_763_900_000_000_000_000
HOST = "golden-00000000-0000-4000-8000-000000000000"


def describe(spool: spools.Spool) -> dict[str, Any]:
    """All that a reader gets out of it, as JSON."""
    calls = []
    for _, call in sorted(spool.calls.items()):
        elements = [[metric, column, idx, repr(value)] for metric, column, idx, value in call.elements]
        calls.append(
            {
                "seq": call.seq,
                "run": call.run,
                "kind": call.kind,
                "record": call.record,
                "time_ns": call.time_ns,
                "step": call.step,
                "elements": elements,
                "event": call.event,
            }
        )
    return {
        "runs": {str(index): run for index, run in spool.runs.items()},
        "empty": spool.empty,
        "calls": calls,
    }


def write(root: Path, engine: str) -> Path:
    """Write the spool. Returns the writer's folder."""
    rng = random.Random(f"spool-v1 {engine}")
    clock = itertools.count(TIME, 1_000_003)
    machine = folder.Machine("golden", HOST.removeprefix("golden-"))
    origin = writer.Origin(None, 3, 1, 8, True, "0.1.0")
    with contextlib.ExitStack() as stack:
        environment = {"RUNSTREAM_SPOOL": str(root), "RUNSTREAM_SPOOL_ENGINE": engine}
        stack.enter_context(mock.patch.dict(os.environ, environment))
        fixed: tuple[tuple[Any, str, Any], ...] = (
            (os, "urandom", rng.randbytes),
            (os, "getpid", lambda: 4711),
            (time, "time", lambda: TIME / 1e9),
            (time, "time_ns", lambda: next(clock)),
            (run, "time_ns", lambda: next(clock)),
            (folder, "machine", lambda: machine),
            (folder, "process_start", lambda _: 815),
            (folder, "pid_namespace", lambda: 4026531836),
            (home, "user_key", lambda: "1000"),
            (writer, "user_key", lambda: "1000"),
            (delivery, "nudge_sender", lambda **_: None),
            (delivery, "drain_at_complete", lambda: None),
            (delivery, "origin", lambda: origin),
            (experiment, "_launch", None),
            (process, "_writers", {}),
            (process, "_all", []),
        )
        for where, name, value in fixed:
            stack.enter_context(mock.patch.object(where, name, value))
        return _fill()


def _fill() -> Path:
    for name in ("RUNSTREAM_SERVER", "RUNSTREAM_API_KEY", "RUNSTREAM_LAUNCH_ID", "TORCHELASTIC_RUN_ID"):
        os.environ.pop(name, None)
    golden = Experiment(Workspace(workspace_name="golden"), "exp")
    first = golden.start_logging(run_id="exp_1", outputs=False, display_name="die erste", tags={"a": 1})
    second = golden.start_logging(run_id="exp_2", outputs=False)
    (made,) = process.writers()
    values = (0.1, -0.0, float("nan"), float("-inf"), 5e-324, 3, -(2**63), 2**63 - 1, True, None, "text", "")
    for i, value in enumerate((*values, "Grüße 🎉", 2**63, -(10**30), "\ud800")):
        first.log("each kind", value, step=i - 3)
        second.log("each kind", value)
    for i in range(200):
        first.log("loss", 1 / (1 + i), step=i)
        if i % 20 == 0:
            second.log_row("row", i=i, text=str(i), half=i / 2)
    first.log_list("doubles", [0.5, 1.5, float("nan")])
    first.log_list("integers", range(5))
    first.log_list("flags", [True, False, True])
    first.log_list("mixed", [1, 2.5, "x", None, True, 2**64, "Grüße"])
    first.log_list("empty", [])
    first.log_table("table", {"a": [1, 2], "b": ["x", "y"]}, "with a description")
    first.log_table("empty column", {"a": []})
    first.log_table("empty table", {})
    with mock.patch("runstream.spool.blocks._MAX_PART", 64):
        first.log_list("in parts", [float(i) for i in range(40)])
    abandoned, hole = made._claim(), made._claim()
    assert abandoned is not None
    assert hole is not None
    made._abandon(*abandoned, 0, TIME)
    second.log("after the hole", 1)
    made.count_dropped(1, 5)
    made._untold = True
    second.log("after the gap record", 1.0, "not the fast way")
    first.fail("the reason", "Code")
    second.complete()
    made.exit({"outcome": "exception", "exit_code": 1, "error_message": "Traceback …"})
    path = Path(made.folder.path)
    _damage(path)
    (path / ".ballast").unlink(missing_ok=True)
    return path


def _damage(path: Path) -> None:
    """What a killed process, a full disk and a sender leave: torsos, foreign records, repeats, zeros."""
    records = path / "00000000.records"
    whole = records.read_bytes()
    second = whole.index(b"RSC1", 4)
    spoiled = bytearray(whole[:second])
    spoiled[40] ^= 1
    torso = whole[: second - 9]
    records.write_bytes(whole[:second] + torso + bytes(64) + bytes(spoiled) + whole)
    with open(path / "names.records", "ab") as names:
        names.write((path / "names.records").read_bytes()[:50])


def main() -> None:
    """Write the golden files. Done once; what is there is not touched."""
    if FOLDER.exists():
        sys.exit(f"{FOLDER} exists, and golden bytes don't change")
    for engine in ENGINES:
        with tempfile.TemporaryDirectory() as temporary:
            made = write(Path(temporary), engine)
            target = FOLDER / engine / HOST / made.name
            shutil.copytree(made, target)
        content = json.dumps(describe(spools.read(target)), indent=1, ensure_ascii=False, sort_keys=True)
        (FOLDER / f"{engine}.json").write_text(content + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
