"""`runstream doctor`: what a script that starts here would meet, from its spool to its server."""

from __future__ import annotations

import argparse
import email.utils
import json
import os
import platform
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import ProxyHandler, Request, build_opener

from runstream import __version__, home
from runstream.cli_read import FAILED, UNREACHABLE
from runstream.cli_table import GREEN, RED, YELLOW, coloured
from runstream.errors import RunstreamError

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

OK: Final = "ok"
WARNING: Final = "warning"
WRONG: Final = "wrong"

_TIMEOUT_S: Final = 5.0
_MOST_SKEW_S: Final = 5.0
_LITTLE_SPACE: Final = 1 << 30
_NO_SPACE: Final = 64 << 20


class Check(NamedTuple):
    """One thing that was looked at."""

    name: str
    state: str
    """ok, warning or wrong."""
    detail: str
    advice: str = ""
    """What to do, when it is not ok."""


def register(commands: Commands) -> None:
    """Add the command."""
    doctor = commands.add_parser("doctor", help="look at server, spool, sender, versions, clock and disk")
    doctor.add_argument("--server", metavar="HOST:PORT", help="default: as a script would find it")
    doctor.add_argument("--json", action="store_true", help="a JSON object a line")
    doctor.set_defaults(run=_doctor)


def _doctor(arguments: argparse.Namespace) -> int:
    checks = []
    for check in examine(arguments.server):
        checks.append(check)
        if arguments.json:
            print(json.dumps(check._asdict(), ensure_ascii=False), flush=True)
        else:
            print(f"{_mark(check.state)} {check.name:<9} {check.detail}", flush=True)
            if check.advice and check.state != OK:
                print(f"  {'':<9} → {check.advice}", flush=True)
    if any(check.name == "server" and check.state == WRONG for check in checks):
        return UNREACHABLE
    return FAILED if any(check.state == WRONG for check in checks) else 0


def _mark(state: str) -> str:
    mark, colour = {OK: ("✓", GREEN), WARNING: ("!", YELLOW), WRONG: ("✗", RED)}[state]
    return coloured(mark, colour)


def examine(server: str | None = None) -> Iterator[Check]:
    """All checks, each when it is done. Starts nothing."""
    yield Check("client", OK, f"runstream {__version__}, Python {platform.python_version()}, {sys.platform}")
    yield _mode()
    yield _configuration()
    target = home.resolve_server(server)
    if target is None:
        yield Check(
            "server",
            WRONG,
            "none is known",
            "start one with `runstream up`, or name one in RUNSTREAM_SERVER; until then records are kept",
        )
    else:
        yield from _server(target)
    yield from _spool()


def _mode() -> Check:
    told = os.environ.get("RUNSTREAM_MODE") or "online"
    if told in ("offline", "disabled"):
        return Check("mode", WARNING, f"RUNSTREAM_MODE is {told}", "unset it to have runs delivered")
    if told != "online":
        return Check("mode", WRONG, f"RUNSTREAM_MODE is {told!r}", "it can be online, offline or disabled")
    return Check("mode", OK, "online")


def _configuration() -> Check:
    path = home.find_config()
    name = os.environ.get("RUNSTREAM_WORKSPACE")
    if path is None:
        return Check("config", OK, f"no file from here upwards: workspace {name or 'local'}")
    try:
        config = home.load_config(path)
    except (OSError, ValueError) as error:
        return Check("config", WRONG, str(error), "mend the file, or take it away")
    return Check("config", OK, f"{path}: workspace {name or config.workspace_name or 'local'}")


# --------------------------------------------------------------------------------------- server


def _server(target: home.Target) -> Iterator[Check]:
    key = f"key from {target.token_source}" if target.token else "no key"
    place = f"{target.http} (from {target.source}, {key})"
    began = time.time()
    try:
        status, headers = _get(f"{target.http}/healthz")
    except OSError as error:
        reason = getattr(error, "reason", None) or error
        advice = target.advice()
        yield Check("server", WRONG, f"{place} can't be reached: {reason}", advice)
        return
    ended = time.time()
    if status != 200:
        yield Check("server", WRONG, f"{place} is not well: HTTP {status}", "its log says why")
        return
    try:
        _ask(target)
    except RunstreamError as error:
        yield Check("server", WRONG, f"{place} refuses: {error}", "RUNSTREAM_API_KEY or api_key_file")
        return
    yield Check("server", OK, f"{place} answers in {(ended - began) * 1000:.0f} ms")
    version = headers.get("runstream-version")
    if version and version != __version__:
        yield Check(
            "version",
            WARNING,
            f"the server is runstream {version}, this is {__version__}",
            "bring both to one version",
        )
    elif version:
        yield Check("version", OK, f"the server is runstream {version}, too")
    yield _clock(headers.get("date"), began, ended)


