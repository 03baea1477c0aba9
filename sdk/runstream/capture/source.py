"""Where a process came from: its command, its Git state, its packages. Read from outside of it."""

import os
import shlex
import subprocess
from collections.abc import Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit, urlunsplit

_GIT_S: Final = 10.0
_MOST_DIFF: Final = 1 << 20
_MOST_COMMAND: Final = 10_000


class Source(NamedTuple):
    """What is known of it."""

    properties: dict[str, str]
    """Git state, under the names of the compatible API."""
    system: dict[str, str]
    """All else that is short."""
    files: dict[str, bytes]
    """The difference to the commit, and the packages."""


def read_source(said: Mapping[str, Any]) -> Source:
    """What can be found out about a process that has said this of itself (`capture.itself`). Never raises."""
    python, prefix = str(said["python"]), str(said["prefix"])
    system = {
        "python": python,
        "command": shlex.join(said["command"])[:_MOST_COMMAND],
        "working_directory": str(said["folder"]),
        **{f"env.{name}": str(value) for name, value in said["variables"].items()},
    }
    files = {}
    if packages := _packages(prefix, python):
        files["system_logs/packages.txt"] = "".join(f"{name}\n" for name in packages).encode()
    properties: dict[str, str] = {}
    if folder := system["working_directory"]:
        properties, diff = _git(folder)
        if diff:
            files["system_logs/git.diff"] = diff
    return Source(properties, {key: value for key, value in system.items() if value}, files)


def _packages(prefix: str, python: str) -> list[str]:
    """Names and versions of what is installed, as the folders of the environment tell."""
    short = ".".join(python.split(".")[:2])
    try:
        names = os.listdir(os.path.join(prefix, "lib", f"python{short}", "site-packages"))
    except OSError:
        return []
    found = (name.removesuffix(".dist-info").rpartition("-") for name in names if name.endswith(".dist-info"))
    return sorted(f"{name}=={version}" for name, _, version in found if name)


def _git(folder: str) -> tuple[dict[str, str], bytes]:
    """State of the repository that a folder belongs to, and what was changed since the commit."""
    commit = _ask_git(folder, "rev-parse", "HEAD")
    if commit is None:
        return {}, b""
    status = _ask_git(folder, "status", "--porcelain", "--untracked-files=no")
    found = {
        "azureml.git.commit": commit,
        "azureml.git.branch": _ask_git(folder, "symbolic-ref", "--short", "-q", "HEAD") or "",
        "azureml.git.repository_uri": without_credentials(
            _ask_git(folder, "config", "--get", "remote.origin.url") or ""
        ),
        "azureml.git.dirty": "" if status is None else str(bool(status)),
    }
    diff = b""
    if status:
        text = _ask_git(folder, "diff", "HEAD", "--no-color", "--no-ext-diff") or ""
        whole = text.encode("utf-8", "replace")
        diff = whole[:_MOST_DIFF] + (b"\n" if whole else b"")
        if len(whole) > _MOST_DIFF:
            diff += f"[runstream: {len(whole) - _MOST_DIFF:,} bytes more]\n".encode()
    return {key: value for key, value in found.items() if value}, diff


def _ask_git(folder: str, *arguments: str) -> str | None:
    """What Git answers; None when it doesn't."""
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    try:
        done = subprocess.run(
            ["git", "-C", folder, *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_GIT_S,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode("utf-8", "replace").strip() if done.returncode == 0 else None


def without_credentials(url: str) -> str:
    """An address without the user and password that may stand in it."""
    parts = urlsplit(url)
    if not parts.scheme or "@" not in parts.netloc:
        return url
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
