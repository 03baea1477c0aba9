"""One of three brokers, the leader of partitions, goes for good: what was acknowledged is on the others."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from deploy.cluster import Cluster
from deploy.engines.kafka import Kafka
from deploy.engines.process import EngineMissing
from runstream_store.log import open_log
from tests.engines import running
from tests.faults.line import Line, Outcome, chance, long, seeds
from tests.faults.test_kafka_faults import LONG_S, Load, check, everything, opened

pytestmark = [pytest.mark.faults, pytest.mark.engine]


async def leader_of(kafka: Kafka, topic: str, partition: int) -> int:
    """Number of the broker that leads a partition, from 0."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.servers)
    await admin.start()
    try:
        (described,) = await admin.describe_topics([topic])
        return int(next(p["leader"] for p in described["partitions"] if p["partition"] == partition)) - 1
    finally:
        await admin.close()


@pytest.fixture
def three(tmp_path: Path) -> Iterator[Line]:
    """Three brokers, one of each service."""
    try:
        cluster = Cluster(tmp_path / "cluster", brokers=3, log_options="partitions=4&session_timeout_ms=6000")
    except EngineMissing as missing:
        if os.environ.get("RUNSTREAM_REQUIRE_ENGINES"):
            raise
        pytest.skip(str(missing))
    cluster.start()
    line = Line(cluster, tmp_path)
    try:
        yield line
    finally:
        line.close()
        cluster.stop()


if long():

    @pytest.mark.parametrize("seed", seeds(1, 2, 3))
    def test_a_leader_is_lost_for_good_under_the_whole_line(
        three: Line, outcomes: list[Outcome], seed: int
    ) -> None:
        random_ = chance(seed, "loss of a broker")
        outcome = Outcome("one of three brokers lost for good", seed)
        outcomes.append(outcome)
        kafka = three.cluster.kafka
        with three.training(outcome, pace_s=0.05) as training:
            time.sleep(2 + random_.random())
            partitions = asyncio.run(_partitions(three))
            lost = asyncio.run(leader_of(kafka, "runstream.points", random_.randrange(partitions)))
            with training.recovering():
                kafka.engines[lost].kill()
            time.sleep(5 * random_.random())
        outcome.note = f"broker {lost + 1}"

else:

    @pytest.mark.parametrize("seed", seeds(1))
    async def test_a_leader_is_lost_for_good_under_appenders(
        tmp_path: Path, outcomes: list[Outcome], seed: int
    ) -> None:
        random_ = chance(seed, "loss of a broker")
        with running(lambda: Kafka(tmp_path, brokers=3)) as kafka:
            url = f"{kafka.url}/lost?replication=3&partitions=3"
            async with opened(url) as log:
                load = Load(log)
                await load.grow(random_.randrange(2, 10))
                lost = await leader_of(kafka, "lost.points", random_.randrange(3))
                kafka.engines[lost].kill()
                began = time.monotonic()
                await load.grow(1)  # of each appender, so of each partition
                recovery_s = time.monotonic() - began
                await load.grow(3)
                await load.stop()
                async with asyncio.timeout(LONG_S):
                    found = await everything(log)
            check(load, found)
            outcome = Outcome("one of three brokers lost for good (log only)", seed, len(load.acknowledged))
            outcome.recovery_s.append(recovery_s)
            outcome.note = (
                f"broker {lost + 1}; {len(found)} records stored of {len(load.acknowledged)} acknowledged"
            )
            outcomes.append(outcome)
            print(outcome)


async def _partitions(line: Line) -> int:
    log = await open_log(line.cluster.settings["RUNSTREAM_LOG_URL"])
    try:
        return await log.partitions("points")
    finally:
        await log.close()
