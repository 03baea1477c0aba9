"""Files from a script to the server and back, over the whole line; kills and broken servers in between."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from runstream.home import files_socket
from tests.server import Place, Server, wait_for
from tests.uploading import Uploads

BEGIN = """
import hashlib, io, os, sys
from runstream import Experiment, Run, Workspace
run = Experiment(Workspace.from_config(), "e").start_logging(run_id=sys.argv[1])
"""


def uploads(place: Place) -> Uploads:
    """A program at the server of a place, in its workspace."""
    return Uploads(place.server.grpc, place.server.token, workspace=place.workspace)


def files(place: Place, run: str) -> dict[str, bytes]:
    """Digest by path, as any program sees it."""
    client = uploads(place)
    try:
        return {artifact.path: artifact.sha256 for artifact in client.list(run)}
    finally:
        client.close()


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def ran(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout


def up(place: Place, way: str, *options: str) -> Server:
    """A server that takes files of this machine over its Unix socket, or only over gRPC as from elsewhere."""
    server = place.up(*options)
    found = place.discovery()
    assert found is not None
    path = files_socket(bytes.fromhex(found["epoch"]))
    assert os.path.exists(path)
    if way == "grpc":
        os.unlink(path)
    return server


@pytest.mark.parametrize("way", ["handover", "grpc"])
def test_a_script_uploads_and_reads_back(place: Place, way: str) -> None:
    up(place, way)
    code = BEGIN + (
        """
import numpy as np
data = os.urandom(70 << 20)
open("large", "wb").write(data)
run.upload_file("large", "large")
os.unlink("large")
for n in range(100):
    run.upload_file(f"small/{n}", io.BytesIO(b"%d" % n))
