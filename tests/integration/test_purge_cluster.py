"""Removing for good on servers' engines: by identity, through kills, by two at once, and when Kafka's topics
are read again from their beginning."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit

import pytest
from clickhouse_connect import get_client

from deploy.cluster import Cluster
from deploy.engines.process import EngineMissing
from runstream_query.purger import Purger, PurgeSettings
from runstream_server.drain import wait_in_tables
from runstream_store.log import open_log
from runstream_store.objects import open_objects
from runstream_store.objects.obstore import BucketObjects
from runstream_store.tables import open_tables
from tests.purging import GONE, KEPT, LARGE, LATE, LOG, READ, Purge, check_rows, rows
from tests.server import PATIENCE_S, Place, wait_for
from tests.uploading import Uploads, parts

pytestmark = pytest.mark.engine

TOPICS = ("points", "runs", "artifacts", "logs")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    try:
        made = Cluster(
            tmp_path_factory.mktemp("cluster"),
            log_options="partitions=2",
            settings={"RUNSTREAM_PURGE_AFTER_DAYS": "never"},
        )
    except EngineMissing as missing:
        pytest.skip(str(missing))
    made.start()
    yield made
    made.stop()


def stored(cluster: Cluster, folder: str = "sha256") -> set[str]:
    async def names() -> set[str]:
        bucket = BucketObjects.open(cluster.s3.url)
        try:
            return {found["path"].rpartition("/")[2] async for found in bucket._list(folder)}
        finally:
            await bucket.close()

    return asyncio.run(names())


def applied(cluster: Cluster) -> bool:
    """Whether the tables hold all that the log holds."""

    async def ask() -> bool:
        log = await open_log(cluster.settings["RUNSTREAM_LOG_URL"])
        tables = await open_tables(cluster.settings["RUNSTREAM_TABLES_URL"])
        try:
            return await wait_in_tables(log, tables, [(topic, topic) for topic in TOPICS], 0.0)
        finally:
            await tables.close()
            await log.close()

    return asyncio.run(ask())


def truncate(cluster: Cluster, tables: Sequence[str] = ()) -> None:
    """Empties tables; without names all that the writers fill."""
    url = urlsplit(cluster.settings["RUNSTREAM_TABLES_URL"])
    client = get_client(host=url.hostname, port=url.port, database=url.path.strip("/"))
    try:
        found = tables or [row[0] for row in client.query("SHOW TABLES").result_rows]
        for table in sorted(found):  # `applied` before most
            if table != "schema_migrations":
                client.command(f"TRUNCATE TABLE {table}")
    finally:
        client.close()


def purge(cluster: Cluster, kill: str = "", leaving_s: float = 0.0) -> Purge:
    """Of what nobody has touched for a second."""
    tables = cluster.settings["RUNSTREAM_TABLES_URL"]
    return Purge(tables, cluster.s3.url, 0.0, untouched_s=1.0, leaving_s=leaving_s, kill=kill)


def remove_rows(cluster: Cluster, objects_url: str) -> None:
    """A query service's task goes on until no rows of what was deleted are left."""

    async def remove() -> None:
        tables = await open_tables(cluster.settings["RUNSTREAM_TABLES_URL"])
        objects = await open_objects(objects_url)

        async def applied(_: float) -> bool:
            return True

        settings = PurgeSettings(after_s=0.0, first_s=0.0, untouched_s=0.0)
        purging = asyncio.create_task(Purger(tables, objects, settings, applied).run())
        try:
            async with asyncio.timeout(PATIENCE_S):
                sql = "SELECT 1 FROM points WHERE run = 'deleted' LIMIT 1"
                while (await tables.query(sql)).num_rows:  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
            assert not purging.done()
        finally:
            purging.cancel()
            await asyncio.wait([purging])
            await objects.close()
            await tables.close()

    asyncio.run(remove())


def check_reads(place: Place, cluster: Cluster) -> None:
    read = place.script(READ, hashlib.sha256(LARGE + b"a").hexdigest(), **cluster.client())
    assert read.returncode == 0, read.stderr


def test_what_was_deleted_is_removed_and_stays_away(place: Place, cluster: Cluster) -> None:
    done = place.script(LOG, **cluster.client())
    assert done.returncode == 0, done.stderr
    client = Uploads(cluster.grpc[0], cluster.token)
    client.put(list(parts(b"orphan")))
    client.close()
    place.end_sender()
    wait_for(lambda: applied(cluster), "all to be applied")
    assert stored(cluster) == KEPT | GONE
    before = rows(cluster.settings["RUNSTREAM_TABLES_URL"])
    assert set(before["points"]) >= {"kept", "deleted", "modelled"}
    time.sleep(2.1)  # the storage tells times in whole seconds

    for step in "remove:3", "drop:1":
        purge(cluster, step).wait()
        assert stored(cluster) >= KEPT
    assert stored(cluster) != KEPT
    found = [one.wait() for one in [purge(cluster, leaving_s=60.0), purge(cluster, leaving_s=60.0)]]
    assert [len(rounds) for rounds in found] == [3, 3]
    assert stored(cluster) == KEPT
    check_rows(before, rows(cluster.settings["RUNSTREAM_TABLES_URL"]))
    assert stored(cluster, "leaving")  # of those that were killed
    purge(cluster).wait()
    assert stored(cluster, "leaving") == set()

    done = place.script(LATE, **cluster.client())
    assert done.returncode == 0, done.stderr
    place.end_sender()
    wait_for(lambda: applied(cluster), "all to be applied")
    before = rows(cluster.settings["RUNSTREAM_TABLES_URL"])  # the sender has said more of the others, too
    (writer,) = cluster.services["writer"]
    for emptied in ["applied"], []:
        assert writer.stop() == 0
        truncate(cluster, emptied)
        assert not applied(cluster)  # whatever Redis still knows
        if not emptied:
            assert [one["removed"] for one in purge(cluster).wait()] == [0, 0, 0]
            assert stored(cluster) == KEPT
        cluster.redis.engine.kill()
        cluster.redis.start()
        writer.start()
        wait_for(lambda: applied(cluster), "the topics to be read again")
        assert "deleted" in rows(cluster.settings["RUNSTREAM_TABLES_URL"])["points"]
        if not emptied:
            check_reads(place, cluster)  # it is hidden all the same
        assert "deleted" in str(purge(cluster).wait()[0]["runs"])
        assert stored(cluster) == KEPT
        check_rows(before, rows(cluster.settings["RUNSTREAM_TABLES_URL"]), again=True)

    done = place.script(LATE, **cluster.client())
    assert done.returncode == 0, done.stderr
    wait_for(lambda: applied(cluster), "all to be applied")
    assert "deleted" in rows(cluster.settings["RUNSTREAM_TABLES_URL"])["points"]
    remove_rows(cluster, cluster.s3.url.replace("secret_access_key=", "secret_access_key=not-"))
    assert stored(cluster) == KEPT
