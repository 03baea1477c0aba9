"""From `run.log` to `get_metrics` with Kafka and Redis between."""

from __future__ import annotations

import json
import os

import pytest
from redis import Redis as Client

from deploy.engines.kafka import Kafka
from deploy.engines.redis import Redis
from tests.contract.engines import delete_topics
from tests.server import Place

pytestmark = pytest.mark.engine

SCRIPT = """
import json
from runstream import Experiment, Workspace
run = Experiment(Workspace.from_config(), "line").start_logging()
for number in range(20_000):
    run.log("loss", number / 7, step=number)
values = run.get_metrics()["loss"]
print(json.dumps([run.id, len(values), values == [number / 7 for number in range(20_000)]]))
run.complete()
"""

READ = """
import json, sys
from runstream import Experiment, Run, Workspace
run = Run(Experiment(Workspace.from_config(), "line"), sys.argv[1])
print(json.dumps([run.get_status(), len(run.get_metrics()["loss"])]))
"""


async def test_the_line_on_kafka_and_redis(place: Place, kafka_server: Kafka, redis_server: Redis) -> None:
    prefix = f"test-{os.urandom(8).hex()}"
    log_url = f"{kafka_server.url}/{prefix}?replication=1&partitions=3"
    hot_url = f"{redis_server.url}/0?prefix={prefix}"
    engines = {"RUNSTREAM_LOG_URL": log_url, "RUNSTREAM_HOT_URL": hot_url}
    server = place.up(**engines)
    done = place.script(SCRIPT)
    assert done.returncode == 0, done.stderr
    run_id, count, same = json.loads(done.stdout.splitlines()[-1])
    assert (count, same) == (20_000, True)

    with Client.from_url(redis_server.url) as client:
        assert client.exists(f"{prefix}:applied:points")
        client.flushall()
    read = place.script(READ, run_id)
    assert read.returncode == 0, read.stderr
    assert json.loads(read.stdout) == ["Completed", 20_000]

    server.stop()
    place.up(**engines)  # goes on where it was
    read = place.script(READ, run_id)
    assert read.returncode == 0, read.stderr
    assert json.loads(read.stdout) == ["Completed", 20_000]
    await delete_topics(log_url)
