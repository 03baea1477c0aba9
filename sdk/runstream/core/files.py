"""Files of a run: uploads, which wait for no server, and downloads."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final

from runstream.core import keeping, outputs, reads
from runstream.core.artifact import Artifact
from runstream.core.handle import RunHandle
from runstream.core.notices import say
from runstream.core.paths import artifact_path, local_target
from runstream.core.progress import Progress
from runstream.errors import NotFoundError, ServiceError, UserError
from runstream.spool.layout import clean

_OWN: Final = ".runstream/"
_WAIT_S: Final = 600.0  # for files that this process has just uploaded


class RunFiles(RunHandle):
    """Uploads and downloads of a run's files.

    An upload returns when the bytes are safe in the spool; the script may change or delete its file then. It
    waits for no server, and fails because of none.
    """

    # ---------------------------------------------------------------------------------- uploads

    def upload_file(
        self, name: str, path_or_stream: str | os.PathLike[str] | BinaryIO, datastore_name: str | None = None
    ) -> None:
        """Make a file, or what a binary stream gives, part of the run's record, under a name such as
        `outputs/model.pkl`.

        The same name again: the newest content counts, and the older stays as a version. A file that grows
        or changes while it is read is refused.

        Raises UserError for a name that leaves the run's tree, a file that can't be read or changes, a
        stream that gives no bytes. What only the tracker is at fault for (a full disk, the spool's cap) is
        told and counted, and raises nothing.
        """
        path = artifact_path(name)
        if isinstance(path_or_stream, str | os.PathLike):
            keeping.keep_path(self._state, path, path_or_stream)
        elif callable(getattr(path_or_stream, "read", None)):
            keeping.keep_stream(self._state, path, path_or_stream)
        else:
            raise UserError(
                f"upload_file takes a path or a binary stream, not {type(path_or_stream).__name__}"
            )

    def upload_files(
        self,
        names: Sequence[str],
        paths: Sequence[str | os.PathLike[str]],
        return_artifacts: bool = False,
        timeout_seconds: int | None = None,
        datastore_name: str | None = None,
    ) -> dict[str, Artifact] | None:
        """Upload several files: names in the run, and paths here. Of a name that is there twice the first
        counts.

        Raises TypeError when there are more of one than of the other; else as `upload_file`.
        """
        names, paths = _several("names", names), _several("paths", paths)
        if len(names) != len(paths):
            raise TypeError(f"{len(names)} names for {len(paths)} paths: there must be one for each")
        chosen: dict[str, Any] = {}
        for name, path in zip(names, paths, strict=True):
            if name in chosen:
                say(f"upload_files: {name!r} is there twice, the first is uploaded")
            chosen.setdefault(artifact_path(name), path)
        for name, path in chosen.items():
            self.upload_file(name, path)
        if not return_artifacts:
            return None
        return {name: Artifact(self._experiment.workspace, self.id, name) for name in chosen}

    def upload_folder(self, name: Any, path: Any, datastore_name: str | None = None) -> None:
        """Upload all files below a folder, under `name` and their paths in the folder.

        Raises UserError when it is no folder; else as `upload_file`.
        """
        top = (
            artifact_path(name.rstrip("/") if isinstance(name, str) else name)
            if name not in ("", ".")
            else ""
        )
        if not isinstance(path, str | os.PathLike) or not os.path.isdir(path):
            raise UserError(f"{path!r:.500} is no folder")
        for found, inner in outputs.files(os.fspath(path)):
            keeping.keep_path(self._state, artifact_path(f"{top}/{inner}" if top else inner), found)

    # -------------------------------------------------------------------------------- downloads

    def get_file_names(self) -> list[str]:
        """Names of the run's files, with all that this process has uploaded.

        Without a server, the process that began the run gives the names that it knows itself. Raises
        ServiceError when the server can't be asked.
        """
        state = self._state
        if state.silent:
            return sorted(name for name in keeping.kept(state) if not _is_own(name))
        try:
            return [artifact.path for artifact in self._list("") if not _is_own(artifact.path)]
        except ServiceError as error:
            if not state.facts.whole or isinstance(error, NotFoundError):  # it was deleted
                raise
            return sorted(name for name in keeping.kept(state) if not _is_own(name))

    def download_file(
        self,
        name: str,
        output_file_path: str | os.PathLike[str] | None = None,
        _validate_checksum: bool = True,
    ) -> None:
        """Download a file: to its last name in the working directory, into a folder, or to a path.

        It appears when it is whole and verified. Raises UserError when the run has no such file, ServiceError
        when the server can't be asked.
        """
        path = artifact_path(name)
        target = Path.cwd() if output_file_path is None else Path(output_file_path)
        ending = isinstance(output_file_path, str) and output_file_path.endswith(("/", os.sep))
        if target.is_dir() or ending:
            target = local_target(target, path.rpartition("/")[2])
        found = [artifact for artifact in self._list(path) if artifact.path == path]
        if not found:
            raise UserError(f"run {self.id} has no file {path!r}{self._near(path)}")
        with Progress(path, found[0].size) as progress:
            reads.client(self._experiment.workspace).download_artifact(
                self._experiment.workspace.name,
                self.id,
                path,
                target,
                version=found[0].version,
                progress=progress,
            )

    def download_files(
        self,
        prefix: str | None = None,
        output_directory: str | os.PathLike[str] | None = None,
        output_paths: Sequence[str] | None = None,
        batch_size: int = 100,
        append_prefix: bool = True,
        timeout_seconds: int | None = None,
    ) -> None:
        """Download the files whose names begin with `prefix` (default: all) below a folder (default: the
        working directory), with their folders; without the prefix unless `append_prefix`.

        `output_paths` gives a path for each file, in the order of their names. Raises UserError when their
        number is another; else as `download_file`.
        """
        if prefix is not None and not isinstance(prefix, str):
            raise UserError(f"prefix is the beginning of files' names, not {prefix!r:.100}")
        start = (prefix or "").removeprefix("./")
        found = [file for file in self._list(start) if not _is_own(file.path) or start.startswith(_OWN)]
        root = Path.cwd() if output_directory is None else Path(output_directory)
        if output_paths is None:
            inner = [a.path if append_prefix else _without(a.path, start) for a in found]
            targets = [local_target(root, path) for path in inner]
        elif len(output_paths) != len(found):
            raise UserError(f"{len(output_paths)} output_paths for {len(found)} files under {start!r}")
        else:
            targets = [root / path for path in output_paths]
        root.mkdir(parents=True, exist_ok=True)
        client, workspace = reads.client(self._experiment.workspace), self._experiment.workspace.name
        with Progress(start or self.id, sum(artifact.size for artifact in found)) as progress:
            for artifact, target in zip(found, targets, strict=True):
                client.download_artifact(
                    workspace, self.id, artifact.path, target, version=artifact.version, progress=progress
                )

    # ----------------------------------------------------------------------------------- reading

    def _list(self, prefix: str) -> list[Any]:
        positions, http = reads.flushed(self._state.target, _WAIT_S, files=True)
        client = reads.client(self._experiment.workspace, http)
        workspace = self._experiment.workspace.name
        return list(client.list_artifacts(workspace, self.id, clean(prefix), positions=positions))

    def _near(self, path: str) -> str:
        """The names that there are, for a message."""
        try:
            names = self.get_file_names()
        except (ServiceError, UserError):
            return ""
        alike = [name for name in names if name.rpartition("/")[2] == path.rpartition("/")[2]]
        shown = (alike or names)[:10]
        return f". It has {', '.join(shown)}{', …' if len(names) > len(shown) else ''}" if shown else ""

    def _before_end(self) -> None:
        outputs.capture(self._state)


def _is_own(name: str) -> bool:
    """Whether it is one of runstream's own files, such as a snapshot, which have calls of their own."""
    return name.startswith(_OWN)


def _several(what: str, given: Any) -> list[Any]:
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        raise UserError(f"{what} is a list, not {given!r:.100}")
    return list(given)


def _without(path: str, prefix: str) -> str:
    """A path without a prefix, as far as whole parts of it go."""
    folder = prefix if prefix.endswith("/") else prefix + "/"
    if path.startswith(folder):
        return path.removeprefix(folder)
    return path.removeprefix(prefix.rpartition("/")[0] + "/") if "/" in prefix else path
