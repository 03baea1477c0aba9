"""The interpreter of an environment: one that is there, or one that is made once and kept by its content."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from runstream import home
from runstream.core import notices
from runstream.core.conda_dependencies import CondaDependencies
from runstream.core.environment import Environment
from runstream.errors import RunConfigurationError
from runstream.submit.packages import Packages, packages_of

_FORMAT: Final = 1
_LOOK_S: Final = 0.1
_THIS: Final = "python"  # the default path: whichever interpreter submits

Spec = Mapping[str, Any]


class Progress:
    """Where the making of an environment tells what it does, and how it learns that it is to stop."""

    def __init__(self, log: Path, check: Callable[[], None]) -> None:
        """`check` is called several times a second, and raises what ends the making."""
        self.log = log
        self.check = check

    def say(self, line: str) -> None:
        """A line for the person who waits."""
        with open(self.log, "a", encoding="utf-8") as file:
            file.write(line + "\n")

    def run(self, command: Sequence[str]) -> None:
        """Run a command. Raises RunConfigurationError when it can't be, or fails."""
        self.say(f"$ {' '.join(command)}")
        kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")}
        with open(self.log, "ab", buffering=0) as output:
            before = output.tell()
            try:
                process = subprocess.Popen(
                    command,
                    env=kept,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            except OSError as error:
                raise RunConfigurationError(f"{command[0]} can't be started: {error}") from None
            try:
                while process.poll() is None:
                    self.check()
                    time.sleep(_LOOK_S)
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)  # with what builds packages for it
                    process.wait()
        if process.returncode:
            said = self.log.read_bytes()[before:].decode("utf-8", "replace")
            raise RunConfigurationError(
                f"the environment can't be made: {Path(command[0]).name} ended with {process.returncode}\n"
                + "\n".join(said.splitlines()[-20:])
            )


def describe(environment: Environment) -> dict[str, Any]:
    """What an environment asks for, to be written down. Raises RunConfigurationError when it can't be met."""
    python = environment.python
    spec: dict[str, Any] = {"name": environment.name}
    if python.user_managed_dependencies:
        spec["interpreter"] = _interpreter(str(python.interpreter_path))
        return spec
    packages = python.conda_dependencies
    if packages is None and python.conda_dependencies_file:
        packages = CondaDependencies(python.conda_dependencies_file)
    if packages is None:
        spec["interpreter"] = _interpreter(_THIS)
        return spec
    if packages.conda_packages and _conda() is None:
        notices.say(_no_conda(packages.conda_packages))
    spec["packages"] = packages_of(packages)._asdict()
    return spec


def prepare(spec: Spec, progress: Progress) -> str:
    """Path of the interpreter, which is made when it is missing; that may take minutes.

    Raises RunConfigurationError with the reason when it can't be.
    """
    if "interpreter" in spec:
        return str(spec["interpreter"])
    packages = Packages(**spec["packages"])
    key = json.dumps([_FORMAT, packages, sys.version_info[:2], sys.platform, _conda() is not None])
    folder = home.home() / "environments" / home.digest(key.encode(), 12)
    python = folder / "bin" / "python"
    folder.parent.mkdir(mode=0o700, exist_ok=True)
    with _alone(folder.with_suffix(".lock"), progress.check):
        if (folder / "ready").exists() and python.exists():
            progress.say(f"environment {spec['name']!r} is there: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)  # begun by somebody who did not come to its end
            progress.say(f"environment {spec['name']!r} is made: {folder}")
            _make(packages, folder, python, progress)
            (folder / "ready").touch()
    return str(python)


def _interpreter(path: str) -> str:
    if path == _THIS:
        if not sys.executable:
            raise RunConfigurationError("this process has no interpreter of its own: set interpreter_path")
        return sys.executable
    found = shutil.which(os.path.expanduser(path))
    if found is None:
        raise RunConfigurationError(f"there is no interpreter {path!r} (python.interpreter_path)")
    return os.path.abspath(found)


def _make(packages: Packages, folder: Path, python: Path, progress: Progress) -> None:
    conda, uv = _conda(), _uv()
    this = f"{sys.version_info[0]}.{sys.version_info[1]}"
    requirements = [*packages.options, *packages.pip, *packages.client]
    if packages.conda and conda is not None:
        channels = [word for channel in packages.channels for word in ("-c", channel)]
        wanted = [f"python={packages.python or this}", "pip", *packages.conda]
        progress.run([conda, "create", "--yes", "--prefix", str(folder), *channels, *wanted])
    else:
        if packages.conda:
            progress.say(f"warning: {_no_conda(packages.conda)}")
            requirements += packages.conda_as_pip()
        if uv:
            progress.run([uv, "venv", "--quiet", "--python", packages.python or sys.executable, str(folder)])
        elif packages.python and not f"{sys.version.split()[0]}.".startswith(f"{packages.python}."):
            raise RunConfigurationError(
                f"Python {packages.python} is wanted and this is {sys.version.split()[0]}: "
                "install uv (pip install uv), which gets it, or leave python_version out"
            )
        else:
            progress.run([sys.executable, "-m", "venv", str(folder)])
    listed = folder / "requirements.txt"
    listed.write_text("\n".join(requirements) + "\n", encoding="utf-8")
    pip = [uv, "pip", "install", "--python", str(python)] if uv else [str(python), "-m", "pip", "install"]
    progress.run([*pip, "-r", str(listed)])
    if packages.client:
        _lend_client(folder, python)


def _no_conda(packages: Sequence[str]) -> str:
    return (
        f"neither micromamba nor conda is installed: pip installs {', '.join(packages)} under the same "
        "names, which may be other builds, or other packages"
    )


def _lend_client(folder: Path, python: Path) -> None:
    """Let the environment import this very runstream: the one that reads what the script logs."""
    lent = folder / "runstream-client"
    lent.mkdir(exist_ok=True)
    (lent / "runstream").symlink_to(Path(__file__).parents[1])
    asked = [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    site = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    (Path(site) / "runstream-client.pth").write_text(f"{lent}\n", encoding="utf-8")


def _uv() -> str | None:
    found = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
    if found:
        return found
    try:
        from uv import find_uv_bin

        return str(find_uv_bin())
    except (ImportError, FileNotFoundError):
        return None


def _conda() -> str | None:
    for name in ("micromamba", "mamba", "conda"):
        found = shutil.which(name)
        if found:
            return found
    return None


@contextmanager
def _alone(path: Path, check: Callable[[], None]) -> Iterator[None]:
    """Of several processes that want one environment one makes it, and the others wait."""
    import fcntl

    with open(path, "w", encoding="utf-8") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                check()
                time.sleep(_LOOK_S)
        yield
