"""Workspaces that this user has made here: a server knows one only when something was logged in it."""

from typing import Final

from runstream import home

_FILE: Final = "workspaces.json"


def made_workspaces() -> list[str]:
    """Their names, in the order in which they were made."""
    try:
        names = (home.read_json(home.home() / _FILE) or {}).get("names")
    except OSError:
        return []
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


def remember_workspace(name: str) -> None:
    """Add one. Raises OSError when that can't be kept."""
    names = made_workspaces()
    if name not in names:
        home.write_json(home.home() / _FILE, {"names": [*names, name]})
