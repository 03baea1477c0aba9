"""The client with the oldest and the newest dependencies that it allows: what training code brings along."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.server import Place

ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".cache" / "compat"

OLDEST = ("protobuf==4.25.*", "grpcio==1.62.*", "numpy==1.24.*", "zstandard==0.22.*")
NEWEST = ("protobuf<8", "grpcio", "numpy", "zstandard")

SCRIPT = """
import json, sys, warnings
import google.protobuf, numpy
from runstream import Experiment, Workspace
run = Experiment(Workspace.from_config(), "compat").start_logging()
for step in range(1000):
    run.log("loss", 1 / (step + 1), step=step)
run.log_list("array", numpy.arange(5))
run.log_row("table", x=1, y=2.5, label="a")
run.log_row("table", x=2, ok=True)
run.log("big", 2**70)
print(json.dumps({"protobuf": google.protobuf.__version__, "metrics": run.get_metrics()}))
run.complete()
import importlib, pkgutil, runstream.v1, runstream.internal.v1
for package in (runstream.v1, runstream.internal.v1):  # all generated code
    for found in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        importlib.import_module(found.name)
assert "runstream.v1.run_service_pb2_grpc" in sys.modules
"""


def interpreter(name: str, packages: tuple[str, ...]) -> Path:
    """An environment with these packages and nothing else; the test is skipped where it can't be made."""
    folder = CACHE / f"{name}-{sys.version_info[0]}.{sys.version_info[1]}"
    if (folder / "ready").exists():
        return folder / "bin" / "python"
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
    assert uv is not None, "uv is in the environment that `make venv` makes"
    python = folder / "bin" / "python"
    for command in (
        [uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)],
        [uv, "pip", "install", "--quiet", "--only-binary", ":all:", "--python", str(python), *packages],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            if os.environ.get("RUNSTREAM_REQUIRE_ENGINES"):
                pytest.fail(done.stderr)
            pytest.skip(f"needs {' '.join(packages)} from the package index: {done.stderr[-500:]}")
    (folder / "ready").touch()
    return python


@pytest.mark.engine
@pytest.mark.parametrize(("name", "packages"), [("oldest", OLDEST), ("newest", NEWEST)])
def test_logs_and_reads(guest: Place, name: str, packages: tuple[str, ...]) -> None:
    python = interpreter(name, packages)
    done = subprocess.run(
        [python, "-W", "error", "-c", SCRIPT],
        env=guest.environment(PYTHONPATH=str(ROOT / "sdk")),
        cwd=guest.work,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    found = json.loads(done.stdout)
    if name == "oldest":
        assert found["protobuf"].startswith("4.25.")
    assert found["metrics"] == {
        "loss": [1 / (step + 1) for step in range(1000)],
        "array": [0, 1, 2, 3, 4],
        "table": {"x": [1, 2], "y": [2.5, None], "label": ["a", None], "ok": [None, True]},
        "big": 2**70,
    }
