"""Spools of version 1 stay readable: by the plain reader of the tests and by the sender."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from runstream.spool import folder as places
from tests import spools
from tests.golden import spool_v1
from tests.sending import Sending, assert_holds, expected

pytestmark = pytest.mark.parametrize("engine", spool_v1.ENGINES)


@pytest.fixture
def sending(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sending]:
    made = Sending(tmp_path, monkeypatch)
    yield made
    made.close()


def golden(engine: str) -> spools.Spool:
    return spools.only(spool_v1.FOLDER / engine)


def test_the_plain_reader_finds_the_same(engine: str) -> None:
    wanted = json.loads((spool_v1.FOLDER / f"{engine}.json").read_text(encoding="utf-8"))
    assert json.loads(json.dumps(spool_v1.describe(golden(engine)))) == wanted


def test_the_sender_finds_the_same(sending: Sending, engine: str) -> None:
    wanted = golden(engine)
    machine = places.machine()  # of this host, and an earlier boot
    copied = (
        sending.spool / machine.folder.replace(machine.boot_id, wanted.header["boot_id"]) / wanted.path.name
    )
    shutil.copytree(wanted.path, copied)
    header = {**wanted.header, "server": sending.server.address}
    (copied / "writer.json").write_text(json.dumps(header))
    sending.drain()
    assert_holds(sending.log, expected(wanted))
    ended = [event.run_ended for event in sending.log.of_kind("run_ended")]
    assert [(event.status, event.error_message, event.error_code) for event in ended] == [
        (10, "the reason", "Code"),
        (9, "", ""),
    ]
    drained = {event.run.run: event.writer_drained for event in sending.log.of_kind("writer_drained")}
    assert drained["exp_2"].dropped == 5
    assert drained["exp_1"].lost == drained["exp_2"].lost == 0
