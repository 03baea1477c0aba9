"""`writer.json`: who writes a spool, and where it is to go."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runstream.spool import layout


class HeaderError(ValueError):
    """The folder can't be delivered as it is. It is left alone."""


@dataclass(frozen=True, slots=True)
class Header:
    """What the sender needs of it."""

    writer: bytes
    engine: str
    pid: int
    pid_start: int | None
    pid_ns: int | None
    host: str
    boot_id: str
    started_time_ns: int
    rank: int | None
    local_rank: int | None
    world_size: int | None
    server: str | None
    credential: Path | None
    version: str
    drain: bool
    interrupt: bool
    observe: dict[str, Any] | None


def read_header(folder: Path) -> Header | None:
    """The header; None when there is none yet. Raises HeaderError when it can't be used."""
    try:
        content = json.loads((folder / layout.HEADER).read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise HeaderError(f"{folder / layout.HEADER} can't be read: {error}") from error
    try:
        if content["format"] > layout.FORMAT:
            raise HeaderError(
                f"{folder} has spool format {content['format']}, this sender knows {layout.FORMAT}: "
                "deliver it with a newer runstream"
            )
        return _header(folder, content)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, HeaderError):
            raise
        raise HeaderError(f"{folder / layout.HEADER} is damaged: {error!r}") from error


def _header(folder: Path, content: dict[str, Any]) -> Header:
    writer = bytes.fromhex(content["writer"])
    if len(writer) != 16:
        raise ValueError("a writer has 16 bytes")
    engine = content["engine"]
    if engine not in (layout.MMAP, layout.APPEND):
        raise ValueError(f"engine {engine!r}")
    credential = content.get("credential")
    return Header(
        writer=writer,
        engine=engine,
        pid=int(content.get("pid") or 0),
        pid_start=content.get("pid_start"),
        pid_ns=content.get("pid_ns"),
        host=str(content.get("host") or ""),
        boot_id=str(content.get("boot_id") or ""),
        started_time_ns=int(content.get("started_time_ns") or 0),
        rank=content.get("rank"),
        local_rank=content.get("local_rank"),
        world_size=content.get("world_size"),
        server=content.get("server") or None,
        credential=folder / Path(credential).name if credential else None,
        version=str(content.get("version") or ""),
        drain=bool(content.get("drain")),
        interrupt=bool(content.get("interrupt")),
        observe=content.get("observe"),
    )
