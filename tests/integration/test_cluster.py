"""The services as processes on real engines: one server to whoever uses it, whichever process dies."""

from __future__ import annotations

import json
import re
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from deploy.cluster import Cluster
from deploy.engines.kafka import Kafka
from deploy.engines.process import EngineFailed, EngineMissing
from runstream.client import Client
from runstream.v1 import ingest_service_pb2, ingest_service_pb2_grpc
from tests.server import Place, wait_for

pytestmark = pytest.mark.engine

SCRIPT = """
import sys, time
from runstream import Experiment, Workspace
run = Experiment(Workspace.from_config(), "line").start_logging()
print(run.id, flush=True)
for part in range(20):
    for number in range(part * 1_000, part * 1_000 + 1_000):
        run.log("loss", number / 7, step=number)
    time.sleep(float(sys.argv[1]))
run.complete()
"""

READ = """
import json, sys
from runstream import Experiment, Run, Workspace
run = Run(Experiment(Workspace.from_config(), "line"), sys.argv[1])
same = run.get_metrics()["loss"] == [number / 7 for number in range(20_000)]
print(json.dumps([run.get_status(), same, run.get_portal_url()]))
"""

STATUS = """
import sys
from runstream import Experiment, Run, Workspace
print(Run(Experiment(Workspace.from_config(), "line"), sys.argv[1]).get_status())
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    try:
        made = Cluster(tmp_path_factory.mktemp("cluster"), ingests=2, writers=2, log_options="partitions=4")
    except EngineMissing as missing:
        pytest.skip(str(missing))
    made.start()
    yield made
    made.stop()


def read(place: Place, cluster: Cluster, run_id: str) -> list[object]:
    done = place.script(READ, run_id, **cluster.client())
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert isinstance(found, list)
    return found


def found_by_summary(cluster: Cluster) -> list[str]:
    with Client(cluster.http[0], cluster.token) as client:
        found = client.search_runs("local", ["line"], filter="metrics.loss.count = 20000")
        return [run.ref.run for run in found]


def test_one_server_to_its_clients(cluster: Cluster) -> None:
    """Senders may arrive at any ingest process, and are told the same: whose data, and where to read."""
    told = []
    for address in cluster.grpc:
        with grpc.insecure_channel(address) as channel:
            stub = ingest_service_pb2_grpc.IngestServiceStub(channel)
            metadata = (("authorization", f"Bearer {cluster.token}"),)
            (answer,) = stub.Publish(
                iter([ingest_service_pb2.PublishRequest()]), metadata=metadata, timeout=60
            )
            told.append(answer.server)
            with pytest.raises(grpc.RpcError, match="UNAUTHENTICATED"):
                list(stub.Publish(iter([]), timeout=60))
    assert len(told[0].server_id) == 16
    assert [(one.server_id, one.http_url) for one in told] == [(told[0].server_id, cluster.http[0])] * 2


def test_figures_and_health_of_each_service(place: Place, cluster: Cluster) -> None:
    figures = {"ingest": "runstream_ingest_records_total", "writer": "runstream_writer_rows_total"}
    for role, services in cluster.services.items():
        for service in services:
            address = re.search(r"HTTP +(http://\S+)", service.log.read_text())
            assert address is not None
            asked = place.runstream("health", "--http-port", address[1].rpartition(":")[2])
            assert (asked.returncode, asked.stdout) == (0, "ok\n"), asked.stderr
            with urllib.request.urlopen(f"{address[1]}/metrics", timeout=60) as answer:
                shown = answer.read().decode()
            assert [name for name, figure in figures.items() if figure in shown] == [role] * (role in figures)


def test_services_die_while_a_script_logs(place: Place, cluster: Cluster) -> None:
    """`kill -9` of writers, an ingest process, the tables' endpoint and Redis while points come."""

    def trouble() -> None:
        victims = [*cluster.services["writer"], cluster.services["ingest"][0]]
        cluster.clickhouse.engine.kill()
        for victim in victims:
            victim.kill()
            victim.spawn()
        cluster.redis.engine.kill()
        cluster.redis.start()
        cluster.clickhouse.start()
        for victim in victims:
            victim.wait()

    troubled = threading.Thread(target=trouble)
    troubled.start()
    done = place.script(SCRIPT, "0.5", **cluster.client())
    troubled.join()
    assert done.returncode == 0, done.stderr
    run_id = done.stdout.strip()
    wait_for(
        lambda: place.script(STATUS, run_id, **cluster.client()).stdout.strip() == "Completed",
        "the end of the run to arrive",
    )
    assert read(place, cluster, run_id)[:2] == ["Completed", True]
    wait_for(lambda: run_id in found_by_summary(cluster), "the run to be summarised")


def test_all_ends_when_asked_and_goes_on(place: Place, cluster: Cluster) -> None:
    done = place.script(SCRIPT, "0", **cluster.client())
    assert done.returncode == 0, done.stderr
    run_id = done.stdout.splitlines()[0]
    for services in cluster.services.values():
        for service in services:
            assert service.stop() == 0, service.last_words()
    cluster.services["query"][0].start()  # which is all that a reader needs
    status, same, link = read(place, cluster, run_id)
    assert (status, same) == ("Completed", True)
    assert run_id in found_by_summary(cluster)  # made before the writers ended
    assert str(link).startswith(f"{cluster.http[0]}/")
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    with browser.open(cluster.login, timeout=60) as answer:
        assert answer.status == 200


def test_data_of_another_number_of_brokers_are_refused(tmp_path: Path) -> None:
    """Their topics would have no leader, which nobody would understand."""
    try:
        kafka = Kafka(tmp_path)
    except EngineMissing as missing:
        pytest.skip(str(missing))
    for number in (1, 2, 3):
        data = tmp_path / f"broker-{number}" / "data"
        data.mkdir(parents=True)
        (data / "meta.properties").touch()
    with pytest.raises(EngineFailed, match=r"has the data of 3 broker\(s\), and 1 are to start"):
        kafka.start()


def test_a_query_service_waits_for_a_writer(cluster: Cluster, tmp_path: Path) -> None:
    """It changes nothing in the tables by itself, and says what it waits for."""
    other = Cluster.__new__(Cluster)
    other.__dict__.update(cluster.__dict__)
    other.folder = tmp_path
    other.settings = {**cluster.settings, "RUNSTREAM_TABLES_URL": f"{cluster.clickhouse.url}/later"}
    query = other._service("query", 1, 0, 0)
    query.spawn()
    wait_for(lambda: "waiting for a writer" in query.last_words(), "the query service to wait")
    writer = other._service("writer", 1, 0, 0)
    writer.spawn()
    wait_for(lambda: "HTTP  http://" in query.last_words(), "the query service to listen")
    assert query.stop() == 0
    assert writer.stop() == 0
