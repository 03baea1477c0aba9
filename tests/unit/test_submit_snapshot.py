"""Snapshots: what is in them, that equal folders give equal ones, and that they come back."""

import os
import subprocess
import zipfile
from pathlib import Path

import pytest

from runstream.errors import SnapshotError
from runstream.submit import snapshot


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_DOT_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def names(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as archive:
        return archive.namelist()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    write(
        folder,
        train_DOT_py="print()",
        data__big_DOT_bin="b",
        data__keep_DOT_txt="k",
        lib__a_DOT_py="a",
        lib__a_DOT_pyc="c",
        lib__deep__a_DOT_pyc="c",
        _DOT_git__config="g",
        lib____pycache____x_DOT_pyc="p",
    )
    return folder


def test_git_and_caches_are_never_taken(source: Path, tmp_path: Path) -> None:
    (source / "lib" / "__pycache__").mkdir(exist_ok=True)
    (source / "lib" / "__pycache__" / "a.pyc").write_text("x")
    made = snapshot.take(source, tmp_path / "s.zip")
    assert not [name for name in names(made.path) if ".git/" in name or "__pycache__" in name]
    assert "train.py" in names(made.path)


def test_gitignore_counts_as_git_reads_it(source: Path, tmp_path: Path) -> None:
    (source / ".gitignore").write_text("*.pyc\n/data/*\n!/data/keep.txt\n")
    (source / "lib" / "deep" / ".gitignore").write_text("!a.pyc\n")
    subprocess.run(["git", "init", "-q", str(tmp_path / "repo")], check=True)
    listed = subprocess.run(
        [
            "git",
            f"--git-dir={tmp_path / 'repo' / '.git'}",
            f"--work-tree={source}",
            "ls-files",
            "--others",
            "--exclude-standard",
        ],
        cwd=source,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    made = snapshot.take(source, tmp_path / "s.zip")
    found = [name for name in names(made.path) if "__pycache__" not in name]
    assert sorted(found) == sorted(name for name in listed if not name.startswith(".git/"))
    assert "data/keep.txt" in found
    assert "lib/deep/a.pyc" in found
    assert "data/big.bin" not in found


def test_amlignore_counts_alone(source: Path, tmp_path: Path) -> None:
    (source / ".gitignore").write_text("train.py\n")
    (source / ".amlignore").write_text("data/\n")
    found = names(snapshot.take(source, tmp_path / "s.zip").path)
    assert "train.py" in found
    assert not [name for name in found if name.startswith("data/")]


def test_equal_folders_have_equal_snapshots(source: Path, tmp_path: Path) -> None:
    first = snapshot.take(source, tmp_path / "1.zip")
    os.utime(source / "train.py", (1, 1))
    second = snapshot.take(source, tmp_path / "2.zip")
    assert first.id == second.id
    assert first.path.read_bytes() == second.path.read_bytes()
    ids = {first.id}
    (source / "train.py").chmod(0o755)
    ids.add(snapshot.take(source, tmp_path / "3.zip").id)
    (source / "train.py").write_text("print(1)")
    ids.add(snapshot.take(source, tmp_path / "4.zip").id)
    (source / "train.py").rename(source / "other.py")
    ids.add(snapshot.take(source, tmp_path / "5.zip").id)
    assert len(ids) == 4


def test_it_comes_back_as_it_was(source: Path, tmp_path: Path) -> None:
    (source / "run.sh").write_text("#!/bin/sh\n")
    (source / "run.sh").chmod(0o755)
    outside = tmp_path / "outside"
    write(outside, x_DOT_txt="x")
    (source / "link").symlink_to("lib")
    (source / "far").symlink_to("../outside")
    (source / "file").symlink_to(outside / "x.txt")
    os.mkfifo(source / "pipe")
    made = snapshot.take(source, tmp_path / "s.zip")
    copy = tmp_path / "elsewhere" / "copy"
    snapshot.unpack(made.path, copy)
    assert (copy / "train.py").read_text() == "print()"
    assert os.access(copy / "run.sh", os.X_OK)
    assert os.readlink(copy / "link") == "lib"
    assert (copy / "far" / "x.txt").read_text() == "x"  # what is outside stays where it is
    assert (copy / "file").read_text() == "x"
    assert not (copy / "file").is_symlink()
    assert not (copy / "pipe").exists()


def test_too_large_says_what_to_leave_out(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNSTREAM_SNAPSHOT_CAP", "1M")
    (source / "data" / "big.bin").write_bytes(bytes(1 << 20))
    with pytest.raises(SnapshotError, match=r"Largest are data \(1 MiB.*\.amlignore"):
        snapshot.take(source, tmp_path / "s.zip")
    (source / ".amlignore").write_text("data\n")
    snapshot.take(source, tmp_path / "s.zip")
    monkeypatch.setattr(snapshot, "MOST_FILES", 2)
    with pytest.raises(SnapshotError, match="2 files"):
        snapshot.take(source, tmp_path / "s.zip")
    with pytest.raises(SnapshotError, match="no folder"):
        snapshot.take(source / "missing", tmp_path / "s.zip")
