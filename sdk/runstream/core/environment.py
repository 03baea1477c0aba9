"""Environments: the interpreter, packages and variables that a submitted script runs with."""

import os
from typing import Any

from runstream.core import registered, values
from runstream.core.conda_dependencies import CondaDependencies
from runstream.core.guarded import Guarded
from runstream.core.workspace import Workspace
from runstream.errors import UserError


class PythonSection(Guarded):
    """Which Python runs the script.

    `user_managed_dependencies`: the interpreter at `interpreter_path` is used as it is. Else one is made that
    has `conda_dependencies`, once, and kept for all runs that want the same.
    """

    def __init__(self) -> None:
        self.user_managed_dependencies = False
        self.interpreter_path = "python"
        self.conda_dependencies: CondaDependencies | None = None
        self.conda_dependencies_file: str | None = None
        self._seal()


class DockerSection(Guarded):
    """Kept with the run and shown; a local run uses no container."""

    def __init__(self) -> None:
        self.enabled = False
        self.base_image: str | None = None
        self.base_dockerfile: str | None = None
        self.shared_volumes = True
        self.shm_size: str | None = None
        self.gpu_support = True
        self.arguments: list[str] = []
        self._seal()


class Environment(Guarded):
    """A named environment.

    A new one that nothing is set in is the interpreter of the process that submits. Assigning an attribute
    that does not exist raises AttributeError.
    """

    def __init__(self, name: str, **_: Any) -> None:
        if not values.is_id(name, 255):
            raise UserError(f"the name of an environment is a text of 1 to 255 characters, not {name!r:.100}")
        self.name = name
        self.version: str | None = None
        self.python = PythonSection()
        self.docker = DockerSection()
        self.environment_variables: dict[str, str] = {}
        self._seal()

    @staticmethod
    def from_pip_requirements(
        name: str, file_path: str | os.PathLike[str], pip_version: str | None = None
    ) -> "Environment":
        """With the packages of a requirements file. Raises UserError when it can't be read."""
        try:
            with open(file_path, encoding="utf-8") as file:
                lines = file.read().replace("\\\n", " ").splitlines()
        except (OSError, ValueError) as error:
            raise UserError(f"{os.fspath(file_path)!r} can't be read: {error}") from None
        folder = os.path.dirname(os.path.abspath(file_path))
        packages = CondaDependencies()
        for line in (line.partition(" #")[0].strip() for line in lines):
            if not line or line.startswith("#"):
                continue
            if line.startswith("-"):
                packages.set_pip_option(_from_here(line, folder))
            else:
                packages.add_pip_package(line)
        return Environment._with(name, packages)

    @staticmethod
    def from_conda_specification(name: str, file_path: str | os.PathLike[str]) -> "Environment":
        """With the packages of a conda environment file. Raises UserError when it can't be read."""
        return Environment._with(name, CondaDependencies(file_path))

    @staticmethod
    def from_existing_conda_environment(name: str, conda_environment_name: str) -> "Environment":
        """Refused: give the interpreter of that environment instead."""
        raise UserError(
            "runstream copies no conda environment: set python.user_managed_dependencies = True and "
            f"python.interpreter_path to the interpreter of {conda_environment_name!r}"
        )

    @staticmethod
    def _with(name: str, packages: CondaDependencies) -> "Environment":
        made = Environment(name)
        made.python.conda_dependencies = packages
        return made

    # ------------------------------------------------------------------------------ registered

    def register(self, workspace: Workspace) -> "Environment":
        """Keep it under its name, as the next version, for this user on this machine: no server is asked.

        One that says the same as the last version is that version. Returns it, with its number. Raises
        UserError when it can't be kept.
        """
        if not isinstance(workspace, Workspace):
            raise UserError(f"an environment is registered in a Workspace, not in {workspace!r:.100}")
        try:
            number = registered.keep(workspace.name, self.name, self._spec())
        except (OSError, TypeError) as error:
            raise UserError(f"environment {self.name!r} can't be kept: {error}") from None
        made = self.clone(self.name)
        made.version = str(number)
        return made

    @staticmethod
    def get(workspace: Workspace, name: str, version: str | int | None = None) -> "Environment":
        """One that was registered, by default its newest version. Raises UserError when there is none."""
        if not isinstance(workspace, Workspace):
            raise UserError(f"Environment.get needs a Workspace, not {workspace!r:.100}")
        there = registered.versions(workspace.name, name) if values.is_id(name, 255) else []
        wanted = str(len(there) if version is None else version)
        if not wanted.isdecimal() or not 1 <= int(wanted) <= len(there):
            which = "" if version is None else f" of version {version}"
            known = ", ".join(registered.names(workspace.name)) or "none"
            raise UserError(
                f"no environment {name!r:.300}{which} was registered in workspace {workspace.name!r} on this "
                f"machine; registered: {known}"
            )
        return Environment._of(there[int(wanted) - 1], wanted)

    @staticmethod
    def list(workspace: Workspace) -> "dict[str, Environment]":
        """Those that were registered, by name: of each the newest version."""
        if not isinstance(workspace, Workspace):
            raise UserError(f"Environment.list needs a Workspace, not {workspace!r:.100}")
        return {name: Environment.get(workspace, name) for name in registered.names(workspace.name)}

    def _spec(self) -> dict[str, Any]:
        """All that it says, for JSON."""
        python = _said(self.python)
        packages = self.python.conda_dependencies
        python["conda_dependencies"] = None if packages is None else packages.as_dict()
        return {"python": python, "docker": _said(self.docker), "variables": self.environment_variables}

    @staticmethod
    def _of(spec: dict[str, Any], version: str) -> "Environment":
        made = Environment(spec["name"])
        made.version = version
        for section, said in ((made.python, spec["python"]), (made.docker, spec["docker"])):
            for name, value in said.items():
                setattr(section, name, value)
        packages = spec["python"]["conda_dependencies"]
        made.python.conda_dependencies = None if packages is None else CondaDependencies.of_dict(packages)
        made.environment_variables = dict(spec["variables"])
        return made

    def clone(self, new_name: str) -> "Environment":
        """A copy under another name."""
        import copy

        made = copy.deepcopy(self)
        made.name = new_name
        return made


def _said(section: Guarded) -> dict[str, Any]:
    return {name: value for name, value in vars(section).items() if not name.startswith("_")}


def _from_here(option: str, folder: str) -> str:
    """`-r other.txt` and the like name files beside the file they stand in."""
    word, _, rest = option.replace("=", " ", 1).partition(" ")
    if word in ("-r", "--requirement", "-c", "--constraint", "-e", "--editable") and "://" not in rest:
        return f"{word} {os.path.join(folder, rest.strip())}"
    return option
