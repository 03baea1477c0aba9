"""Packages that an environment has, as conda and pip name them."""

import json
import os
import re
from collections.abc import Iterable
from typing import Any, Final

from runstream.errors import UserError

_NAME: Final = re.compile(r"[A-Za-z0-9][\w.\-]*")
_CHANNEL: Final = "conda-forge"


class CondaDependencies:
    """A list of conda packages, one of pip packages, and the version of Python.

    The pip part is installed by uv or pip, the conda part by micromamba or conda where one is installed,
    else by pip under the same names (docs/submission.md).
    """

    def __init__(self, conda_dependencies_file_path: str | os.PathLike[str] | None = None, **_: Any) -> None:
        """Empty, or as a conda environment file says. Raises UserError when it can't be read."""
        self._python: str | None = None
        self._conda: list[str] = []
        self._pip: list[str] = []
        self._options: list[str] = []
        self._channels: list[str] = []
        if conda_dependencies_file_path is not None:
            self._read(conda_dependencies_file_path)

    @staticmethod
    def create(
        pip_indexurl: str | None = None,
        pip_packages: Iterable[str] | None = None,
        conda_packages: Iterable[str] | None = None,
        python_version: str | None = None,
        pin_sdk_version: bool = True,
    ) -> "CondaDependencies":
        """From lists of packages, such as `scikit-learn==1.7`. Python's version is by default this one's."""
        made = CondaDependencies()
        if pip_indexurl:
            made.set_pip_option(f"--index-url {pip_indexurl}")
        for package in _packages("conda_packages", conda_packages):
            made.add_conda_package(package)
        for package in _packages("pip_packages", pip_packages):
            made.add_pip_package(package)
        if python_version:
            made.set_python_version(python_version)
        return made

    def add_conda_package(self, conda_package: str) -> None:
        """Add a conda package, such as `numpy` or `numpy=1.26`."""
        package = _package(conda_package)
        if _name(package) == "python":
            self._python = package[len("python") :].lstrip("=") or None
        elif package not in self._conda:
            self._conda.append(package)

    def add_pip_package(self, pip_package: str) -> None:
        """Add a pip requirement; also a path of a wheel or folder, or a URL."""
        package = _package(pip_package)
        if package not in self._pip:
            self._pip.append(package)

    def add_channel(self, channel: str) -> None:
        """Add a conda channel."""
        if channel not in self._channels:
            self._channels.append(_package(channel))

    def remove_conda_package(self, conda_package: str) -> None:
        """Remove a conda package, of whichever version."""
        self._conda = [kept for kept in self._conda if _name(kept) != _name(conda_package)]

    def remove_pip_package(self, pip_package: str) -> None:
        """Remove a pip package, of whichever version."""
        self._pip = [kept for kept in self._pip if _name(kept) != _name(pip_package)]

    def set_python_version(self, version: str) -> None:
        """Version of Python, such as `3.11`."""
        self._python = str(version)

    def set_pip_option(self, pip_option: str) -> None:
        """Add an option of requirements files, such as `--index-url URL`."""
        if pip_option not in self._options:
            self._options.append(pip_option)

    @property
    def conda_packages(self) -> list[str]:
        """Conda packages, without Python."""
        return list(self._conda)

    @property
    def pip_packages(self) -> list[str]:
        """Pip requirements."""
        return list(self._pip)

    @property
    def pip_options(self) -> list[str]:
        """Options of requirements files."""
        return list(self._options)

    @property
    def conda_channels(self) -> list[str]:
        """Conda channels; conda-forge when none was added."""
        return list(self._channels) or [_CHANNEL]

    @property
    def python_version(self) -> str | None:
        """Version of Python; None for that of the interpreter that submits."""
        return self._python

    def get_python_version(self) -> str | None:
        """The same, as a call."""
        return self._python

    def as_dict(self) -> dict[str, Any]:
        """As in a conda environment file."""
        python = [f"python={self._python}"] if self._python else []
        pip: list[Any] = [{"pip": [*self._options, *self._pip]}] if self._pip or self._options else []
        return {"channels": self.conda_channels, "dependencies": [*python, *self._conda, *pip]}

    @staticmethod
    def of_dict(content: dict[str, Any]) -> "CondaDependencies":
        """From what `as_dict` gave."""
        made = CondaDependencies()
        made._take(content)
        return made

    def serialize_to_string(self) -> str:
        """The text of a conda environment file."""
        return json.dumps(self.as_dict(), indent=2) + "\n"  # which is YAML, too

    def save_to_file(self, base_directory: str | os.PathLike[str], conda_file_path: str | None = None) -> str:
        """Write a conda environment file; its name in the folder is returned."""
        name = conda_file_path or "conda_dependencies.yml"
        with open(os.path.join(base_directory, name), "w", encoding="utf-8") as file:
            file.write(self.serialize_to_string())
        return name

    def _read(self, path: str | os.PathLike[str]) -> None:
        try:
            with open(path, encoding="utf-8") as file:
                text = file.read()
        except (OSError, ValueError) as error:
            raise UserError(f"{os.fspath(path)!r} can't be read: {error}") from None
        content = _parsed(text, os.fspath(path))
        found = content.get("dependencies", []) if isinstance(content, dict) else None
        if not isinstance(content, dict) or not isinstance(found, list):
            raise UserError(
                f"{os.fspath(path)!r} is no conda environment file: it has no list 'dependencies'"
            )
        self._take(content)

    def _take(self, content: dict[str, Any]) -> None:
        for channel in content.get("channels") or ():
            self.add_channel(channel)
        for entry in content.get("dependencies", ()):
            if isinstance(entry, str):
                self.add_conda_package(entry)
                continue
            for line in (entry or {}).get("pip") or ():
                if line.startswith("-"):
                    self.set_pip_option(line)
                else:
                    self.add_pip_package(line)


def _parsed(text: str, path: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        pass
    try:
        import yaml  # type: ignore[import-untyped]
    except ImportError:
        raise UserError(
            f"to read {path!r} runstream needs PyYAML (pip install pyyaml); or name the packages with "
            "CondaDependencies.create(...)"
        ) from None
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"{path!r} is no YAML: {error}") from None


def _packages(what: str, given: Iterable[str] | None) -> list[str]:
    if isinstance(given, str):
        raise UserError(f"{what} is a list of packages, not the text {given!r:.100}")
    return list(given or ())


def _package(given: Any) -> str:
    if not isinstance(given, str) or not given.strip() or "\n" in given:
        raise UserError(f"a package is a text such as 'numpy' or 'numpy==2.1', not {given!r:.100}")
    return given.strip()


def _name(package: str) -> str:
    found = _NAME.match(package)
    return found.group().lower().replace("_", "-") if found else package
