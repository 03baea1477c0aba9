"""No wheel without the portal and the widget: `make portal` builds them beforehand, which needs Node."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class PortalIsBuilt(BuildHookInterface):  # type: ignore[misc]
    """Looks before a wheel or a source distribution is made; an editable install serves what is there."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatchling."""
        portal = Path(self.root, "query", "runstream_query", "static", "manifest.json")
        widget = Path(self.root, "sdk", "runstream", "widgets", "static", "widget.js")
        if version != "editable" and not (portal.exists() and widget.exists()):
            raise RuntimeError("the portal is not built: run `make portal` first")