run.upload_file("empty", io.BytesIO())
run.log_image("pixels", plot=np.eye(4))
run.log_confusion_matrix("cm", '{"data": {}}')
open("outputs/model", "wb").write(b"model")
names = run.get_file_names()
assert len(names) == 104 and names == sorted(names), names
for n in range(3):
    run.upload_file("again", io.BytesIO(b"%d" % (n // 2)))
    run.download_file("again")
    assert open("again", "rb").read() == b"%d" % (n // 2)
run.download_file("large", "back")
assert open("back", "rb").read() == data
metrics = run.get_metrics()
assert metrics["cm"] == f"aml://artifactId/ExperimentRun/dcid.{run.id}/cm", metrics
assert run.get_metrics(populate=True)["cm"].content == b'{"data": {}}'
run.complete()
run.download_files("small/", "all")
assert sorted(os.listdir("all/small")) == sorted(str(n) for n in range(100))
run.download_files("small", "cut", append_prefix=False)
assert sorted(os.listdir("cut")) == sorted(str(n) for n in range(100))
try:
    run.download_file("nothing/model")
except Exception as error:
    assert type(error).__name__ == "UserError" and "outputs/model" in str(error), error
else:
    raise AssertionError
other = Run(run.experiment, run.id)
assert "outputs/model" in other.get_file_names()
print(hashlib.sha256(data).hexdigest())
"""
    )
    printed = ran(place.script(code, "r"))
    found = files(place, "r")
    assert found["large"].hex() == printed.strip()
    assert found["outputs/model"] == sha256(b"model")
    assert len(found) == 106
    assert not list(place.spool.glob("*/*/files/*.data"))


def test_nothing_waits_for_a_server_and_all_arrives_when_there_is_one(place: Place) -> None:
    code = BEGIN.replace("run_id=sys.argv[1]", "") + (
        """
for n in range(5):
    run.upload_file(f"{n}", io.BytesIO(bytes([n]) * 100_000))
assert run.get_file_names() == [str(n) for n in range(5)]
print(run.id, flush=True)
os._exit(0)  # as if it were killed: nothing is said at the end
"""
    )
    run = ran(place.script(code)).strip()
    place.up()
    wanted = {str(n): sha256(bytes([n]) * 100_000) for n in range(5)}
    wait_for(lambda: files(place, run) == wanted, "the files to arrive")
    wait_for(lambda: not list(place.spool.glob("*/[0-9a-f]*")), "the spool to be removed")


def test_many_files_with_few_descriptors(guest: Place) -> None:
    code = "import resource\nresource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))\n" + BEGIN
    code += """
for n in range(100):
    run.upload_file(f"small/{n}", io.BytesIO(b"%d" % n))
run.complete()
"""
    ran(guest.script(code, "few"))  # its sender has the same limit
    wanted = {f"small/{n}": sha256(b"%d" % n) for n in range(100)}
    wait_for(lambda: files(guest, "few") == wanted, "all files")


@pytest.mark.parametrize("way", ["handover", "grpc"])
def test_a_large_upload_survives_the_deaths_of_all_who_take_part(place: Place, way: str) -> None:
    first = up(place, way)
    port = first.grpc.rpartition(":")[2]
    code = BEGIN + (
        """
data = open("large", "rb").read()
run.upload_file("large", "large")
os.unlink("large")
print("kept", flush=True)
sys.stdin.read()
"""
    )
    block = os.urandom(1 << 20)
    digest = hashlib.sha256()
    with open(place.work / "large", "wb") as file:
        for n in range(300):
            piece = n.to_bytes(8, "little") + block[8:]
            digest.update(piece)
            file.write(piece)
    script = subprocess.Popen(
        [sys.executable, "-c", code, "r"],
        env=place.environment(),
        cwd=place.work,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert script.stdout is not None
    assert script.stdout.readline() == b"kept\n"
    script.kill()  # in the middle of the upload
    script.communicate()
    objects = place.data / "objects" / "sha256"

    def stored() -> set[str]:
        return {path.name for path in objects.glob("*/*")}

    wait_for(lambda: len(stored()) >= 1, "the first chunk")
    os.kill(place.sender(), signal.SIGKILL)  # its supervisor starts another
    wait_for(lambda: len(stored()) >= 2, "the second chunk")
    before = stored()
    first.kill()
    assert "large" not in {path.name for path in objects.glob("*")}
    up(place, way, "--grpc-port", port)
    wait_for(lambda: files(place, "r").get("large") == digest.digest(), "the whole file")
    assert before <= stored()
    assert len(stored()) == 5
    back = ran(
        place.script(
            BEGIN.replace(
                "start_logging(run_id=sys.argv[1])",
                'name; run = Run(Experiment(Workspace.from_config(), "e"), sys.argv[1])',
            )
            + """
run.download_file("large", "back")
print(hashlib.sha256(open("back", "rb").read()).hexdigest())
""",
            "r",
        )
    )
    assert back.strip() == digest.hexdigest()


def test_one_content_of_many_runs_is_stored_once(place: Place) -> None:
    place.up()
    code = """
import io, sys
from runstream import Experiment, Workspace
experiment = Experiment(Workspace.from_config(), "e")
for n in range(50):
    with experiment.start_logging(run_id=f"r{n}", outputs=False) as run:
        run.upload_file("model", io.BytesIO(b"the same" * 10_000))
run.flush()
"""
    ran(place.script(code))
    assert all(files(place, f"r{n}") == {"model": sha256(b"the same" * 10_000)} for n in range(50))
    assert len(list((place.data / "objects" / "sha256").glob("*/*"))) == 1


def test_what_was_logged_elsewhere_is_synced_with_its_files(guest: Place, tmp_path: Path) -> None:
    code = BEGIN + 'run.upload_file("a", io.BytesIO(b"abc" * 1000)); run.log("x", 1.0); run.complete()'
    ran(guest.script(code, "r", RUNSTREAM_MODE="offline"))
    done = guest.runstream("sync", str(guest.spool / "offline"))
    assert done.returncode == 0, done.stderr
    assert files(guest, "r") == {"a": sha256(b"abc" * 1000)}
    again = guest.runstream("sync", str(guest.spool / "offline"))
    assert again.returncode == 0, again.stderr
    client = uploads(guest)
    (artifact,) = client.list("r")
    client.close()
    assert artifact.versions == 1


def test_the_command_line(guest: Place) -> None:
    code = BEGIN + (
        """
run.upload_file("d/a", io.BytesIO(b"abc"))
run.upload_file("d/b", io.BytesIO(b"abcd"))
run.upload_file("c", io.BytesIO(b"x"))
run.complete()
run.flush()
"""
    )
    ran(guest.script(code, "r"))
    own = "--workspace", guest.workspace
    listed = guest.runstream("artifacts", "r", *own, "--json", RUNSTREAM_WORKSPACE="")
    assert listed.returncode == 0, listed.stderr
    found = [json.loads(line) for line in listed.stdout.splitlines()]
    assert [(f["path"], f["size"], f["version"]) for f in found] == [
        ("c", 1, 1),
        ("d/a", 3, 1),
        ("d/b", 4, 1),
    ]
    assert found[1]["sha256"] == sha256(b"abc").hex()
    shown = guest.runstream("artifacts", "r")
    assert "d/a" in shown.stdout
    taken = guest.runstream("download", "r", "d/", *own, "-o", "out", RUNSTREAM_WORKSPACE="")
    assert taken.returncode == 0, taken.stderr
    assert (guest.work / "out/d/b").read_bytes() == b"abcd"
    assert not (guest.work / "out/c").exists()
    assert guest.runstream("download", "r", "nothing").returncode == 4
    assert guest.runstream("artifacts", "unknown").returncode == 4


def test_models(guest: Place) -> None:
    code = BEGIN + (
        """
from runstream.core.model import Model
from runstream.exceptions import ModelNotFoundException, ModelPathNotFoundException, UserErrorException
ws = run.experiment.workspace
open("outputs/model.pkl", "wb").write(b"one")
first = run.register_model("ridge", "./outputs/model.pkl", tags={"alpha": 0.4}, description="d")
run.upload_file("outputs/model.pkl", io.BytesIO(b"two"))
second = run.register_model(model_name="ridge", model_path="outputs/model.pkl", properties={"mse": "1"})
assert (first.name, first.version, second.version) == ("ridge", 1, 2), (first, second)
assert second.id == "ridge:2" and isinstance(second.url, str)
run.upload_file("tree/a/x", io.BytesIO(b"x")); run.upload_file("tree/y", io.BytesIO(b"y"))
tree = run.register_model("tree", "tree/")
run.upload_file("tree/z", io.BytesIO(b"z"))  # too late
run.upload_file("bare", io.BytesIO(b"b"))
assert run.register_model("bare").version == 1
try:
    run.register_model("none", "outputs/nothing.pkl")
except ModelPathNotFoundException as error:
    assert "outputs/model.pkl" in str(error), error
else:
    raise AssertionError
for wrong in "", "x" * 256, 3:
    try:
        run.register_model(wrong, "bare")
    except UserErrorException:
        pass
    else:
        raise AssertionError(wrong)
run.complete()
assert sorted((m.name, m.version) for m in Model.list(ws)) == [
    ("bare", 1), ("ridge", 1), ("ridge", 2), ("tree", 1)]
assert [m.version for m in Model.list(ws, name="ridge")] == [2, 1]
assert [m.version for m in Model.list(ws, tags=["alpha"])] == [1]
assert [m.version for m in Model.list(ws, tags=[["alpha", "0.5"]])] == []
assert [(m.name, m.version) for m in Model.list(ws, latest=True)] == [("bare", 1), ("ridge", 2), ("tree", 1)]
found = Model(ws, "ridge")
assert (found.version, found.run_id, found.properties) == (2, run.id, {"mse": "1"})
assert Model(ws, "ridge", version=1).description == "d"
assert Model(ws, id="ridge:1").tags == {"alpha": "0.4"}
for conditions in {"name": "nothing"}, {"name": "ridge", "version": 3}:
    try:
        Model(ws, **conditions)
    except ModelNotFoundException:
        pass
    else:
        raise AssertionError(conditions)
path = Model(ws, "ridge", version=1).download("one")
assert open(path, "rb").read() == b"one", path
assert open(Model(ws, "ridge").download("two"), "rb").read() == b"two"
try:
    Model(ws, "ridge").download("two")
except UserErrorException:
    pass
else:
    raise AssertionError
folder = tree.download("tree")
assert open(folder + "/a/x", "rb").read() == b"x" and open(folder + "/y", "rb").read() == b"y"
assert not os.path.exists(folder + "/z")
assert found.run.id == run.id
"""
    )
    ran(guest.script(code, "r"))
