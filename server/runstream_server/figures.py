"""The figures at /metrics: tables, read when somebody asks, so that counting costs nothing in between."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

if TYPE_CHECKING:  # each process has one of these
    from runstream_ingest.chunk_service import ChunkStats
    from runstream_ingest.service import IngestStats
    from runstream_ingest.writers.loop import WriterStats


@dataclass(frozen=True, slots=True)
class Figure:
    """One row of the table. Its name is prefixed with `runstream_`."""

    name: str
    meaning: str
    read: Callable[[], Mapping[str, float]]
    """Value by the value of the label; without a label by the empty text."""
    label: str = ""
    rises: bool = True
    """A counter; else a gauge."""


def ingest_figures(stats: IngestStats, files: ChunkStats) -> tuple[Figure, ...]:
    """Of an ingest service."""

    def one(name: str, of: IngestStats | ChunkStats = stats) -> Callable[[], Mapping[str, float]]:
        return lambda: {"": float(getattr(of, name))}

    return (
        Figure("ingest_streams", "Open streams of senders.", one("streams"), rises=False),
        Figure("ingest_requests", "Requests of senders.", one("requests")),
        Figure("ingest_bytes", "Bytes of all requests.", one("bytes")),
        Figure("ingest_records", "Records that were acknowledged: durable in the event log.", one("records")),
        Figure("ingest_refused", "Records that were refused for good.", one("refused")),
        Figure("ingest_postponed", "Records that senders were asked to send again.", one("postponed")),
        Figure("chunk_streams", "Open streams of files.", one("streams", files), rises=False),
        Figure("chunks_stored", "Chunks of files that came and are stored.", one("chunks", files)),
        Figure("chunk_bytes", "Bytes of them.", one("bytes", files)),
        Figure("chunks_refused", "Chunks of files that were refused.", one("refused", files)),
    )


def writer_figures(writers: Mapping[str, WriterStats]) -> tuple[Figure, ...]:
    """Of writers, by topic."""

    def each(name: str) -> Callable[[], Mapping[str, float]]:
        return lambda: {topic: _number(getattr(stats, name)) for topic, stats in writers.items()}

    return (
        Figure("writer_records", "Records that were brought into the tables.", each("records"), "topic"),
        Figure("writer_rows", "Rows that were inserted.", each("rows"), "topic"),
        Figure("writer_blocks", "Inserts.", each("blocks"), "topic"),
        Figure("writer_dead_letters", "Records that could not be stored.", each("dead_letters"), "topic"),
        Figure("writer_lost", "Records that had expired before they were read.", each("lost"), "topic"),
        Figure(
            "writer_failures", "Reads and inserts that failed and were repeated.", each("failures"), "topic"
        ),
        Figure(
            "writer_paused",
            "1 while nothing moves because of failures.",
            each("paused"),
            "topic",
            rises=False,
        ),
    )


def _number(value: float | str) -> float:
    return float(bool(value)) if isinstance(value, str) else float(value)


class Figures(Collector):
    """The table, for a registry."""

    def __init__(self, table: Sequence[Figure], registry: CollectorRegistry) -> None:
        """Registers itself."""
        self._table = table
        registry.register(self)

    def collect(self) -> Iterable[Metric]:
        """All figures now."""
        for figure in self._table:
            make = CounterMetricFamily if figure.rises else GaugeMetricFamily
            labels = [figure.label] if figure.label else []
            metric = make(f"runstream_{figure.name}", figure.meaning, labels=labels)
            for labelled, value in figure.read().items():
                metric.add_metric([labelled] if figure.label else [], value)
            yield metric
