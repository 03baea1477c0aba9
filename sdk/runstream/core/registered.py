"""Environments that were registered: kept for this user on this machine, a file for each version."""

import json
import os
from pathlib import Path
from typing import Any, Final

from runstream import home

_FOLDER: Final = "registered"

Spec = dict[str, Any]


def versions(workspace: str, name: str) -> list[Spec]:
    """What was registered under a name, the oldest first."""
    folder = _place(workspace) / home.digest(name.encode(), 16)
    found: list[Spec] = []
    while (content := home.read_json(folder / f"{len(found) + 1}.json")) is not None:
        found.append(dict(content))
    return found


def names(workspace: str) -> list[str]:
    """All names of a workspace."""
    try:
        folders = os.listdir(_place(workspace))
    except OSError:
        return []
    first = (home.read_json(_place(workspace) / folder / "1.json") for folder in folders)
    return sorted(str(content["name"]) for content in first if content is not None)


def keep(workspace: str, name: str, spec: Spec) -> int:
    """Register the next version, unless it says what the last one does. Its number. Raises OSError."""
    folder = _place(workspace) / home.digest(name.encode(), 16)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    made = folder / f".{os.getpid()}"
    made.write_text(json.dumps({"name": name, **spec}), encoding="utf-8")
    try:
        while True:
            there = versions(workspace, name)
            if there and there[-1] == {"name": name, **spec}:
                return len(there)
            try:
                os.link(made, folder / f"{len(there) + 1}.json")
                return len(there) + 1
            except FileExistsError:  # another process was faster
                continue
    finally:
        made.unlink()


def _place(workspace: str) -> Path:
    return home.home() / _FOLDER / home.digest(workspace.encode(), 16)
