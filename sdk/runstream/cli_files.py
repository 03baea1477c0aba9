"""`runstream artifacts` and `runstream download`: the files of a run."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from runstream.cli_read import (
    NOT_FOUND,
    CommandError,
    chosen_workspace,
    connected,
    wait_for_local,
)
from runstream.cli_table import print_table

if TYPE_CHECKING:
    from runstream.cli_read import Commands
    from runstream.client import Client
    from runstream.v1.artifact_service_pb2 import Artifact


def register(commands: Commands) -> None:
    """Add the commands."""
    artifacts = commands.add_parser("artifacts", help="list the files of a run")
    artifacts.add_argument("id", metavar="RUN", help="id of the run")
    artifacts.add_argument("prefix", metavar="PREFIX", nargs="?", default="", help="only names that begin so")
    artifacts.add_argument("--versions", action="store_true", help="older contents too")
    artifacts.add_argument("--json", action="store_true", help="a JSON object a line")
    artifacts.set_defaults(run=_artifacts)

    download = commands.add_parser("download", help="download files of a run")
    download.add_argument("id", metavar="RUN", help="id of the run")
    download.add_argument("prefix", metavar="PREFIX", nargs="?", default="", help="only names that begin so")
    download.add_argument(
        "-o",
        "--output",
        metavar="DIR",
        default=".",
        help="folder to write to (default: the working directory)",
    )
    download.set_defaults(run=_download)
    for command in artifacts, download:
        command.add_argument("--workspace", metavar="NAME", help="default: the configuration's, else local")
        command.add_argument("--server", metavar="HOST:PORT", help="default: as a script would find it")


def _artifacts(arguments: argparse.Namespace) -> int:
    with connected(arguments.server) as client:
        wait_for_local(arguments.server, files=True)
        found = list(_found(client, arguments, all_versions=arguments.versions))
    if arguments.json:
        for artifact in found:
            print(json.dumps(_described(artifact), ensure_ascii=False))
        return 0
    rows = [
        (
            artifact.path,
            f"{artifact.size:,}",
            _time(artifact).strftime("%Y-%m-%d %H:%M:%S"),
            f"{artifact.version}" if artifact.versions > 1 else "",
            artifact.sha256.hex()[:12],
        )
        for artifact in found
    ]
    print_table(("FILE", "BYTES", "UPLOADED", "VERSION", "SHA-256"), rows, right=(1,))
    return 0


def _download(arguments: argparse.Namespace) -> int:
    from runstream.core.paths import local_target
    from runstream.core.progress import Progress

    with connected(arguments.server) as client:
        wait_for_local(arguments.server, files=True)
        found = list(_found(client, arguments))
        workspace = chosen_workspace(arguments) or "local"
        with Progress(arguments.id, sum(artifact.size for artifact in found)) as progress:
            for artifact in found:
                target = local_target(arguments.output, artifact.path)
                try:
                    client.download_artifact(
                        workspace,
                        arguments.id,
                        artifact.path,
                        target,
                        version=artifact.version,
                        progress=progress,
                    )
                except OSError as error:
                    raise CommandError(f"{target} can't be written: {error.strerror or error}") from error
                print(target)
    return 0


def _found(client: Client, arguments: argparse.Namespace, **more: Any) -> Iterator[Artifact]:
    workspace = chosen_workspace(arguments) or "local"
    nothing = True
    for artifact in client.list_artifacts(workspace, arguments.id, arguments.prefix, **more):
        nothing = False
        yield artifact
    if nothing:
        client.get_run(workspace, arguments.id)  # an unknown run is told as that
        under = f" whose name begins with {arguments.prefix!r}" if arguments.prefix else ""
        raise CommandError(f"run {arguments.id} has no file{under}", NOT_FOUND)


def _described(artifact: Artifact) -> dict[str, Any]:
    return {
        "path": artifact.path,
        "size": artifact.size,
        "sha256": artifact.sha256.hex(),
        "media_type": artifact.media_type,
        "uploaded": _time(artifact).isoformat(),
        "version": artifact.version,
        "versions": artifact.versions,
    }


def _time(artifact: Artifact) -> datetime:
    return datetime.fromtimestamp(artifact.time_ns / 1e9, UTC)
