"""Models: named, versioned pointers to files of runs."""

import builtins
import os
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runstream.core import reads, values
from runstream.core.paths import local_target
from runstream.core.progress import Progress
from runstream.core.registration import MAX_NAME
from runstream.core.workspace import Workspace
from runstream.errors import ModelNotFoundError, NotFoundError, ServiceError, UserError
from runstream.spool.layout import clean

if TYPE_CHECKING:
    from runstream.core.run import Run
    from runstream.v1.model_service_pb2 import Model as Message


class Model:
    """One version of a model."""

    def __init__(
        self,
        workspace: Workspace,
        name: str | None = None,
        id: str | None = None,
        tags: Any = None,
        properties: Any = None,
        version: int | str | None = None,
        run_id: str | None = None,
        model_framework: str | None = None,
        **_: Any,
    ) -> None:
        """Look a model up: by name, or `id` as `name:version`; the newest that fits the other conditions.

        `tags`, `properties`: keys that it has, or a dictionary (or pairs) of keys and values. Raises
        ModelNotFoundError when there is none, ServiceError when the server can't be asked.
        """
        if not isinstance(workspace, Workspace):
            raise UserError(f"a model belongs to a Workspace, not to {workspace!r:.100}")
        if id is not None:
            name, _sep, version = str(id).rpartition(":")
        if not isinstance(name, str) or not values.is_id(name, MAX_NAME):
            raise UserError("a model is looked up by its name, or by an id such as 'name:3'")
        number = _number(version)
        for found in _find(workspace, name, run_id or "", tags, properties, model_framework):
            if number in (None, found.version):
                self._take(workspace, found)
                return
        which = f"{name!r}" if number is None else f"{name!r} of version {number}"
        raise ModelNotFoundError(f"workspace {workspace.name} has no model {which} that fits")

    def _take(self, workspace: Workspace, found: "Message") -> None:
        self.workspace = workspace
        self.name = found.name
        self.run_id = found.run.run
        self.path = found.path
        self.description = found.description
        self.tags = dict(found.tags)
        self.properties = dict(found.properties)
        self.model_framework = found.framework or None
        self.model_framework_version = found.framework_version or None
        self.created_time = datetime.fromtimestamp(found.time_ns / 1e9, UTC)
        self._version = found.version
        self._identity = found.writer, found.time_ns

    @classmethod
    def _of(cls, workspace: Workspace, found: "Message") -> "Model":
        made = cls.__new__(cls)
        made._take(workspace, found)
        return made

    @classmethod
    def _registered(cls, run: "Any", content: Mapping[str, Any], time_ns: int, writer: bytes) -> "Model":
        """A model that was registered just now. Its version is known when the server has seen it."""
        made = cls.__new__(cls)
        made.workspace = run.experiment.workspace
        made.name = content["name"]
        made.run_id = run.id
        made.path = content["path"]
        made.description = content["description"]
        made.tags = dict(content["tags"])
        made.properties = dict(content["properties"])
        made.model_framework = content["framework"] or None
        made.model_framework_version = content["framework_version"] or None
        made.created_time = datetime.fromtimestamp(time_ns / 1e9, UTC)
        made._version = 0
        made._identity = writer, time_ns
        return made

    # ----------------------------------------------------------------------------------- finding

    @staticmethod
    def list(
        workspace: Workspace,
        name: str | None = None,
        tags: Any = None,
        properties: Any = None,
        run_id: str | None = None,
        latest: bool = False,
        model_framework: str | None = None,
        **_: Any,
    ) -> "builtins.list[Model]":
        """Models of a workspace, by name, newest version first. Conditions as of `Model`."""
        if not isinstance(workspace, Workspace):
            raise UserError(f"Model.list needs a Workspace, not {workspace!r:.100}")
        found = _find(workspace, name or "", run_id or "", tags, properties, model_framework)
        models = [Model._of(workspace, message) for message in found]
        if latest:
            models = [m for n, m in enumerate(models) if not n or models[n - 1].name != m.name]
        return models

    # ---------------------------------------------------------------------------------- identity

    @property
    def version(self) -> int:
        """From 1, counted by name. Waits for the server if this process has just registered the model."""
        if not self._version:
            writer, time_ns = self._identity
            mine = [
                (found.time_ns, found.version)
                for found in _find(self.workspace, self.name, self.run_id, None, None, None)
                if found.writer == writer and found.time_ns >= time_ns  # later when the clock was set back
            ]
            if not mine:
                raise ServiceError(f"the server doesn't know the registration of {self.name}")
            self._version = min(mine)[1]
        return self._version

    @property
    def id(self) -> str:
        """`name:version`."""
        return f"{self.name}:{self.version}"

    @property
    def url(self) -> str:
        """Address of the model."""
        return f"aml://models/{self.name}/{self.version}"

    @property
    def run(self) -> "Run":
        """The run that made it."""
        from runstream.core.run import Run

        return Run.get(self.workspace, self.run_id)

    def __repr__(self) -> str:
        version = self._version or "not known yet"
        return (
            f"Model(workspace={self.workspace!r}, name={self.name}, id={self.name}:{version}, "
            f"version={version}, tags={self.tags}, properties={self.properties})"
        )

    # ------------------------------------------------------------------------------------- files

    def get_file_names(self) -> "builtins.list[str]":
        """Names of its files, in the run's tree."""
        return [artifact.path for artifact in self._files()]

    def download(self, target_dir: str | os.PathLike[str] = ".", exist_ok: bool = False, **more: Any) -> str:
        """Download its files into a folder. Returns the path of the file, or of the folder that the model is.

        Raises UserError when something is there already and not `exist_ok`, ModelNotFoundError when its files
        are not there, ServiceError when the server can't be asked.
        """
        exist_ok = bool(more.get("exists_ok", exist_ok))
        files = self._files()
        if not files:
            raise ModelNotFoundError(f"the files of {self.id} have not arrived at the server")
        top = self.path.rpartition("/")[0]
        targets = [local_target(target_dir, f.path.removeprefix(top).lstrip("/")) for f in files]
        there = [target for target in targets if target.exists()]
        if there and not exist_ok:
            raise UserError(f"{there[0]} exists already: choose another folder, or give exist_ok=True")
        client = reads.client(self.workspace)
        with Progress(self.name, sum(file.size for file in files)) as progress:
            for file, target in zip(files, targets, strict=True):
                client.download_artifact(
                    self.workspace.name,
                    self.run_id,
                    file.path,
                    target,
                    version=file.version,
                    progress=progress,
                )
        return str(Path(target_dir) / self.path.rpartition("/")[2])

    def _files(self) -> "builtins.list[Any]":
        version = self.version
        positions, http = reads.flushed(self.workspace.target, 600.0, files=True)
        try:
            _, files = reads.client(self.workspace, http).get_model(
                self.workspace.name, self.name, version, positions=positions
            )
        except NotFoundError as error:
            raise ModelNotFoundError(str(error)) from error
        return [*files]


