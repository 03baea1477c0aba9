"""The built portal: its files, as browsers may keep them for good.

Each name has a digest of the content in it. The manifest says what the page loads by which name.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Final

from runstream_query.page import Page

_ENTRY: Final = "src/main.tsx"
_NAME: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")
_TYPES: Final = {
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "svg": "image/svg+xml",
    "woff2": "font/woff2",
}
_FOR_GOOD: Final = (b"cache-control", b"public, max-age=31536000, immutable")


@dataclass(frozen=True, slots=True)
class Entry:
    """What the page shell loads, by addresses below the portal's."""

    script: str
    preloads: tuple[str, ...]
    styles: tuple[str, ...]


class PortalFiles:
    """The files in `static/`, which `make portal` builds."""

    def __init__(self, folder: Traversable | None = None) -> None:
        """`folder`: another place than the package's own."""
        self._folder = folder or resources.files("runstream_query").joinpath("static")
        self._read = lru_cache(maxsize=64)(self._compressed)

    def entry(self) -> Entry | None:
        """What the shell loads; None when the portal is not built."""
        try:
            manifest = json.loads(self._folder.joinpath("manifest.json").read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            return None
        main = manifest[_ENTRY]
        imports = [manifest[name]["file"] for name in main.get("imports", ())]
        return Entry(main["file"], tuple(imports), tuple(main.get("css", ())))

    def answer(self, segments: Sequence[str], accepted: str) -> Page | None:
        """A file at a path; None when there is none.

        :param accepted: the request's `accept-encoding`.
        """
        match segments:
            case ["assets", name] if _NAME.fullmatch(name):
                pass
            case _:
                return None
        try:
            plain, packed = self._read(name)
        except (FileNotFoundError, IsADirectoryError):
            return None
        kind = _TYPES.get(name.rpartition(".")[2], "application/octet-stream")
        if "gzip" in accepted and packed is not None:
            return Page(
                200, packed, kind, (_FOR_GOOD, (b"content-encoding", b"gzip"), (b"vary", b"accept-encoding"))
            )
        return Page(200, plain, kind, (_FOR_GOOD, (b"vary", b"accept-encoding")))

    def _compressed(self, name: str) -> tuple[bytes, bytes | None]:
        plain = self._folder.joinpath("assets", name).read_bytes()
        packed = gzip.compress(plain, 9, mtime=0)
        return plain, packed if len(packed) < len(plain) else None
