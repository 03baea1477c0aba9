"""`python -m runstream.azureml ARGUMENTS…` is `python ARGUMENTS…`, with the old names importable.

They are for all processes that the script starts as well, since the way to them is in PYTHONPATH.
"""

import os
import subprocess
import sys
from typing import Final

from runstream.azureml import python_path

_USAGE: Final = """\
usage: python -m runstream.azureml SCRIPT [ARGUMENT…]
       python -m runstream.azureml -m MODULE [ARGUMENT…]

Runs a script that imports azureml.core, azureml.widgets or azureml.exceptions, unchanged, on runstream."""


def main() -> int:
    """Become the script's interpreter; the exit code where that is not possible."""
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_USAGE, file=sys.stdout if arguments else sys.stderr)
        return 0 if arguments else 2
    if sys.flags.ignore_environment:
        print("python -m runstream.azureml needs PYTHONPATH, which -E and -I turn off", file=sys.stderr)
        return 2
    command = [sys.executable, *_options(arguments), *arguments]
    environment = {**os.environ, "PYTHONPATH": python_path()}
    if os.name != "posix":  # there `exec` would make a second process, and end this one before it
        return subprocess.call(command, env=environment)
    sys.stdout.flush()
    os.execve(sys.executable, command, environment)


def _options(arguments: list[str]) -> list[str]:
    """The interpreter's own options, as `-X dev` in `python -X dev -m runstream.azureml script.py`."""
    given = sys.orig_argv[1 : len(sys.orig_argv) - len(arguments)]
    return given[:-2] if given[-2:-1] == ["-m"] else given[:-1]


if __name__ == "__main__":
    sys.exit(main())
