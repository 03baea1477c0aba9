"""Scripts in workspaces of their own, of one user at one server."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.server import Place, wait_for

HEAD = """
import json, os, sys, time
from runstream import Experiment, Run, Workspace, get_run
from runstream.exceptions import (
    ActivityFailedException, ServiceException, UserErrorException, WorkspaceException,
)
ws = Workspace.from_config()
experiment = Experiment(ws, "family")
"""


class Desk:
    """A workspace of the place."""

    def __init__(self, place: Place, name: str) -> None:
        self.place = place
        self.environment = {"RUNSTREAM_WORKSPACE": name}

    def script(self, code: str, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        """A script, to its end."""
        path = self.place.work / "script.py"
        path.write_text(HEAD + code)
        return self.place.python([str(path), *arguments], {**self.environment, **more})

    def runstream(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        """The command line."""
        return self.place.runstream(*arguments, **self.environment, **more)

    def start(self, code: str, *arguments: str, **more: str) -> subprocess.Popen[str]:
        """A script that goes on."""
        return subprocess.Popen(
            [sys.executable, "-c", HEAD + code, *arguments],
            env=self.place.environment(**self.environment, **more),
            cwd=self.place.work,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def listed(self, run_id: str) -> dict[str, object]:
        """What `runstream runs` says of a run; empty when it does not list it yet."""
        out = self.runstream("runs", "--json")
        assert out.returncode == 0, out.stderr
        return next(
            (run for line in out.stdout.splitlines() if (run := json.loads(line))["id"] == run_id), {}
        )

    def ended(self, run_id: str) -> dict[str, object]:
        """The same of a run that is over; waits for that."""

        def over() -> dict[str, object]:
            found = self.listed(run_id)
            return found if found.get("status") in ("Completed", "Failed", "Canceled") else {}

        return wait_for(over, "the end")
