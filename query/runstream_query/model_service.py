"""ModelService: what each call does, whatever protocol it came by."""

from __future__ import annotations

from typing import Final

from runstream.v1 import artifact_service_pb2
from runstream.v1 import model_service_pb2 as messages
from runstream_query import tokens
from runstream_query.artifacts import ArtifactReader
from runstream_query.barrier import Barrier
from runstream_query.errors import InvalidArgument
from runstream_query.models import ModelReader, Wanted, files_of
from runstream_query.services import Service

_PAGE: Final = 1_000
_MOST_PAGE: Final = 10_000
_PATHS: Final = 10_000


class ModelServicer:
    """Answers requests."""

    def __init__(self, models: ModelReader, artifacts: ArtifactReader, barrier: Barrier) -> None:
        self._models = models
        self._artifacts = artifacts
        self._barrier = barrier

    async def list_models(self, request: messages.ListModelsRequest) -> messages.ListModelsResponse:
        """A page of models."""
        if not request.workspace:
            raise InvalidArgument("workspace is empty")
        await self._barrier.reach(request.barrier, self._barrier.deadline(request.barrier))
        size = request.page_size or _PAGE
        if size > _MOST_PAGE:
            raise InvalidArgument(f"page_size is {size:,}; at most {_MOST_PAGE:,}")
        same = messages.ListModelsRequest()
        same.CopyFrom(request)
        for name in "barrier", "page_size", "page_token":
            same.ClearField(name)
        bound_to = tokens.digest("ListModels", same.SerializeToString(deterministic=True))
        # A place is the last model given: new versions come before the older ones of their name.
        after = tuple(tokens.decode(bound_to, request.page_token, str, int)) if request.page_token else None
        found = await self._models.find(
            Wanted(request.workspace, request.name, request.run, dict(request.tags), request.latest)
        )
        rest = [model for model in found if after is None or (model.name, -model.version) > after]
        response = messages.ListModelsResponse(models=rest[:size], total=len(found))
        if len(rest) > size:
            last = rest[size - 1]
            response.next_page_token = tokens.encode(bound_to, [last.name, -last.version])
        return response

    async def get_model(self, request: messages.GetModelRequest) -> messages.GetModelResponse:
        """One version of a model, with its files."""
        if not request.workspace or not request.name:
            raise InvalidArgument("workspace and name are needed")
        await self._barrier.reach_artifacts(request.barrier)
        model = await self._models.get(request.workspace, request.name, request.version)
        return messages.GetModelResponse(model=model, files=files_of(model, await self._uploads(model)))

    async def _uploads(self, model: messages.Model) -> list[artifact_service_pb2.Artifact]:
        workspace, run = model.run.workspace, model.run.run
        uploads: list[artifact_service_pb2.Artifact] = []
        after = ""
        while True:
            newest = await self._artifacts.newest(workspace, run, model.path, after, _PATHS)
            paths = [artifact.path for artifact in newest]
            uploads += [version.artifact for version in await self._artifacts.versions(workspace, run, paths)]
            if len(newest) < _PATHS:
                return uploads
            after = paths[-1]


def model_service(servicer: ModelServicer) -> Service:
    """The service, to be mounted."""
    return Service(messages.DESCRIPTOR.services_by_name["ModelService"], servicer)
