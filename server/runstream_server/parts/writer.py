"""The writers: they bring the event log into the tables, one for each topic, and derive what follows."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

from prometheus_client import REGISTRY

from runstream_ingest.writers.artifacts import ArtifactsSink
from runstream_ingest.writers.logs import LogsSink
from runstream_ingest.writers.loop import WriterLoop
from runstream_ingest.writers.points import PointsSink
from runstream_ingest.writers.runs import RunsSink
from runstream_ingest.writers.sink import Sink
from runstream_query.summariser import Summariser
from runstream_server.drain import cancel
from runstream_server.engines import Engines
from runstream_server.figures import Figures, writer_figures


def _sinks() -> tuple[Sink[Any], ...]:
    """A sink for each topic. New ones go here."""
    return (
        PointsSink(),
        RunsSink(),
        ArtifactsSink(),
        LogsSink(),
    )


class WriterPart:
    """The writers of this process, running."""

    def __init__(self, engines: Engines, closing: AsyncExitStack) -> None:
        """Starts them; `closing` ends them in their order."""
        self.tasks: list[asyncio.Task[None]] = []
        self.consumers: list[tuple[str, str]] = []
        """Consumer and topic of each."""
        self._loops: dict[str, WriterLoop[Any]] = {}
        summariser = Summariser(engines.tables, engines.hot)
        summarising = asyncio.create_task(summariser.run(), name="summaries")
        self.tasks.append(summarising)
        closing.push_async_callback(cancel, summarising)  # after the writers, which wait for it
        for sink in _sinks():
            writer = self._loops[sink.topic] = WriterLoop(
                engines.log, engines.tables, engines.hot, sink, derived=summariser
            )
            task = asyncio.create_task(writer.run(), name=f"writer-{sink.topic}")
            self.tasks.append(task)
            closing.push_async_callback(_stop, writer, task)
            self.consumers.append((sink.consumer, sink.topic))
        Figures(writer_figures({topic: writer.stats for topic, writer in self._loops.items()}), REGISTRY)

    @property
    def rows(self) -> int:
        """Inserted so far."""
        return sum(writer.stats.rows for writer in self._loops.values())

    def wrong(self) -> str:
        """What keeps them from their work; empty when nothing does."""
        return "; ".join(f"{topic}: {w.stats.paused}" for topic, w in self._loops.items() if w.stats.paused)


async def _stop(writer: WriterLoop[Any], task: asyncio.Task[None]) -> None:
    writer.stop()
    await asyncio.wait([task])
