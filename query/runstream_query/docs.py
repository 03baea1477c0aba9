"""The documentation, as the package brings it along: `/docs`, and a page below it for each of its files.

As plain text in the type that code has, with its links alive: it is written to be read like that.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from importlib import resources
from pathlib import Path
from typing import Final

from runstream_query.page import Page

_NAME: Final = re.compile(r"[a-z][a-z-]*\.md")
_FIRST: Final = "getting-started.md"
_LINK: Final = re.compile(r"\[([^\]\n]+)\]\(([a-z][a-z-]*\.md)\)")
_PAGE: Final = """\
<!DOCTYPE html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title} · runstream</title>
<p>{others}</p>
<pre>{text}</pre>
</html>
"""


class Docs:
    """The files of `docs/`."""

    def __init__(self) -> None:
        packed = resources.files("runstream_query").joinpath("docs")
        # A checkout has them beside the packages.
        self._folder = packed if packed.is_dir() else Path(__file__).parents[2] / "docs"

    def answer(self, prefix: str, segments: Sequence[str]) -> Page | None:
        """A page; None when the address is none of theirs, or there is no such file."""
        match segments:
            case ["docs"]:
                name = _FIRST
            case ["docs", name] if _NAME.fullmatch(name):
                pass
            case _:
                return None
        try:
            text = self._folder.joinpath(name).read_text(encoding="utf-8")
        except (FileNotFoundError, NotADirectoryError):
            return None
        names = sorted(file.name for file in self._folder.iterdir() if _NAME.fullmatch(file.name))
        others = " · ".join(_anchor(prefix, other, other.removesuffix(".md")) for other in names)
        linked = _LINK.sub(lambda found: _anchor(prefix, found[2], found[1]), escape(text, quote=False))
        page = _PAGE.format(title=escape(name.removesuffix(".md")), others=others, text=linked)
        return Page(200, page.encode())


def _anchor(prefix: str, name: str, text: str) -> str:
    return f'<a href="{escape(prefix)}/docs/{name}">{text}</a>'