def _get(url: str) -> tuple[int, dict[str, str]]:
    from runstream.connections import proxy_of

    address = urlsplit(url)
    direct = proxy_of(address.scheme, address.hostname or "") is None
    opener = build_opener(ProxyHandler({})) if direct else build_opener()
    try:
        with opener.open(Request(url), timeout=_TIMEOUT_S) as answer:
            return answer.status, {name.lower(): value for name, value in answer.headers.items()}
    except HTTPError as error:
        with error:
            return error.code, {}


def _ask(target: home.Target) -> None:
    from runstream.client import Client

    with Client(target.http, target.token, timeout_s=_TIMEOUT_S) as client:
        next(client.search_runs(limit=1, timeout_s=_TIMEOUT_S), None)


def _is_local(url: str) -> bool:
    return (urlsplit(url).hostname or "") in ("localhost", "127.0.0.1", "::1")


def _clock(date: str | None, began: float, ended: float) -> Check:
    """The server tells whole seconds."""
    try:
        theirs = email.utils.parsedate_to_datetime(date or "").timestamp()
    except (TypeError, ValueError):
        return Check("clock", WARNING, "the server does not tell its time")
    ahead = began - (theirs + 1) if began > theirs + 1 else min(0.0, ended - theirs)
    if abs(ahead) > _MOST_SKEW_S:
        way = "ahead of" if ahead > 0 else "behind"
        return Check(
            "clock",
            WARNING,
            f"this machine is {abs(ahead):.0f} s {way} the server",
            "set the clocks by NTP: points without a step are ordered by time",
        )
    return Check("clock", OK, "within a second or so of the server's")


# ---------------------------------------------------------------------------------------- spool


def _spool() -> Iterator[Check]:
    from runstream.core.mode import offline_root
    from runstream.spool.folder import spool_root
    from runstream.spool.listing import find_writers

    try:
        root = spool_root()
    except OSError as error:
        yield Check("spool", WRONG, f"there is no place for it: {error}", "set RUNSTREAM_SPOOL")
        return
    writers = list(find_writers(root))
    yield Check("spool", OK, f"{root}: {_bytes(_size(writers))} of {len(writers):,} processes")
    yield _space(root)
    yield _sender(root, bool(writers))
    try:
        waiting = list(find_writers(offline_root()))
    except OSError:
        waiting = []
    if waiting:
        yield Check(
            "offline",
            WARNING,
            f"{_bytes(_size(waiting))} of {len(waiting):,} processes wait in {offline_root()}",
            "`runstream sync` delivers them",
        )


def _size(folders: list[Path]) -> int:
    total = 0
    for folder in folders:
        for path in folder.iterdir():
            try:
                found = path.stat()
            except OSError:  # just delivered
                continue
            total += getattr(found, "st_blocks", found.st_size // 512) * 512
    return total


def _space(root: Path) -> Check:
    free = shutil.disk_usage(root).free
    if free < _NO_SPACE:
        return Check(
            "disk", WRONG, f"{_bytes(free)} free at {root}", "make room: calls are dropped and counted"
        )
    if free < _LITTLE_SPACE:
        return Check("disk", WARNING, f"{_bytes(free)} free at {root}", "make room, or set RUNSTREAM_SPOOL")
    return Check("disk", OK, f"{_bytes(free)} free at {root}")


def _sender(root: Path, needed: bool) -> Check:
    from runstream.sender.ask import NoSenderError, ask

    log = home.sender_log(root)
    try:
        info: dict[str, Any] = ask(str(root), {"op": "info"}, _TIMEOUT_S)
    except NoSenderError:
        if needed:
            return Check(
                "sender",
                WARNING,
                "none runs, and something waits",
                "the next script, or `runstream runs`, starts it",
            )
        return Check("sender", OK, "none runs; the next script starts it")
    except (OSError, ValueError) as error:
        return Check("sender", WRONG, f"it does not answer: {error!r}", f"its log is {log}")
    detail = f"pid {info['pid']}, runstream {info['version']}, {info['undelivered']:,} records under way"
    if not info["connected"] and needed:
        why = f": {info['problem']}" if info.get("problem") else ""
        return Check("sender", WARNING, f"{detail}, not connected{why}", f"its log is {log}")
    return Check("sender", OK, detail)


def _bytes(size: int) -> str:
    amount = float(size)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"
