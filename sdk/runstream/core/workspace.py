"""Workspaces: where experiments belong to, and which server keeps them."""

import os
from pathlib import Path
from typing import Any

from runstream import home
from runstream.core import delivery, values
from runstream.errors import UserError
from runstream.spool.writer import Target

DEFAULT_NAME = "local"


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
        if not values.is_text(workspace_name, 255):
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
        if path is not None and os.path.isfile(path):
            found = Path(path)
        else:
            if path is not None and not os.path.isdir(path):
                raise UserError(f"there is no {os.fspath(path)}")
            nearest = home.find_config(path)
            if nearest is None:
                if os.environ.get("RUNSTREAM_STRICT", "0") not in ("", "0"):
                    raise UserError("no .runstream/config.json or .azureml/config.json was found")
                return Workspace()
            found = nearest
        try:
            config = home.load_config(found)
        except (OSError, ValueError) as error:
            raise UserError(f"the configuration can't be used: {error}") from None
        if not config.workspace_name and os.environ.get("RUNSTREAM_STRICT", "0") not in ("", "0"):
            raise UserError(f"{found} has no workspace_name")
        return Workspace(workspace_name=config.workspace_name or DEFAULT_NAME, config=config)

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

    def __repr__(self) -> str:
        return (
            f"Workspace.create(name={self._name!r}, subscription_id={self._subscription_id!r}, "
            f"resource_group={self._resource_group!r})"
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Workspace) and other._name == self._name and other.target == self.target

    def __hash__(self) -> int:
        return hash(self._name)
