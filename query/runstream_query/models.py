"""Reads models: registrations, counted as versions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from runstream.v1 import artifact_service_pb2, model_pb2, model_service_pb2, point_pb2
from runstream_query.errors import NotFound
from runstream_query.sql import ask_rows
from runstream_store.tables import Tables

# Counted over all of a name, whichever are wanted: a version never depends on a condition.
_VERSIONS: Final = """
SELECT name, run, hex(writer) AS writer_hex, seq, path, toUnixTimestamp64Nano(time) AS time_ns,
    hex(model) AS model_hex,
    row_number() OVER (PARTITION BY name ORDER BY received_time, run, models.writer, seq) AS version
FROM models FINAL
WHERE workspace = {workspace:String} AND ({name:String} = '' OR name = {name:String})
"""
_LIST: Final = f"SELECT * FROM ({_VERSIONS}) WHERE {{run:String}} = '' OR run = {{run:String}}"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which models."""

    workspace: str
    name: str = ""
    run: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    latest: bool = False


class ModelReader:
    """Reads the table of models."""

    def __init__(self, tables: Tables, timeout_s: float) -> None:
        self._tables = tables
        self._timeout_s = timeout_s

    async def find(self, wanted: Wanted) -> list[model_service_pb2.Model]:
        """Models by name, newest version first."""
        params = {"workspace": wanted.workspace, "name": wanted.name, "run": wanted.run}
        rows = await ask_rows(self._tables, _LIST, params, self._timeout_s)
        found = [model for row in rows if _has(model := _model(wanted.workspace, row), wanted.tags)]
        found.sort(key=lambda model: (model.name, -model.version))
        if not wanted.latest:
            return found
        newest: dict[str, model_service_pb2.Model] = {}
        for model in found:
            newest.setdefault(model.name, model)
        return list(newest.values())

    async def get(self, workspace: str, name: str, version: int) -> model_service_pb2.Model:
        """One version, 0 for the newest.

        :raises NotFound: there is none.
        """
        found = await self.find(Wanted(workspace, name))
        if not found:
            raise NotFound(f"workspace {workspace!r} has no model {name!r}")
        for model in found:
            if version in (0, model.version):
                return model
        raise NotFound(f"model {name!r} has {len(found)} versions; there is no {version}")


def files_of(
    model: model_service_pb2.Model, uploads: list[artifact_service_pb2.Artifact]
) -> list[artifact_service_pb2.Artifact]:
    """Of each file of the model the newest version that was there when it was registered.

    :param uploads: versions of the run's files whose names begin with the model's path, oldest first.
    """
    files: dict[str, artifact_service_pb2.Artifact] = {}
    for upload in uploads:
        mine = upload.path == model.path or upload.path.startswith(model.path + "/")
        if mine and upload.time_ns <= model.time_ns:
            files[upload.path] = upload
    return [files[path] for path in sorted(files)]


def _has(model: model_service_pb2.Model, tags: Mapping[str, str]) -> bool:
    return all(key in model.tags and (not value or model.tags[key] == value) for key, value in tags.items())


def _model(workspace: str, row: Mapping[str, Any]) -> model_service_pb2.Model:
    said = model_pb2.ModelRegistered.FromString(bytes.fromhex(row["model_hex"]))
    return model_service_pb2.Model(
        run=point_pb2.RunRef(workspace=workspace, run=row["run"]),
        name=row["name"],
        version=row["version"],
        path=row["path"],
        description=said.description,
        tags=said.tags,
        properties=said.properties,
        framework=said.framework,
        framework_version=said.framework_version,
        time_ns=row["time_ns"],
        writer=bytes.fromhex(row["writer_hex"]),
        seq=row["seq"],
    )
