"""A request to cancel reaches the process, and ends it only when that is its only run."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from runstream.sender.tail import WriterTail
from runstream.spool.cancel import canceled_runs
from tests import spools
from tests.sending import Sending

LOOP = """
run = experiment.start_logging(outputs=False)
{more}
print(run.id, flush=True)
deadline = time.monotonic() + 120
while time.monotonic() < deadline:
    run.log("x", 1)
    if run.cancel_requested:
        print("asked", flush=True)
        break
    time.sleep(0.01)
time.sleep({after})
"""


@pytest.fixture
def sending(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sending]:
    made = Sending(tmp_path, monkeypatch)
    yield made
    made.close()


def started(sending: Sending, code: str, **environment: str) -> tuple[subprocess.Popen[str], str]:
    process = spools.start(
        sending.root, "mmap", code, environment={"RUNSTREAM_SERVER": sending.server.address, **environment}
    )
    assert process.stdout is not None
    run_id = process.stdout.readline().strip()
    assert run_id, process.communicate()
    sending.until(lambda: sending.sender._found and _tail(sending).definitions.runs, "the sender to find it")
    return process, run_id


def _tail(sending: Sending) -> WriterTail:
    ((tail, *_),) = sending.sender._found.values()
    return tail


def command(sending: Sending, run_id: str) -> None:
    """As the server would send it, twice."""
    for _ in range(2):
        sending.server.service.commands.append((_tail(sending).header.writer, run_id))
    folder = _tail(sending).folder
    sending.until(lambda: not sending.server.service.commands and canceled_runs(folder), "the note")


def test_the_only_run_is_interrupted_and_ends_as_canceled(sending: Sending) -> None:
    process, run_id = started(
        sending, LOOP.format(more="", after=60).replace("run.cancel_requested", "False")
    )
    command(sending, run_id)
    out, err = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGINT, (out, err)
    assert f"somebody asked for the end of {run_id}" in err
    (said,) = spools.only(sending.spool).events(19)
    assert (said["outcome"], said["error_message"]) == ("interrupted", "canceled on request")


@pytest.mark.parametrize(
    ("more", "environment"),
    [
        ("other = experiment.start_logging(outputs=False)", {}),
        ("", {"RUNSTREAM_INTERRUPT": "0"}),
    ],
    ids=["another run", "switched off"],
)
def test_else_it_is_only_told(sending: Sending, more: str, environment: dict[str, str]) -> None:
    process, run_id = started(sending, LOOP.format(more=more, after=0), **environment)
    command(sending, run_id)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "asked\n"), err
    assert spools.only(sending.spool).events(19)[0]["outcome"] == "clean"


def test_a_run_of_somebody_else_interrupts_nobody(sending: Sending) -> None:
    process, run_id = started(
        sending, LOOP.format(more="run = Run(experiment, 'other'); run.log('x', 1)", after=0)
    )
    assert run_id == "other"
    sending.until(lambda: len(_tail(sending).definitions.runs) == 2, "both runs")
    command(sending, "other")
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "asked\n"), err


def test_a_process_id_that_is_another_process_now_is_left_alone(
    sending: Sending, monkeypatch: pytest.MonkeyPatch
) -> None:
    from runstream.sender import cancel

    process, run_id = started(sending, LOOP.format(more="", after=0))
    killed: list[int] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: killed.append(pid))
    tail = _tail(sending)
    monkeypatch.setattr("runstream.spool.folder._state_and_start", lambda pid: ("R", 5))
    cancel.cancel(tail, run_id)
    assert not killed
    process.communicate(timeout=60)
