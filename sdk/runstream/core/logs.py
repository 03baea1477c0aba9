"""What a run has printed, and the text files that it wrote into its folder of logs."""

import os
import sys
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Final
from urllib.parse import quote

from runstream.core import reads
from runstream.core.reading import RunReading
from runstream.errors import RunstreamError, UserError

_PREFERRED: Final = ("user_logs/std_log.txt", "logs/user_log.txt")
_MOST_TEXT: Final = 16 << 20  # of a log that is given as a value


class RunLogs(RunReading):
    """Reads the logs of a run. What this process has printed is included.

    All raise ServiceError when the server can't be asked, and NotFoundError for a run that it doesn't know.
    """

    def get_all_logs(self, destination: str | os.PathLike[str] | None = None) -> list[str]:
        """Download the logs as far as they are, and return the paths of the files.

        `destination` is a folder, made when it is missing; by default one among the temporary files.
        """
        if destination is not None and not isinstance(destination, (str, os.PathLike)):
            raise UserError(f"destination is the path of a folder, not {destination!r:.100}")
        if self._state.silent:
            return []
        paths = self._log_paths()
        folder = Path(destination) if destination is not None else Path(mkdtemp(prefix=f"{self.id}-"))
        written = []
        for path in paths:
            place = folder / path
            place.parent.mkdir(parents=True, exist_ok=True)
            with open(place, "wb") as file:
                for part in self._client().read_log(self._workspace, self.id, path):
                    file.write(part.data)
            written.append(str(place))
        return written

    def get_details_with_logs(self) -> dict[str, Any]:
        """`get_details()`, with the logs' texts instead of their addresses; the end of very long ones."""
        details = self.get_details()
        details["logFiles"] = {path: self._log_text(path) for path in details["logFiles"]}
        return details

    def _follower(self) -> "LogFollower":
        """What shows the log while somebody waits."""
        return LogFollower(self)

    def _log_text(self, path: str) -> str:
        parts = self._client().read_log(self._workspace, self.id, path, tail_bytes=_MOST_TEXT)
        return b"".join(part.data for part in parts).decode("utf-8", "replace")

    def _log_files(self) -> dict[str, str]:
        """Names of the logs, and where to get them. Empty when the server can't be asked."""
        if self._state.silent:
            return {}
        try:
            paths = self._log_paths()
        except RunstreamError:
            return {}
        page = reads.portal_url(self._experiment.workspace, self.id)
        return {path: f"{page}/logs/{quote(path)}" for path in paths}

    def _log_paths(self) -> list[str]:
        positions, _ = reads.flushed(self._state.target, logs=True)
        found = self._client().list_logs(self._workspace, self.id, positions=positions)
        return [log.path for log in found.logs]

    @property
    def _workspace(self) -> str:
        return self._experiment.workspace.name

    def _client(self) -> Any:
        return reads.client(self._experiment.workspace)


class LogFollower:
    """Prints a run's log as it grows: what its launcher keeps of its output, else what it printed itself."""

    def __init__(self, run: RunLogs) -> None:
        self._run = run
        self._path = ""
        self._token = ""
        self._ended = False

    def show(self) -> None:
        """Print what is new. What goes wrong with that is no reason to stop waiting for the run."""
        try:
            self._show()
        except (RunstreamError, OSError):
            return

    def end(self) -> None:
        """Print the rest: the run is over."""
        self.show()

    def _show(self) -> None:
        client = self._run._client()
        if not self._path:
            found = client.list_logs(self._run._workspace, self._run.id).logs
            self._path = choose([log.path for log in found])
            if not self._path:
                return
            print(f"Streaming {self._path}\n{'=' * (10 + len(self._path))}\n", flush=True)
        while not self._ended:
            page = client.read_log_page(self._run._workspace, self._run.id, self._path, token=self._token)
            for part in page.parts:
                sys.stdout.write(part.data.decode("utf-8", "replace"))
            sys.stdout.flush()
            self._token, self._ended = page.next_page_token, not page.next_page_token
            if not page.more:
                return


def choose(paths: list[str]) -> str:
    """The log that people mean when they name none; empty when there is none."""
    for path in (*_PREFERRED, *sorted(paths)):
        if path in paths:
            return path
    return ""
