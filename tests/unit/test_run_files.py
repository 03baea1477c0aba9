"""Names of files, images, and what a run keeps in the spool, without a server."""

from __future__ import annotations

import io
import json
import os
import struct
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runstream import Experiment, Run, Workspace
from runstream.core import pictures
from runstream.core.artifact import parse_uri, uri
from runstream.core.paths import artifact_path, local_target, name_from
from runstream.errors import ServiceError, UserError
from runstream.spool import process

Kept = dict[str, tuple[dict[str, Any], bytes]]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory of its own; no sender is started."""
    monkeypatch.setenv("RUNSTREAM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("RUNSTREAM_SPOOL", str(tmp_path / "spool"))
    monkeypatch.setattr("runstream.core.delivery.nudge_sender", lambda **_: None)
    monkeypatch.setattr("runstream.core.delivery.drain_at_complete", lambda: None)
    monkeypatch.setattr("runstream.core.delivery.flush", lambda *_, **__: ([], None, {"error": "no_sender"}))
    monkeypatch.setattr("runstream.core.exit.install", lambda: None)
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    yield work
    for writer in process.writers():
        writer.close()


@pytest.fixture
def run(folder: Path) -> Run:
    return Experiment(Workspace(workspace_name=f"w{os.urandom(4).hex()}"), "e").start_logging()


def kept(run: Run) -> list[tuple[str, bytes]]:
    """Names and contents that wait in the spool, in the order of the calls."""
    found = []
    for path in sorted(Path(run._state.channel.writer.folder.path, "files").glob("[0-9]*.json")):
        content = json.loads(path.read_bytes())
        if content["run_id"] != run.id:
            continue
        data = path.with_suffix(".data").read_bytes()
        assert content["size"] == len(data)
        assert content["workspace"] == run.experiment.workspace.name
        found.append((content["path"], data))
    return found


# ---------------------------------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("given", "stored"),
    [("a", "a"), ("./outputs/m.pkl", "outputs/m.pkl"), ("././a", "a"), ("größe/ü b", "größe/ü b")],
)
def test_names(given: str, stored: str) -> None:
    assert artifact_path(given) == stored
    assert artifact_path(Path(given)) == stored


@pytest.mark.parametrize(
    "name",
    [
        "",
        "/a",
        "../a",
        "a/../b",
        "a//b",
        "a/",
        ".",
        "./",
        "a\0b",
        "a\nb",
        "a\\b",
        "x" * 5001,
        "\ud800",
        3,
        None,
    ],
)
def test_names_that_can_not_be(name: Any) -> None:
    with pytest.raises(UserError):
        artifact_path(name)


def test_a_name_is_made_of_any_text() -> None:
    assert name_from("ROC") == "ROC"
    assert name_from("a/../b\n\\") == "a/b__"
    assert name_from("..") == "_"
    assert artifact_path(name_from("x" * 9000, ".png"))


def test_no_server_writes_outside_of_the_folder(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    assert local_target(root, "a/b") == root / "a/b"
    (root / "out").symlink_to(tmp_path)
    for path in "../a", "/a", "a/../../b", "out/a", "":
        with pytest.raises(ServiceError):
            local_target(root, path)


def test_addresses_of_files_among_metrics() -> None:
    assert parse_uri(uri("run_1", "a b/ü?.png")) == ("run_1", "a b/ü?.png")
    assert uri("run_1", "a.png") == "aml://artifactId/ExperimentRun/dcid.run_1/a.png"
    for other in "aml://artifactId/ExperimentRun/dcid.x", "http://x", "", 3, None:
        assert parse_uri(other) is None


# --------------------------------------------------------------------------------------- uploads


def test_a_file_is_safe_when_the_call_returns(run: Run, folder: Path) -> None:
    data = os.urandom(3_000_000)
    (folder / "m").write_bytes(data)
    run.upload_file("outputs/m", "m")
    (folder / "m").write_bytes(b"overwritten")
    run.upload_file(name="outputs/m", path_or_stream=folder / "m")
    (folder / "m").unlink()
    assert kept(run) == [("outputs/m", data), ("outputs/m", b"overwritten")]


def test_streams_and_empty_files(run: Run, folder: Path) -> None:
    data = os.urandom(2_500_000)
    run.upload_file("a", io.BytesIO(data))
    run.upload_file("b", io.BytesIO())
    (folder / "empty").touch()
    run.upload_file("c", "empty")
    with open("seek", "wb+") as file:
        file.write(b"0123")
        file.seek(2)
        run.upload_file("d", file)
    assert kept(run) == [("a", data), ("b", b""), ("c", b""), ("d", b"23")]


def test_wrong_sources(run: Run, folder: Path) -> None:
    (folder / "d").mkdir()
    os.mkfifo(folder / "pipe")
    for source in "nothing", "d", "a\0b", "pipe", 3, None, io.StringIO("text"):
        with pytest.raises(UserError):
            run.upload_file("a", source)  # type: ignore[arg-type]
    for name in "/a", "../a", "":
        (folder / "m").write_bytes(b"x")
        with pytest.raises(UserError):
            run.upload_file(name, "m")
    assert not run._state.channel.writer.dropped_counts()
    assert kept(run) == []
    assert not list(Path(run._state.channel.writer.folder.path, "files").glob("*"))


def test_a_file_that_changes_while_it_is_read_is_refused(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "m").write_bytes(b"x" * 100_000)
    from runstream.spool import files

    move = files._move
    changes = [lambda: os.truncate("m", 50), lambda: (folder / "m").write_bytes(b"y" * 100_000)]

    def disturbed(*arguments: Any) -> int:
        moved = move(*arguments)
        if changes:
            changes.pop()()
        return moved

    monkeypatch.setattr(files, "_clone", lambda *_: False)
    monkeypatch.setattr(files, "_move", disturbed)
    for _ in range(2):
        with pytest.raises(UserError, match="changed"):
            run.upload_file("m", "m")
    assert kept(run) == []
    run.upload_file("m", "m")
    assert [name for name, _ in kept(run)] == ["m"]


def test_a_stream_that_fails_is_refused(run: Run) -> None:
    class Broken(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            raise OSError("the tape is torn")

    with pytest.raises(UserError, match="torn"):
        run.upload_file("a", Broken())  # type: ignore[arg-type]
    assert kept(run) == []


@pytest.mark.parametrize("ways", ["clone", "kernel", "plain"])
def test_every_way_of_copying(run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch, ways: str) -> None:
    from runstream.spool import files

    if ways != "clone":
        monkeypatch.setattr(files, "_clone", lambda *_: False)
    if ways == "plain":

        def refuse(*_: Any) -> int:
            raise OSError(18, "other file system")

        monkeypatch.setattr(os, "copy_file_range", refuse)
    data = os.urandom(5_000_001)
    (folder / "m").write_bytes(data)
    run.upload_file("m", "m")
    assert kept(run) == [("m", data)]


def test_the_cap_is_kept_and_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RUNSTREAM_SPOOL_CAP", "2M")
    run = Experiment(Workspace(workspace_name=f"w{os.urandom(4).hex()}"), "e").start_logging()
    (folder / "m").write_bytes(os.urandom(900_000))
    for number in range(4):
        run.upload_file(f"{number}", "m")
    run.upload_file("stream", io.BytesIO(bytes(900_000)))
    run.log("a", 1.0)  # logging goes on
    assert [name for name, _ in kept(run)] == ["0", "1"]
    writer = run._state.channel.writer
    assert writer.dropped_counts() == {str(run._state.channel.index): 3}
    said = capsys.readouterr().err
    assert "RUNSTREAM_SPOOL_CAP" in said
    assert "2 of run" in said
    for path in Path(writer.folder.path, "files").glob("00000000.*"):  # it was delivered
        path.unlink()
    time.sleep(0.11)  # so often the disk is looked at
    run.upload_file("5", "m")
    assert [name for name, _ in kept(run)] == ["1", "5"]


def test_several_files_and_folders(run: Run, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in "a", "d/b", "d/e/c":
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(path.encode())
    (folder / "d/broken").symlink_to("nowhere")
    run.upload_files(["x/a", "x/b", "x/a"], ["a", "d/b", "d/e/c"])
    assert "x/a" in capsys.readouterr().err
    run.upload_folder("top", "d")
    run.upload_folder("", "d/e")
    names = ["x/a", "x/b", "top/b", "top/e/c", "c"]
    assert [name for name, _ in kept(run)] == names
    with pytest.raises(TypeError):
        run.upload_files(["a"], ["a", "d/b"])
    with pytest.raises(UserError):
        run.upload_folder("top", "a")
    with pytest.raises(UserError):
        run.upload_files("a", ["a"])
    assert run.get_file_names() == sorted(names)  # no server: as it is known here


def test_outputs_are_captured_once(run: Run, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outputs = folder / "outputs"
    assert outputs.is_dir()
    (outputs / "model.pkl").write_bytes(b"model")
    run.upload_file("outputs/model.pkl", "outputs/model.pkl")
    (outputs / "deep").mkdir()
    (outputs / "deep/log.txt").write_bytes(b"log")
    (outputs / "bad\nname").write_bytes(b"x")
    os.mkfifo(outputs / "pipe")
    run.complete()
    run.complete()
    assert kept(run) == [("outputs/model.pkl", b"model"), ("outputs/deep/log.txt", b"log")]
    assert "bad" in capsys.readouterr().err


def test_what_was_changed_after_its_upload_is_captured_again(run: Run, folder: Path) -> None:
    (folder / "outputs/m").write_bytes(b"one")
    run.upload_file("outputs/m", "outputs/m")
    (folder / "outputs/m").write_bytes(b"two!")
    run.fail("no")
    assert kept(run) == [("outputs/m", b"one"), ("outputs/m", b"two!")]


def test_files_of_earlier_runs_are_not_captured(run: Run, folder: Path) -> None:
    (folder / "outputs/first").write_bytes(b"first")
    run.complete()
    time.sleep(0.05)  # more than the clock of a file system lags behind
    second = run.experiment.start_logging()
    (folder / "outputs/second").write_bytes(b"second")
    second.complete()
    assert kept(second) == [("outputs/second", b"second")]


def test_runs_in_a_row_capture_each_its_own(run: Run, folder: Path) -> None:
    runs = [run]
    for number in range(5):
        (folder / f"outputs/{number}").write_bytes(b"%d" % number)
        runs[-1].complete()
        runs.append(run.experiment.start_logging())
    assert [[name for name, _ in kept(one)] for one in runs] == [[f"outputs/{n}"] for n in range(5)] + [[]]


@pytest.mark.parametrize(
    ("outputs", "captured"),
    [
        (False, []),
        ("out", ["out/x"]),
        (["out", "a/deep"], ["a/deep/x", "out/x"]),
        (True, ["outputs/x"]),
    ],
)
def test_which_folders(folder: Path, outputs: Any, captured: list[str]) -> None:
    run = Experiment(Workspace(workspace_name=f"w{os.urandom(4).hex()}"), "e").start_logging(outputs=outputs)
    for place in "out", "a/deep", "outputs":
        if (folder / place).is_dir():
            (folder / place / "x").write_bytes(b"x")
    run.complete()
    assert sorted(name for name, _ in kept(run)) == captured


def test_wrong_folders(folder: Path) -> None:
    with pytest.raises(UserError):
        Experiment(Workspace(workspace_name="w"), "e").start_logging(outputs=3)  # type: ignore[arg-type]


# ---------------------------------------------------------------------------------------- images


def decoded(png: bytes) -> np.ndarray[Any, Any]:
    """The pixels of a PNG as this project writes it."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    at, data, shape = 8, b"", (0, 0, 0)
    while at < len(png):
        length, kind = struct.unpack_from(">I4s", png, at)
        content = png[at + 8 : at + 8 + length]
        assert struct.unpack_from(">I", png, at + 8 + length)[0] == zlib.crc32(kind + content)
        if kind == b"IHDR":
            width, height, depth, color = struct.unpack_from(">IIBB", content)
            assert depth == 8
            shape = (height, width, {0: 1, 4: 2, 2: 3, 6: 4}[color])
        data += content if kind == b"IDAT" else b""
        at += length + 12
    rows = np.frombuffer(zlib.decompress(data), np.uint8).reshape(shape[0], -1)
    assert not rows[:, 0].any()
    return rows[:, 1:].reshape(shape)


