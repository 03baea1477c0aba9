"""Ingest and the writers over real engines in this process: for tests without sender and query service."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pyarrow as pa

from runstream.v1 import ingest_service_pb2, ingest_service_pb2_grpc, point_pb2
from runstream_ingest.service import GRPC_OPTIONS, IngestServicer, IngestSettings, add_ingest_service
from runstream_ingest.writers.dead_letter import DeadLetterLimit
from runstream_ingest.writers.loop import WriterLoop, WriterSettings
from runstream_ingest.writers.points import PointsSink
from runstream_ingest.writers.runs import RunsSink
from runstream_store.credentials import Authenticator, KeyFile
from runstream_store.hot import HotState, open_hot
from runstream_store.log import EventLog, open_log
from runstream_store.tables import Tables, open_tables
from tests.tables import KeptTables, kept

if TYPE_CHECKING:
    from runstream.v1.ingest_service_pb2_grpc import IngestServiceAsyncStub

TOKEN = "token-of-the-tests"
METADATA = (("authorization", f"Bearer {TOKEN}"),)
PATIENCE_S = 60.0


async def until(condition: Callable[[], Awaitable[Any]], what: str) -> Any:
    """The first true value of a condition."""
    deadline = time.monotonic() + PATIENCE_S
    while not (value := await condition()):
        assert time.monotonic() < deadline, f"waited {PATIENCE_S:.0f} s for {what}"
        await asyncio.sleep(0.02)
    return value


class Pipeline:
    """One server's engines, ingest service and writers."""

    def __init__(self, log: EventLog, tables: Tables, hot: HotState, keys: KeyFile) -> None:
        self.log = log
        self.tables = tables
        self.hot = hot
        self.settings = WriterSettings(trim=False, least_pause_s=0.01, greatest_pause_s=0.1)
        self.ingest_settings = IngestSettings(
            version="1.2.3", http_url="http://127.0.0.1:1", server_id=bytes(16), failure_pause_s=0.01
        )
        self.keys = keys
        self.sinks: list[PointsSink | RunsSink] = [PointsSink(), RunsSink()]
        self.limit: DeadLetterLimit | None = None
        self.address = ""
        self.loops: list[WriterLoop[Any]] = []
        self.tasks: list[asyncio.Task[None]] = []

    async def serve(self) -> None:
        """Starts the ingest service on a free port."""
        auth = Authenticator(TOKEN, self.keys)
        self.servicer = IngestServicer(self.log, auth, self.ingest_settings, self.hot)
        self.server = grpc.aio.server(options=GRPC_OPTIONS)
        add_ingest_service(self.server, self.servicer)
        port = self.server.add_insecure_port("127.0.0.1:0")
        await self.server.start()
        self.address = f"127.0.0.1:{port}"
        self.channel = grpc.aio.insecure_channel(self.address)
        stub: Any = ingest_service_pb2_grpc.IngestServiceStub(self.channel)
        self.stub: IngestServiceAsyncStub = stub

    def write(self) -> None:
        """Starts the writers."""
        for sink in self.sinks:
            loop: WriterLoop[Any] = WriterLoop(
                self.log, self.tables, self.hot, sink, self.settings, limit=self.limit
            )
            self.loops.append(loop)
            self.tasks.append(asyncio.create_task(loop.run()))

    async def stop_writers(self) -> None:
        """Stops them as a server does that shuts down."""
        for loop in self.loops:
            loop.stop()
        await asyncio.gather(*self.tasks)
        self.loops.clear()
        self.tasks.clear()

    async def close(self) -> None:
        if self.address:
            await self.channel.close()
            await self.servicer.drain()
            await self.server.stop(1)
            await self.servicer.close()
        await self.stop_writers()
        await self.tables.close()
        await self.hot.close()
        await self.log.close()

    async def publish(
        self, *records: ingest_service_pb2.PublishRecord, **more: Any
    ) -> ingest_service_pb2.PublishResponse:
        """Sends one request on a stream of its own."""
        call = self.stub.Publish(metadata=METADATA)
        await call.write(ingest_service_pb2.PublishRequest(request_id=1, records=records, **more))
        response = await call.read()
        assert isinstance(response, ingest_service_pb2.PublishResponse)
        await call.done_writing()
        assert await call.read() == grpc.aio.EOF
        return response

    async def publish_points(self, *batches: point_pb2.PointBatch) -> ingest_service_pb2.PublishResponse:
        """Sends batches, which must be taken, in one request."""
        response = await self.publish(*(ingest_service_pb2.PublishRecord(points=batch) for batch in batches))
        assert not response.errors, response
        return response

    async def applied(self, response: ingest_service_pb2.PublishResponse, *, consumer: str = "{}") -> None:
        """Waits until what a response acknowledges is in the tables."""
        for position in response.positions:

            async def there(position: Any = position) -> bool:
                name = consumer.format(position.topic)
                offset = await self.hot.applied(name, position.topic, position.partition, position.epoch)
                return offset is not None and offset >= position.offset

            await until(there, f"{position.topic} {position.offset}")

    async def rows(self, table: str, *, order: str = "all") -> list[dict[str, Any]]:
        """All rows of a table, each identity once."""
        found = await self.tables.query(f"SELECT * FROM {table} FINAL ORDER BY {order}")
        for at, field in enumerate(found.schema):
            if pa.types.is_timestamp(field.type):
                found = found.set_column(at, field.name, found.column(at).cast(pa.int64()))
            elif field.name == "event":  # comes as text, and is none
                found = found.set_column(at, field.name, found.column(at).cast(pa.binary()))
        rows: list[dict[str, Any]] = found.to_pylist()
        return rows


_kept: list[KeptTables] = []


@contextmanager
def with_kept_tables(folder: Path) -> Iterator[None]:
    """Meanwhile all pipelines have the same tables, which are empty for each new folder."""
    with kept(folder) as found:
        _kept.append(found)
        yield
        _kept.remove(found)


async def open_pipeline(folder: Path) -> Pipeline:
    """The engines; nothing serves or writes yet."""
    if _kept:
        tables = await _kept[0].open(folder)
    else:
        tables = await open_tables(f"chdb://{folder}/tables")
        await tables.migrate()
    log = await open_log(f"sqlite://{folder}/log.sqlite")
    return Pipeline(log, tables, await open_hot("memory://"), KeyFile(folder / "keys.json"))


@asynccontextmanager
async def pipeline(
    folder: Path, change: Callable[[Pipeline], None] | None = None, *, write: bool = True
) -> AsyncIterator[Pipeline]:
    """A whole pipeline.

    :param change: is called before anything starts.
    :param write: start the writers.
    """
    made = await open_pipeline(folder)
    try:
        if change is not None:
            change(made)
        await made.serve()
        if write:
            made.write()
        yield made
    finally:
        await made.close()


def as_records(batches: Sequence[point_pb2.PointBatch]) -> list[ingest_service_pb2.PublishRecord]:
    return [ingest_service_pb2.PublishRecord(points=batch) for batch in batches]
