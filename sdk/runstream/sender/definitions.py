"""What the indexes in a writer's slots mean: its runs and series, as `names.records` defines them."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from runstream.digest import U64, factor
from runstream.internal.v1 import twin_pb2
from runstream.spool import layout
from runstream.spool.records import RecordFile
from runstream.v1 import point_pb2


@dataclass(frozen=True, slots=True)
class RunDefinition:
    """A run that the writer logs to."""

    index: int
    workspace: str
    run: str
    experiment: str
    role: str
    launch: str
    restart: int
    time_ns: int


class Definitions:
    """Runs and series of a writer by index, also in the bytes that batches carry."""

    def __init__(self, writer: bytes, rank: int | None, names: Path | None = None) -> None:
        self.writer = writer
        self.rank = rank
        self.runs: dict[int, RunDefinition] = {}
        self._run_bytes: dict[int, bytes] = {}
        self._series: dict[int, bytes] = {}
        self._factors: U64 = np.zeros(64, np.uint64)  # by series index
        self._new: list[RunDefinition] = []
        self._file = RecordFile(names, writer) if names else None

    def undefined(self, runs: list[int], series: list[int]) -> tuple[list[int], list[int]]:
        """Those of these runs and series that are not defined."""
        missing = self._missing(runs, series)
        if any(missing):
            self._read()
            missing = self._missing(runs, series)
        return missing

    def _missing(self, runs: list[int], series: list[int]) -> tuple[list[int], list[int]]:
        return (
            [index for index in runs if index not in self._run_bytes],
            [index for index in series if index not in self._series],
        )

    def dictionaries(self, runs: list[int], series: list[int]) -> Iterator[bytes]:
        """Parts of a PointBatch, each with one of these runs and series. All are defined."""
        yield from map(self._run_bytes.__getitem__, runs)
        yield from map(self._series.__getitem__, series)

    def add_run_bytes(self, index: int, data: bytes) -> None:
        """Define a run by its bytes."""
        self._run_bytes[index] = data

    @property
    def factors(self) -> U64:
        """Of each series by its index: what its part of a digest is multiplied by."""
        return self._factors

    def add_series(self, index: int, series: point_pb2.Series) -> None:
        """Define a series."""
        self._series[index] = twin_pb2.PointBatch(series=[series]).SerializeToString()
        if index >= len(self._factors):
            grown = np.zeros(max(index + 1, 2 * len(self._factors)), np.uint64)
            grown[: len(self._factors)] = self._factors
            self._factors = grown
        self._factors[index] = factor(series.metric, series.column)

    def read(self) -> list[RunDefinition]:
        """Read on in the file. Returns the runs that are new since the last call."""
        self._read()
        new, self._new = self._new, []
        return new

    def read_on(self) -> None:
        """Read on in the file; what is new stays new."""
        self._read()

    def _read(self) -> None:
        while self._file is not None and (records := self._file.read()):
            for record in records:
                try:
                    content = json.loads(bytes(record.payload))
                    if record.kind == layout.RUN and record.seq not in self.runs:
                        self._new.append(self._add_run(record.seq, content))
                    elif record.kind == layout.SERIES and record.seq not in self._series:
                        self._read_series(record.seq, content)
                except (ValueError, KeyError, TypeError, AttributeError):
                    continue  # as if it weren't there: what uses it is counted as lost

    def _add_run(self, index: int, content: dict[str, object]) -> RunDefinition:
        run = RunDefinition(
            index=index,
            workspace=str(content["workspace"]),
            run=str(content["run"]),
            experiment=str(content.get("experiment") or ""),
            role=str(content.get("role") or ""),
            launch=str(content.get("launch") or ""),
            restart=int(str(content.get("restart") or 0)),
            time_ns=int(str(content.get("time_ns") or 0)),
        )
        reference = point_pb2.RunRef(workspace=run.workspace, run=run.run)
        self._run_bytes[index] = twin_pb2.PointBatch(runs=[reference]).SerializeToString()
        self.runs[index] = run
        return run

    def _read_series(self, index: int, content: dict[str, object]) -> None:
        series = point_pb2.Series(
            metric=str(content["metric"]),
            column=str(content.get("column") or ""),
            description=str(content.get("description") or ""),
        )
        self.add_series(index, series)

    def close(self) -> None:
        """Give the descriptor back."""
        if self._file is not None:
            self._file.close()
