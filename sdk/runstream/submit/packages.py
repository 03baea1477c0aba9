"""What a made environment has, in a form that is the same whenever the content is."""

import re
from importlib import metadata
from typing import Final, NamedTuple

from runstream.core.conda_dependencies import CondaDependencies

# What the old SDK was installed as: runstream stands for it.
_OLD: Final = re.compile(r"azureml[\w.\-]*(\[.*?\])?\s*([=<>!~].*)?", re.IGNORECASE)
_CONDA_VERSION: Final = re.compile(r"([A-Za-z0-9][\w.\-]*)\s*(=(?!=)\s*([\w.*]+)(=.*)?)?(.*)")


class Packages(NamedTuple):
    """Sorted lists of requirements."""

    python: str | None
    conda: list[str]
    pip: list[str]
    options: list[str]  # of requirements files, in their order
    channels: list[str]
    client: list[str]  # what runstream itself needs; empty when it is among the others

    def conda_as_pip(self) -> list[str]:
        """The conda packages as pip may know them: `numpy=1.26` → `numpy==1.26.*`."""
        return [_as_pip(package) for package in self.conda if package.lower() != "pip"]


def packages_of(given: CondaDependencies) -> Packages:
    """What is asked for; packages of the old SDK are left out."""
    pip = sorted(package for package in given.pip_packages if not _OLD.fullmatch(package))
    has_client = any(re.match(r"runstream\b", package, re.IGNORECASE) for package in pip)
    client = [] if has_client else _needs()
    conda = sorted(package for package in given.conda_packages if not _OLD.fullmatch(package))
    return Packages(given.python_version, conda, pip, given.pip_options, given.conda_channels, client)


def _needs() -> list[str]:
    """What the client is installed with, without its extras."""
    try:
        found = metadata.requires("runstream") or []
    except metadata.PackageNotFoundError:
        found = []
    return sorted(line for line in found if "extra ==" not in line)


def _as_pip(package: str) -> str:
    found = _CONDA_VERSION.fullmatch(package)
    if found is None or not found.group(3):
        return package
    version = found.group(3)
    return f"{found.group(1)}=={version}" if version.endswith("*") else f"{found.group(1)}=={version}.*"
