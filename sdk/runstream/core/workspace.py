"""Workspaces: where experiments belong to, and which server keeps them."""

import itertools
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from runstream import home
from runstream.core import delivery, values
from runstream.core.registry import made_workspaces, remember_workspace
from runstream.errors import AuthenticationError, ServiceError, UserError, WorkspaceError
from runstream.spool.writer import Target

if TYPE_CHECKING:
    from runstream.core.environment import Environment
    from runstream.core.experiment import Experiment
    from runstream.core.run import Run

DEFAULT_NAME: Final = "local"
NAME: Final = "RUNSTREAM_WORKSPACE"
"""Environment variable that names the workspace, whatever a configuration says."""


class Workspace:
    """A workspace. Making one asks no server, and the server need not know it."""

    def __init__(
        self,
        subscription_id: str = "",
        resource_group: str = "",
        workspace_name: str = DEFAULT_NAME,
        *_: Any,
        config: home.ClientConfig | None = None,
        **__: Any,
    ) -> None:
        """Name a workspace. All other arguments are accepted for compatibility, and ignored."""
        if not values.is_id(workspace_name, 255):
            raise UserError(f"a workspace's name is a text of 1 to 255 characters, not {workspace_name!r}")
        self._name = workspace_name
        self._subscription_id = str(subscription_id or "")
        self._resource_group = str(resource_group or "")
        self._config = config

    @staticmethod
    def from_config(path: str | os.PathLike[str] | None = None, auth: object = None) -> "Workspace":
        """The workspace that the nearest configuration names; `local` when there is none.

        Looks for `.runstream/config.json`, then `.azureml/config.json`, in `path` (default: the working
        directory) and upwards; `path` may also be the file. With RUNSTREAM_STRICT=1 finding nothing raises
        UserError.
        """
        if path is not None and not isinstance(path, str | os.PathLike):
            raise UserError(f"path is a folder or a configuration file, not {path!r:.100}")
        if path is not None and os.path.isfile(path):
            found = Path(path)
        else:
            if path is not None and not os.path.isdir(path):
                raise UserError(f"there is no {os.fspath(path)}")
            nearest = home.find_config(path)
            if nearest is None:
                if os.environ.get("RUNSTREAM_STRICT", "0") not in ("", "0"):
                    raise UserError("no .runstream/config.json or .azureml/config.json was found")
                return Workspace(workspace_name=os.environ.get(NAME) or DEFAULT_NAME)
            found = nearest
        try:
            config = home.load_config(found)
        except (OSError, ValueError) as error:
            raise UserError(f"the configuration can't be used: {error}") from None
        if not config.workspace_name and os.environ.get("RUNSTREAM_STRICT", "0") not in ("", "0"):
            raise UserError(f"{found} has no workspace_name")
        return Workspace(
            config.subscription_id or "",
            config.resource_group or "",
            os.environ.get(NAME) or config.workspace_name or DEFAULT_NAME,
            config=config,
        )

    # ----------------------------------------------------------------------------------- finding

    @staticmethod
    def get(
        name: str,
        auth: object = None,
        subscription_id: str | None = None,
        resource_group: str | None = None,
        location: str | None = None,
        cloud: str = "AzureCloud",
        id: str | None = None,
    ) -> "Workspace":
        """A workspace that is known: something was logged in it, or it was made here.

        Raises WorkspaceError when it is not. Only `name` has a meaning.
        """
        workspace = _configured(name, subscription_id, resource_group)
        if name not in made_workspaces() and name not in _server_names(workspace):
            raise WorkspaceError(
                f"there is no workspace {name!r}: Workspace.create({name!r}) makes it, and so does the first "
                f"run in Workspace(workspace_name={name!r})"
            )
        return workspace

    @staticmethod
    def create(
        name: str,
        auth: object = None,
        subscription_id: str | None = None,
        resource_group: str | None = None,
        *_: Any,
        exist_ok: bool = False,
        show_output: bool = True,
        tags: Mapping[str, str] | None = None,
        friendly_name: str | None = None,
        **__: Any,
    ) -> "Workspace":
        """Make a workspace. Raises WorkspaceError when the name is taken, unless `exist_ok`.

        Only `name` and `exist_ok` have a meaning. Without a server only the names that were made here count.
        """
        workspace = _configured(name, subscription_id, resource_group)
        taken = name in made_workspaces()
        if not taken:
            try:
                taken = name in _server_names(workspace)
            except ServiceError:
                pass
        if taken and not exist_ok:
            raise WorkspaceError(
                f"the name {name!r} is taken: Workspace.get({name!r}) gives that workspace, and "
                "exist_ok=True takes it when it is there"
            )
        try:
            remember_workspace(name)
        except OSError as error:
            raise WorkspaceError(f"workspace {name!r} can't be kept in {home.home()}: {error}") from None
        return workspace

    @staticmethod
    def list(
        subscription_id: str | None = None, auth: object = None, resource_group: str | None = None
    ) -> "dict[str, list[Workspace]]":
        """All workspaces, by name. The parameters have no meaning."""
        anywhere = _configured(DEFAULT_NAME, subscription_id, resource_group)
        names = {*made_workspaces(), *_server_names(anywhere, every=True)}
        return {name: [_configured(name, subscription_id, resource_group)] for name in sorted(names) if name}

    def write_config(self, path: str | os.PathLike[str] | None = None, file_name: str | None = None) -> None:
        """Write a configuration that `from_config()` finds: `.azureml/config.json` in a folder.

        `path`: the folder, by default the working directory. Where `.runstream/config.json` is, that is
        written, since it counts before.
        """
        folder = Path(path if path is not None else os.getcwd())
        own = folder / ".runstream"
        place = own if (own / "config.json").is_file() and file_name is None else folder / ".azureml"
        content: dict[str, str] = {
            "subscription_id": self._subscription_id,
            "resource_group": self._resource_group,
            "workspace_name": self._name,
        }
        config = self._config
        for key in ("server", "http_server", "public_url", "api_key_file"):
            value = getattr(config, key) if config else None
            if value:
                content[key] = value
        try:
            place.mkdir(parents=True, exist_ok=True)
            (place / (file_name or "config.json")).write_text(json.dumps(content, indent=4) + "\n")
        except OSError as error:
            raise UserError(f"the configuration can't be written to {place}: {error}") from None

    # -------------------------------------------------------------------------------- its content

    @property
    def experiments(self) -> "dict[str, Experiment]":
        """Its active experiments by name."""
        from runstream.core.experiment import Experiment

        return {experiment.name: experiment for experiment in Experiment.list(self)}

    @property
    def environments(self) -> "dict[str, Environment]":
        """Environments that were registered in it on this machine, by name: of each the newest version."""
        from runstream.core.environment import Environment

        return Environment.list(self)

    def get_run(self, run_id: str) -> "Run":
        """A run by its id. Raises NotFoundError."""
        from runstream.core.run import Run

        return Run.get(self, run_id)

    def get_details(self) -> dict[str, Any]:
        """What is known of it, under the keys of the compatible API.

        It is as old as its first run; `creationTime` is empty before that, and when no server answers.
        """
        return {
            "id": self._name,
            "name": self._name,
            "location": self.location,
            "type": "runstream/workspace",
            "tags": self.tags,
            "sku": self.sku,
            "workspaceid": self._name,
            "description": "",
            "friendlyName": self._name,
            "subscriptionId": self._subscription_id,
            "resourceGroup": self._resource_group,
            "creationTime": self._created(),
        }

    def _created(self) -> str:
        from runstream.core import reads
        from runstream.core.record import iso_time

        try:
            positions, http = reads.arrived(self)
            found = reads.client(self, http).search_runs(
                self._name,
                order_by=[("started", False)],
                archive="all",
                limit=1,
                positions=positions,
                all_events=True,
            )
            return next((iso_time(run.first_started_ns) or "" for run in found), "")
        except (ServiceError, AuthenticationError):
            return ""

    @property
    def tags(self) -> dict[str, str]:
        """Empty: workspaces have none here."""
        return {}

    @property
    def sku(self) -> str:
        """Of no meaning here."""
        return "basic"

    @property
    def name(self) -> str:
        """Name of the workspace."""
        return self._name

    @property
    def location(self) -> str:
        """Where it is: its server's address, or this machine."""
        return self.target.server or "local"

    @property
    def subscription_id(self) -> str:
        """As it was given; of no meaning here."""
        return self._subscription_id

    @property
    def resource_group(self) -> str:
        """As it was given; of no meaning here."""
        return self._resource_group

    @property
    def config(self) -> home.ClientConfig | None:
        """The configuration that it was read from."""
        return self._config

    @property
    def target(self) -> Target:
        """Where its records go, as environment and configuration say now."""
        return delivery.target_for(self._name, self._config)

    def _repr_html_(self) -> str:
        from runstream.core import display

        return display.workspace_html(self)

    def __repr__(self) -> str:
        return (
            f"Workspace.create(name={self._name!r}, subscription_id={self._subscription_id!r}, "
            f"resource_group={self._resource_group!r})"
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Workspace) and other._name == self._name and other.target == self.target

    def __hash__(self) -> int:
        return hash(self._name)


def _configured(name: str, subscription_id: str | None, resource_group: str | None) -> Workspace:
    """A workspace at the server that the nearest configuration names."""
    found = home.find_config()
    try:
        config = home.load_config(found) if found else None
    except (OSError, ValueError):
        config = None
    return Workspace(subscription_id or "", resource_group or "", name, config=config)


def _server_names(workspace: Workspace, every: bool = False) -> set[str]:
    """Names that the server knows: this one's, or all. Raises ServiceError when it can't be asked."""
    from runstream.core import reads

    positions, http = reads.arrived(workspace)
    found = reads.client(workspace, http).list_experiments(
        "" if every else workspace.name, archive="all", positions=positions, all_events=True
    )
    if every:
        return {experiment.workspace for experiment in found}
    return {experiment.workspace for experiment in itertools.islice(found, 1)}
