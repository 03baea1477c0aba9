"""Several hosts, as network namespaces: one vanishes, all vanish, they come back, and nothing is missing."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from runstream.client import Client, Selection
from runstream.errors import NotFoundError
from tests.faults.line import PATIENCE_S, Outcome, chance, seeds
from tests.faults.nodes import network, why_not
from tests.server import Place, wait_for

pytestmark = [pytest.mark.faults, pytest.mark.skipif(bool(why_not()), reason=why_not() or "-")]

NODES = 3


@pytest.mark.parametrize("seed", seeds(1, 2))
def test_nodes_vanish_and_return(place: Place, tmp_path: Path, outcomes: list[Outcome], seed: int) -> None:
    random_ = chance(seed, "nodes")
    outcome = Outcome("nodes vanish and return", seed)
    outcomes.append(outcome)
    with network(tmp_path, NODES) as (address, nodes):
        key = place.runstream("keys", "add", "nodes").stdout.split()[-1]
        server = place.up("--host", address)
        folder = tmp_path / "training"
        folder.mkdir()
        ranks: list[subprocess.Popen[bytes]] = []
        job = f"nodes-{os.urandom(6).hex()}"
        for rank, node in enumerate(nodes):
            environment = {
                "RUNSTREAM_SERVER": server.grpc,
                "RUNSTREAM_HTTP_SERVER": server.http,
                "RUNSTREAM_API_KEY": key,
                "RUNSTREAM_LAUNCH_ID": job,
                "RUNSTREAM_SENDER_RETRY_MAX_S": "1",
                "RUNSTREAM_SENDER_ANSWER_TIMEOUT_S": "3",
                "RANK": str(rank),
                "LOCAL_RANK": "0",
                "WORLD_SIZE": str(NODES),
            }
            training = ["-m", "tests.faults.training", str(folder), "0.1"]
            ranks.append(node.start(training, environment))
        try:
            run = _run_of(folder)
            with Client(server.http, server.token) as client:

                def responding() -> dict[str, bool]:
                    try:
                        writers = client.get_run("local", run).writers
                    except NotFoundError:  # nothing has come yet
                        return {}
                    return {one.started.host: one.responding for one in writers}

                def status() -> int:
                    return int(client.get_run("local", run).status)

                names = [node.name for node in nodes]
                wait_for(lambda: responding() == dict.fromkeys(names, True), "three nodes", PATIENCE_S)
                first, *others = random_.sample(nodes, NODES)
                first.vanish()
                at_the_cut = _logged(folder, nodes.index(first))
                wait_for(lambda: not responding()[first.name], "one to be missed", PATIENCE_S)
                assert status() == 5  # the run goes on: others log
                assert sum(responding().values()) == NODES - 1
                for node in others:
                    node.vanish()
                os.kill(first.place.sender(), signal.SIGKILL)  # it is started again, and sends what it finds
                wait_for(lambda: status() == 6, "NotResponding", PATIENCE_S)
                began = time.monotonic()
                for node in nodes:
                    node.return_()
                wait_for(lambda: status() == 5, "Running again", PATIENCE_S)
                outcome.recovery_s.append(time.monotonic() - began)
                wait_for(lambda: responding() == dict.fromkeys(names, True), "all nodes", PATIENCE_S)
                (folder / "stop").touch()
                for process in ranks:
                    assert process.wait(PATIENCE_S) == 0
                done = place.runstream("verify", run, "--json", "--timeout", "120")
                found = json.loads(done.stdout)
                assert (found["state"], len(found["writers"])) == ("proven", NODES), found
                series = client.get_metrics("local", [run], Selection(), identity=True).series
                by_name = {one.metric: one for one in series}
                for rank in range(NODES):
                    truth = json.loads((folder / f"logged-{rank}").read_text())
                    if nodes[rank] is first:
                        assert truth["scalars"] > at_the_cut  # it went on without a network
                    scalars, lists = by_name[f"scalar-{rank}"], by_name.get(f"list-{rank}")
                    assert scalars.values() == [float(n) for n in range(truth["scalars"])]
                    wanted = [v for n in range(truth["lists"]) for v in (float(n), n + 0.5, math.nan)]
                    assert repr(lists.values() if lists else []) == repr(wanted)
                    outcome.elements += len(scalars) + len(wanted)
            outcome.note = f"{first.name} first, then the others"
            print(outcome)
        finally:
            for process in ranks:
                process.kill()
                process.wait()


def _run_of(folder: Path) -> str:
    paths = [folder / f"run-{rank}" for rank in range(NODES)]
    wait_for(lambda: all(path.exists() for path in paths), "the ranks to log", PATIENCE_S)
    (run,) = {path.read_text() for path in paths}
    return run


def _logged(folder: Path, rank: int) -> int:
    return int((folder / f"progress-{rank}").read_text() or 0)
