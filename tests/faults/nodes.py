"""Machines of a cluster as network namespaces: each has its own network, host name, home and spool."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from deploy.engines.process import ROOT
from tests.server import Place

_NAMED = 'hostname "$0" && exec "$@"'


def why_not() -> str:
    """Why there can be no nodes here; empty when there can."""
    if sys.platform != "linux":
        return "network namespaces are Linux's"
    if os.geteuid() != 0:
        return "making network namespaces needs root"
    for need in ("ip", "unshare"):
        if shutil.which(need) is None:
            return f"{need} is not installed"
    tried = subprocess.run(["ip", "netns", "add", f"rs-{os.getpid()}"], capture_output=True, text=True)
    subprocess.run(["ip", "netns", "del", f"rs-{os.getpid()}"], capture_output=True)
    return tried.stderr.strip()


def ip(*arguments: str) -> None:
    """Runs `ip`."""
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


class Node:
    """One machine."""

    def __init__(self, root: Path, name: str, namespace: str, link: str) -> None:
        self.place = Place(root)
        self.name = name
        self._namespace = namespace
        self._link = link

    def start(self, arguments: Sequence[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
        """Runs Python on it."""
        command = ["ip", "netns", "exec", self._namespace, "unshare", "--uts", "sh", "-c", _NAMED, self.name]
        with (self.place.root / "out").open("ab") as out:
            return subprocess.Popen(
                [*command, sys.executable, *arguments],
                cwd=ROOT,
                env=self.place.environment(**environment),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )

    def vanish(self) -> None:
        """Pulls its cable."""
        ip("link", "set", self._link, "down")

    def return_(self) -> None:
        """Plugs it in again."""
        ip("link", "set", self._link, "up")


@contextmanager
def network(root: Path, count: int) -> Iterator[tuple[str, list[Node]]]:
    """Nodes on a network of their own with this machine, and this machine's address on it."""
    tag = f"{os.getpid() % 100_000:x}"
    subnet = f"10.{200 + os.getpid() % 50}.{os.getpid() // 50 % 250}"
    bridge = f"rsb{tag}"
    with ExitStack() as undo:
        ip("link", "add", bridge, "type", "bridge")
        undo.callback(ip, "link", "del", bridge)
        ip("address", "add", f"{subnet}.1/24", "dev", bridge)
        ip("link", "set", bridge, "up")
        nodes = []
        for number in range(1, count + 1):
            namespace, link = f"rs{tag}-{number}", f"rsl{tag}-{number}"
            ip("netns", "add", namespace)
            undo.callback(ip, "netns", "del", namespace)
            ip("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", namespace)
            ip("link", "set", link, "master", bridge, "up")
            ip("-n", namespace, "address", "add", f"{subnet}.{number + 1}/24", "dev", "eth0")
            for name in ("lo", "eth0"):
                ip("-n", namespace, "link", "set", name, "up")
            node = Node(root / f"node-{number}", f"node-{number}", namespace, link)
            undo.callback(node.place.close)
            nodes.append(node)
        yield f"{subnet}.1", nodes
