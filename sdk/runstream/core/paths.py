"""Names of files in a run's tree."""

import os
import unicodedata
from pathlib import Path
from typing import Any, Final

from runstream.errors import ServiceError, UserError

MAX_PATH: Final = 5000


def artifact_path(name: Any) -> str:
    """A name as it is stored: relative, "/" between its parts. Raises UserError for what can't be one."""
    if isinstance(name, os.PathLike):
        name = os.fspath(name)
    if not isinstance(name, str) or not name:
        raise UserError(f"a file's name is a text such as 'outputs/model.pkl', not {name!r:.100}")
    path = name.replace("\\", "/") if os.sep == "\\" else name
    while path.startswith("./"):
        path = path[2:].lstrip("/")
    problem = _problem(path)
    if problem:
        raise UserError(f"{name!r:.300} can't be a file's name: {problem}")
    return path


def _problem(path: str) -> str:
    if len(path) > MAX_PATH:
        return f"it has {len(path):,} characters, and at most {MAX_PATH:,} are taken"
    if path.startswith("/") or (os.sep == "\\" and path[1:2] == ":"):
        return "it is absolute. Give its place in the run, such as 'outputs/model.pkl'"
    if any(part in ("", ".", "..") for part in path.split("/")):
        return "it has an empty part, '.' or '..'. Give its place in the run, such as 'outputs/model.pkl'"
    if "\\" in path or any(unicodedata.category(c) in ("Cc", "Cs") for c in path):
        return "it has a backslash, a control character, or what is no text"
    return ""


def name_from(text: str, ending: str = "") -> str:
    """A name made of any text: what can't stand in one becomes "_"."""
    clean = "".join(
        "_" if c == "\\" or unicodedata.category(c) in ("Cc", "Cs") else c for c in text[: MAX_PATH - 200]
    )
    parts = [part for part in clean.split("/") if part not in ("", ".", "..")]
    return ("/".join(parts) or "_") + ending


def local_target(folder: str | os.PathLike[str], path: str) -> Path:
    """Where a run's file goes under a folder of this machine. Raises ServiceError when it would leave it.

    The server has checked the name; this machine doesn't rely on it.
    """
    if _problem(path) or (os.name == "nt" and any(c in path for c in ':*?"<>|')):
        raise ServiceError(f"{path!r:.300} is no name that this machine takes; nothing was written")
    root = Path(folder).resolve()
    target = root.joinpath(*path.split("/"))
    if not target.parent.resolve().is_relative_to(root):
        raise ServiceError(f"{path!r:.300} would be written outside of {root}, through a link; nothing was")
    return target
