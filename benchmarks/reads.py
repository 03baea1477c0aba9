"""How fast a run is read back, and how many short runs a second there can be.

    python -m benchmarks.reads [--rounds 3] [case …]

`get_metrics` is the compatible call (Python lists), `Client.get_metrics` gives columns over HTTP, `gRPC` the
stream's columns put together to NumPy arrays. The limit in the same run: as many rows from the table to Arrow
in the engine alone.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from typing import Final

from benchmarks.machine import describe
from benchmarks.system import Costs, System, spread, system, verdict

# Two columns of values that compress like those of a training.
FILL: Final = """
import numpy as np
run = experiment.start_logging(outputs=False)
say(run=run.id)
count = wait()["points"]
values = np.random.default_rng(1).normal(1, 0.1, 100_000)
for _ in range(count // len(values)):
    run.log_list("loss", values)
run.log("other", 1)
assert len(run.get_metrics("other")) == 1
run.complete()
say(done=True)
wait()
"""

READ: Final = """
import numpy as np
from runstream import home
from runstream.client import Client
run, target, count = Run(experiment, sys.argv[1]), home.resolve_server(), int(sys.argv[2])

def lists():
    return len(run.get_metrics("loss")["loss"])

client = Client(target.http, target.token)
def columns():
    (series,) = client.get_metrics("local", [run.id], ["loss"]).series
    return len(series.doubles)

def grpc_columns():
    import grpc
    from runstream.internal.v1 import twin_pb2
    from runstream.v1 import query_service_pb2 as pb
    channel = grpc.insecure_channel(target.grpc, options=[("grpc.max_receive_message_length", -1)])
    call = channel.unary_stream(
        "/runstream.v1.QueryService/GetMetrics",
        request_serializer=pb.GetMetricsRequest.SerializeToString,
        response_deserializer=twin_pb2.GetMetricsResponse.FromString,
    )
    request = pb.GetMetricsRequest()
    request.selection.metrics.append("loss")
    request.selection.runs.add(workspace="local", run=run.id)
    values, steps = [], []
    for response in call(request, metadata=(("authorization", f"Bearer {target.token}"),)):
        if response.HasField("points"):
            values.append(np.frombuffer(response.points.doubles))
            steps.append(np.frombuffer(response.points.step, "<i8"))
    channel.close()
    np.concatenate(steps)
    return len(np.concatenate(values))

ways = {"get_metrics": lists, "Client.get_metrics": columns, "gRPC": grpc_columns}
say(ready=True)
while (what := wait()) is not None:
    began, cpu = time.perf_counter(), time.process_time()
    found = ways[what["way"]]()
    say(seconds=time.perf_counter() - began, cpu=time.process_time() - cpu, found=found)
"""

SHORT: Final = """
import gc
say(ready=True)
count = wait()["runs"]
began = time.time()
for number in range(count):
    run = experiment.start_logging(outputs=False)
    run.log("alpha", number / count)
    run.log("rmse", 1 / (number + 1))
    run.complete()
logged = time.time() - began
say(seconds=time.time() - began, last=run.id)
wait()
# The last run is there, ended and settled: so are the others.
while Run(experiment, run.id).get_metrics().get("rmse") is None:
    time.sleep(0.01)
say(at=time.time() - began)
"""


# Reads the table to Arrow in the engine alone: what no server can beat.
RAW: Final = """
import json, sys, tempfile, time
import clickhouse_connect
from pathlib import Path
from benchmarks.insert import Rows
from runstream_store.tables import migrate
from runstream_store.tables.clickhouse_client import embedded
count = int(sys.argv[1])
with tempfile.TemporaryDirectory() as folder:
    made = embedded(Path(folder), writes=True)
    migrate.apply(made, migrate.load())
    made.close()
    client, rows = clickhouse_connect.get_client(interface="chdb", path=folder), Rows()
    settings = {"optimize_on_insert": 0, "async_insert": 0}
    for _ in range(count // 500_000):
        client.insert_arrow("points", rows.block(500_000), settings=settings)
    times = []
    for _ in range(4):
        began = time.perf_counter()
        found = client.query_arrow(
            "SELECT value, step FROM points FINAL ORDER BY run, metric, step, writer, seq, idx"
        )
        times.append(time.perf_counter() - began)
        assert found.num_rows == count // 500_000 * 500_000
    print(json.dumps({"raw": count / min(times[1:])}))
    client.close()
"""


def fill(running: System, points: int) -> str:
    """A run that is over, of so many points."""
    script = running.script(FILL)
    run = str(script.answer()["run"])
    script.go(points=points)
    script.answer()
    script.go()
    script.end()
    return run


def read(running: System, points: int, rounds: int, targets: dict[str, float]) -> None:
    """Reads a run in all ways in turn."""
    run = fill(running, points)
    script = running.script(READ, run, points)
    script.answer()
    assert running.server is not None
    found: dict[str, list[tuple[float, float, float]]] = {way: [] for way in targets}
    for _ in range(rounds):
        for way, results in found.items():
            costs = Costs(server=running.server.process.pid)
            script.go(way=way)
            said = script.answer()
            assert said["found"] == points, said
            results.append((points / said["seconds"], said["cpu"], costs.used()["server"]))
    script.end()
    for way, results in found.items():
        rates = [rate for rate, _, _ in results]
        print(
            f"{way:>18}, {points:,} points: {spread(rates)} points/s;"
            f" CPU s per million: reader {statistics.median(r[1] for r in results) / points * 1e6:.2f},"
            f" server {statistics.median(r[2] for r in results) / points * 1e6:.2f};"
            f" {verdict(statistics.median(rates), targets[way])}"
        )


def short_runs(running: System, rounds: int, runs: int) -> None:
    """Runs of two values each, from start_logging to complete, one after the other in one process."""
    logged: list[float] = []
    readable: list[float] = []
    for _ in range(rounds):
        script = running.script(SHORT)
        script.answer()
        script.go(runs=runs)
        logged.append(runs / float(script.answer()["seconds"]))
        script.go()
        readable.append(runs / float(script.answer()["at"]))
        script.end()
    print(
        f"{'short runs':>18}: {spread(logged)} runs/s in the script, {spread(readable)} until the last is"
        f" readable; {verdict(statistics.median(logged), 500)}"
    )


def raw(points: int) -> None:
    """Prints the limit."""
    done = subprocess.run(
        [sys.executable, "-c", RAW, str(points)], capture_output=True, text=True, check=True
    )
    print(
        f"{'limit':>18}: {json.loads(done.stdout)['raw']:,.0f} rows/s from the engine alone to Arrow, ordered"
    )


def measure(rounds: int, wanted: list[str]) -> None:
    with system() as running:
        if not wanted or "1m" in wanted:
            ways = {"get_metrics": 1e6, "Client.get_metrics": 1e6, "gRPC": 5e6}
            read(running, 1_000_000, rounds, ways)
        if not wanted or "10m" in wanted:
            read(running, 10_000_000, rounds, {"Client.get_metrics": 1e6, "gRPC": 5e6})
        if not wanted or "runs" in wanted:
            short_runs(running, rounds, 1_000)
    if not wanted or "raw" in wanted:
        raw(2_000_000)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("case", nargs="*", help="1m, 10m, runs, raw; all by default")
    options = parser.parse_args()
    print(describe())
    measure(options.rounds, options.case)


if __name__ == "__main__":
    main()
