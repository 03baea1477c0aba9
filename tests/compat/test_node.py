"""A client in another language, made from proto/ alone, writes a run and reads it back."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.server import Place

FOLDER = Path(__file__).parent / "node"


def need_node() -> str:
    """Path of node, with gRPC's client installed; else the test is skipped, or fails where all must run."""
    node = shutil.which("node")
    if node is not None and (FOLDER / "node_modules").is_dir():
        return node
    message = "needs node, and `npm ci` in tests/compat/node (make test does it)"
    if os.environ.get("RUNSTREAM_REQUIRE_ENGINES"):
        pytest.fail(message)
    pytest.skip(message)


@pytest.mark.engine
def test_node_writes_and_reads(host: Place) -> None:
    node = need_node()
    server = host.server
    done = subprocess.run(
        [node, "client.mjs", server.grpc, server.token, "from-node"],
        cwd=FOLDER,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["ids"] == ["1", "2", "3", "4"]
    assert told["errors"] == [[], [], [], ["ERROR_CODE_MALFORMED"]]
    assert told["version"]
    assert told["refused"] == 16  # UNAUTHENTICATED without a token
    assert told["unknown"] == 5  # NOT_FOUND
    assert told["plain"] == {
        "status": "RUN_STATUS_FAILED",
        "settling": False,
        "seq": ["1", "2", "3", "4", "5"],
    }
    assert told["run"]["status"] == "RUN_STATUS_COMPLETED"
    assert told["run"]["experiment"] == "node"
    assert [(a["key"], a["value"]) for a in told["run"]["attributes"]] == [("made by", "node")]
    chunks = {(chunk["metric"], chunk["column"]): chunk for chunk in told["chunks"]}
    assert all(chunk.pop("mine") for chunk in told["chunks"])
    assert sorted(chunks) == [("big", ""), ("loss", ""), ("note", ""), ("table", "a"), ("table", "b")]
    loss = chunks["loss", ""]
    assert loss["doubles"] == ["0.5", "NaN", "Infinity", "-0", "1e-300"]
    assert loss["step"] == ["0", "10", "20", "30", "40"]
    assert loss["seq"] == ["0", "1", "2", "3", "4"]
    assert chunks["note", ""]["strings"] == ["grüße"]
    assert chunks["big", ""]["integers"] == ["9007199254740993"]
    assert chunks["table", "a"]["integers"] == ["1", "2"]
    assert chunks["table", "b"]["integers"] == ["1", "0"]
    assert chunks["table", "b"]["idx"] == [0, 1]