def _find(
    workspace: Workspace, name: str, run_id: str, tags: Any, properties: Any, framework: str | None
) -> "Iterable[Message]":
    wanted, features = _conditions("tags", tags), _conditions("properties", properties)
    positions, http = reads.flushed(workspace.target)
    client, name, run_id = reads.client(workspace, http), clean(name), clean(run_id)
    for found in client.list_models(workspace.name, name, run_id, positions=positions):
        if (
            _fits(found.tags, wanted)
            and _fits(found.properties, features)
            and (framework is None or found.framework == framework)
        ):
            yield found


def _conditions(what: str, given: Any) -> "dict[str, str | None]":
    """Keys with the values that they must have; None for any."""
    if given is None:
        return {}
    if isinstance(given, str):
        return {given: None}
    if isinstance(given, Mapping):
        return {str(key): None if value is None else str(value) for key, value in given.items()}
    if not isinstance(given, Iterable):
        raise UserError(f"{what} are keys, or a dictionary of keys and values, not {given!r:.100}")
    pairs = [(one, None) if isinstance(one, str) else tuple(one) for one in given]
    return {str(pair[0]): None if pair[-1] is None or len(pair) < 2 else str(pair[1]) for pair in pairs}


def _fits(has: Mapping[str, str], wanted: "Mapping[str, str | None]") -> bool:
    return all(key in has and (value is None or has[key] == value) for key, value in wanted.items())


def _number(version: int | str | None) -> int | None:
    if version is None or version == "":
        return None
    try:
        return int(version)
    except (TypeError, ValueError):
        raise UserError(f"a version is a number from 1, not {version!r:.100}") from None
