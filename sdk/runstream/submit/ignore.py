"""Which files of a folder are left out of a snapshot: `.amlignore`, else `.gitignore`, in Git's syntax."""

import os
from pathlib import Path
from typing import Final

from pathspec import GitIgnoreSpec

from runstream.errors import SnapshotError

OWN_FILE: Final = ".amlignore"
GIT_FILE: Final = ".gitignore"
# Never wanted, and large.
_ALWAYS: Final = (".git/", "__pycache__/", ".ipynb_checkpoints/")


class Ignored:
    """The rules of one folder. `.amlignore` stands in the folder itself and counts alone; `.gitignore` counts
    in every folder below, too, as in Git."""

    def __init__(self, folder: Path) -> None:
        """Raises SnapshotError when a file of rules can't be read."""
        self._folder = folder
        self._always = GitIgnoreSpec.from_lines(_ALWAYS)
        self._own = _rules(folder / OWN_FILE)
        self._by_folder: dict[str, GitIgnoreSpec | None] = {}

    def has(self, path: str, is_folder: bool) -> bool:
        """Whether a path in the folder, with "/" between its parts, is left out. Its parents are not."""
        name = f"{path}/" if is_folder else path
        if self._always.match_file(name):
            return True
        if self._own is not None:
            return self._own.match_file(name)
        parts = name.rstrip("/").split("/")
        for depth in range(len(parts) - 1, -1, -1):  # the nearest file that says anything counts
            rules = self._git_rules("/".join(parts[:depth]))
            if rules is not None:
                said = rules.check_file("/".join(parts[depth:]) + ("/" if is_folder else "")).include
                if said is not None:
                    return said
        return False

    def _git_rules(self, folder: str) -> GitIgnoreSpec | None:
        if folder not in self._by_folder:
            self._by_folder[folder] = _rules(self._folder / folder / GIT_FILE)
        return self._by_folder[folder]


def _rules(path: Path) -> GitIgnoreSpec | None:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read().splitlines()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    except OSError as error:
        raise SnapshotError(f"{os.fspath(path)} can't be read: {error.strerror}") from None
    try:
        return GitIgnoreSpec.from_lines(lines)
    except ValueError as error:
        raise SnapshotError(f"{os.fspath(path)} has a pattern that can't be used: {error}") from None
