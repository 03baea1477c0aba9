"""JupyterLab for tests: a server in the folder of a place, and a notebook in the browser."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import nbformat

from tests.server import Place, wait_for


@contextmanager
def jupyter(place: Place) -> Iterator[tuple[str, str]]:
    """Base address of a running JupyterLab, and its token. Its kernels are users of the place."""
    token = secrets.token_hex(8)
    room = place.root / "jupyter"
    runtime = room / "runtime"
    log = room / "lab.out"
    room.mkdir()
    settings = room / "config" / "lab" / "user-settings" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    # No question about news, which would ask the internet.
    (settings / "notification.jupyterlab-settings").write_text(
        '{"fetchNews": "false", "checkForUpdates": false}'
    )
    environment = place.environment(
        JUPYTER_CONFIG_DIR=str(room / "config"),
        JUPYTER_DATA_DIR=str(room / "data"),
        JUPYTER_RUNTIME_DIR=str(runtime),
        JUPYTERLAB_SETTINGS_DIR=str(room / "config" / "lab" / "user-settings"),
        JUPYTERLAB_WORKSPACES_DIR=str(room / "workspaces"),
        IPYTHONDIR=str(room / "ipython"),
        RUNSTREAM_WORKSPACE="lab",
    )
    options = ["--no-browser", "--port=0", "--ip=127.0.0.1", f"--IdentityProvider.token={token}"]
    if os.geteuid() == 0:
        options.append("--allow-root")
    with open(log, "wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *options, f"--notebook-dir={place.work}"],
            env=environment,
            cwd=place.work,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
        )

    def listens() -> str:
        assert process.poll() is None, log.read_text()
        for file in runtime.glob("jpserver-*.json"):
            try:
                base = str(json.loads(file.read_text())["url"]).rstrip("/")
                with urlopen(f"{base}/api?token={token}", timeout=5):
                    return base
            except (URLError, OSError, ValueError):
                return ""
        return ""

    try:
        yield wait_for(listens, f"JupyterLab; its log is {log}"), token
    finally:
        process.terminate()  # its kernels end with it
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def notebook(path: Path, cells: Sequence[str]) -> None:
    """Writes a notebook of code cells."""
    made = nbformat.v4.new_notebook(
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    )
    made.cells = [nbformat.v4.new_code_cell(cell) for cell in cells]
    nbformat.write(made, path)