def test_arrays_become_images() -> None:
    pixels = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)
    assert (decoded(pictures.drawn(pixels)) == pixels).all()
    assert (decoded(pictures.drawn(pixels[:, :, 0])) == pixels[:, :, :1]).all()
    assert (decoded(pictures.drawn(np.moveaxis(pixels, 2, 0))) == pixels).all()
    assert (decoded(pictures.drawn(pixels.astype(np.int64))) == pixels).all()
    floats = np.array([[0.0, 0.5, 1.0, 2.0, -1.0, np.nan, np.inf]])
    assert decoded(pictures.drawn(floats)).ravel().tolist() == [0, 128, 255, 255, 0, 0, 255]
    assert decoded(pictures.drawn(np.array([[True, False]]))).ravel().tolist() == [255, 0]
    for wrong in np.zeros(3), np.zeros((2, 2, 7)), np.zeros((0, 3)), np.array([["a"]]), 3, object(), {}:
        with pytest.raises(UserError):
            pictures.drawn(wrong)


def test_images_are_logged_from_either_place(run: Run, folder: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    pyplot.plot([1, 2, 3])
    run.log_image("ROC", pyplot)
    run.log_image("ROC", plot=pyplot)
    run.log_image("figure", plot=pyplot.gcf())
    pyplot.close("all")
    png = pictures.drawn(np.zeros((2, 2)))
    (folder / "deep").mkdir()
    (folder / "deep/x.png").write_bytes(png)
    run.log_image("file", "deep/x.png")
    run.log_image("path", path=folder / "deep/x.png", description="d")
    found = kept(run)
    assert all(data.startswith(b"\x89PNG") for _, data in found)
    names = [name for name, _ in found]
    assert names[3:] == ["deep/x.png", "x.png"]
    assert len(set(names)) == 5
    assert names[0].startswith("ROC_")
    for arguments in ({}, {"path": "deep/x.png", "plot": pyplot}, {"path": "nothing"}, {"plot": 3}):
        with pytest.raises(UserError):
            run.log_image("wrong", **arguments)
    (folder / "text.png").write_bytes(b"no image")
    with pytest.raises(UserError, match="no image"):
        run.log_image("wrong", "text.png")


@pytest.mark.parametrize("kind", ["confusion_matrix", "accuracy_table", "residuals", "predictions"])
def test_json_metrics(run: Run, kind: str) -> None:
    log = getattr(run, f"log_{kind}")
    value = {"schema_type": kind, "schema_version": "1.0.0", "data": {"m": np.eye(2), "x": [float("nan"), 1]}}
    log("first", value)
    log("second", json.dumps({"schema_type": kind, "data": {"größe": 1}}))
    (first, text), (second, other) = kept(run)
    assert (first, second) == ("first", "second")
    assert json.loads(text)["data"] == {"m": [[1.0, 0.0], [0.0, 1.0]], "x": ["NaN", 1]}
    assert json.loads(other)["data"] == {"größe": 1}
    for wrong in "{", "[1]", 3, None, {"schema_type": "another"}, {"a": object()}:
        with pytest.raises(UserError):
            log("wrong", wrong)


def test_nothing_is_kept_when_logging_is_disabled(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNSTREAM_MODE", "disabled")
    run = Experiment(Workspace(workspace_name="w"), "e").start_logging()
    (folder / "m").write_bytes(b"x")
    run.upload_file("m", "m")
    run.log_image("i", plot=np.zeros((2, 2)))
    with pytest.raises(UserError):
        run.upload_file("m", "nothing")
    run.complete()
    assert not list(folder.parent.glob("spool/**/*.data"))
