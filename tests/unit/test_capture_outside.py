"""What is seen of a process from outside: figures of the machine, and where it came from."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from runstream.capture.itself import self_description
from runstream.capture.observer import Observer
from runstream.capture.source import read_source, without_credentials
from runstream.capture.system import PREFIX, System
from runstream.spool import layout
from runstream.spool.folder import lives, process_start
from tests import spools

USUAL = {
    "cpu_percent",
    "memory_percent",
    "process_cpu_percent",
    "process_memory_bytes",
    "process_threads",
    "disk_percent",
    "network_received_bytes_per_s",
    "network_sent_bytes_per_s",
}

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/proc is needed")


def test_figures_of_this_process(tmp_path: Path) -> None:
    system = System(os.getpid(), str(tmp_path))
    first = system.sample(1.0)
    assert f"{PREFIX}process_memory_bytes" in first
    assert f"{PREFIX}cpu_percent" not in first, "a share needs two samples"
    while os.times().user + os.times().system < 0.2:
        sum(range(10_000))
    second = system.sample(2.0)
    assert {PREFIX + name for name in USUAL} - second.keys() <= {f"{PREFIX}cpu_percent"}, (
        "no tick may have passed"
    )
    assert second[f"{PREFIX}process_memory_bytes"] > 1 << 20
    assert second[f"{PREFIX}process_threads"] >= 1
    for name, value in second.items():
        assert value >= 0, name
        if name.endswith("_percent") and "process" not in name:
            assert value <= 100, name


def test_what_can_not_be_read_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("garbage\n")
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "dev").write_text(
        "head\nhead\n  eth0: 5 0 0 0 0 0 0 0 7 0\n    lo: 1 0 0 0 0 0 0 0 1 0\n"
    )
    system = System(1, "/nowhere", str(tmp_path))
    system.sample(1.0)
    (tmp_path / "net" / "dev").write_text("head\nhead\n  eth0: 25 0 0 0 0 0 0 0 8 0\n")
    assert system.sample(3.0) == {
        f"{PREFIX}network_received_bytes_per_s": 10.0,
        f"{PREFIX}network_sent_bytes_per_s": 0.5,
    }


def git(folder: Path, *arguments: str) -> str:
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    identity = ("-c", "user.email=a@b.c", "-c", "user.name=n")
    done = subprocess.run(
        ["git", *identity, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def said(folder: Path, **more: object) -> dict[str, object]:
    itself = self_description()
    assert itself is not None
    return {**json.loads(json.dumps(itself)), "folder": str(folder), **more}


def test_source_of_a_repository(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "-b", "trunk")
    assert read_source(said(tmp_path)).properties == {}, "no commit yet"
    (tmp_path / "a.txt").write_text("one\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "first")
    git(tmp_path, "remote", "add", "origin", "https://user:secret@example.org/x.git")
    clean = read_source(said(tmp_path))
    assert clean.properties == {
        "azureml.git.commit": git(tmp_path, "rev-parse", "HEAD"),
        "azureml.git.branch": "trunk",
        "azureml.git.repository_uri": "https://example.org/x.git",
        "azureml.git.dirty": "False",
    }
    assert "system_logs/git.diff" not in clean.files
    (tmp_path / "a.txt").write_text("two\n")
    dirty = read_source(said(tmp_path))
    assert dirty.properties["azureml.git.dirty"] == "True"
    assert b"-one\n+two" in dirty.files["system_logs/git.diff"]
    (tmp_path / "a.txt").write_text("x" * 3_000_000)
    bounded = read_source(said(tmp_path)).files["system_logs/git.diff"]
    assert len(bounded) < (1 << 20) + 100
    assert b"bytes more]" in bounded


def test_source_without_a_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.setenv("TOKEN", "secret")
    monkeypatch.setenv("SEED", "7")
    monkeypatch.setenv("RUNSTREAM_CAPTURE_ENV", "SEED, ABSENT")
    found = read_source(said(tmp_path))
    assert found.properties == {}
    assert found.system["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found.system["command"].split()[0] == sys.orig_argv[0]
    assert {key: value for key, value in found.system.items() if key.startswith("env.")} == {"env.SEED": "7"}
    assert "secret" not in repr(found)
    assert any(line.startswith(b"numpy==") for line in found.files["system_logs/packages.txt"].splitlines())


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://user:secret@host/x.git", "https://host/x.git"),
        ("https://token@host:8443/x.git", "https://host:8443/x.git"),
        ("https://host/x.git", "https://host/x.git"),
        ("git@host:x.git", "git@host:x.git"),
        ("ssh://git@host/x.git", "ssh://host/x.git"),
        ("/a/folder", "/a/folder"),
        ("", ""),
    ],
)
def test_credentials_are_no_part_of_an_address(url: str, shown: str) -> None:
    assert without_credentials(url) == shown


def test_nothing_is_said_when_all_is_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNSTREAM_CAPTURE_SYSTEM", "0")
    itself = self_description()
    assert itself is not None
    assert itself["what"] == ["source"]
    monkeypatch.setenv("RUNSTREAM_CAPTURE_SOURCE", "off")
    assert self_description() is None


def test_a_spool_ends_with_the_last_of_its_runs(tmp_path: Path) -> None:
    observer = Observer(tmp_path)

    def say(op: str, **more: object) -> None:
        observer.take(json.dumps({"op": op, "writer": "aa", **more}).encode())

    def ended() -> dict[str, bool]:
        """By run, whether its spool says that nothing more comes."""
        found = {}
        for spool in spools.spools(tmp_path):
            said = any(call.record == layout.WRITER_EXIT for call in spool.calls.values())
            found.update({run["run"]: said for run in spool.runs.values()})
        return found

    say(
        "watch",
        pid=os.getpid(),
        pid_start=process_start(os.getpid()),
        observe={"what": ["system"], "folder": None},
        workspace="local",
        server=None,
        credential=None,
        version="1",
        rank=None,
        local_rank=None,
        world_size=None,
    )
    later = time.monotonic()
    for run in "first", "second":
        say("begin", run=run, experiment="e")
    observer.step(later := later + 100)
    say("end", run="first")
    observer.step(later := later + 100)
    assert ended() == {"first": False, "second": False}, "they share it, and one goes on"
    say("end", run="second")
    observer.step(later := later + 100)
    assert ended() == {"first": True, "second": True}
    say("begin", run="third", experiment="e")
    observer.step(later := later + 100)
    assert ended() == {"first": True, "second": True, "third": False}
    observer.close()
    assert ended()["third"]


def test_a_process_that_nobody_has_waited_for_is_gone() -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    start = process_start(process.pid)
    assert lives(process.pid, start)
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it is left as it is
    assert process_start(process.pid) == start
    assert not lives(process.pid, start)
    process.communicate()
    assert not lives(process.pid, start)
