"""Which writers there are in a spool, or in a copy of one."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from runstream.spool import layout

_WRITER: Final = re.compile(r"[0-9a-f]{32}")


def find_writers(directory: Path) -> Iterator[Path]:
    """Writers' folders at most two levels below."""
    if (directory / layout.HEADER).is_file():
        yield directory
        return
    for pattern in ("*", "*/*"):
        for path in sorted(directory.glob(pattern)):
            if _WRITER.fullmatch(path.name) and (path / layout.HEADER).is_file():
                yield path
