"""Tables for a terminal: plain text, with colour only where somebody sees it."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Final, TextIO

GREEN: Final = 32
YELLOW: Final = 33
RED: Final = 31
GREY: Final = 90

STATUS_COLOURS: Final[Mapping[str, int]] = {
    "Completed": GREEN,
    "Failed": RED,
    "Canceled": GREY,
    "CancelRequested": YELLOW,
    "NotResponding": YELLOW,
}


def print_table(
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    right: Sequence[int] = (),
    colours: Mapping[int, Mapping[str, int]] | None = None,
) -> None:
    """Columns that are as wide as they need to be; empty ones are left out.

    :param right: columns of numbers.
    :param colours: of the first words of cells, by column.
    """
    rows = [[printable(cell) for cell in row] for row in rows]
    shown = [n for n in range(len(head)) if any(row[n] for row in rows)]
    widths = {n: max(len(head[n]), *(len(row[n]) for row in rows)) for n in shown}
    for row in (head, *rows):
        cells = []
        for n in shown:
            cell = row[n].rjust(widths[n]) if n in right else row[n].ljust(widths[n])
            word = row[n].partition(" ")[0]
            colour = None if row is head or colours is None else colours.get(n, {}).get(word)
            cells.append(cell if colour is None else coloured(cell, colour))
        print("  ".join(cells).rstrip())


def coloured(text: str, colour: int, stream: TextIO | None = None) -> str:
    """The text in a colour, where that is seen; NO_COLOR turns it off."""
    if "NO_COLOR" in os.environ or not (stream or sys.stdout).isatty():
        return text
    return f"\033[{colour}m{text}\033[0m"


def printable(text: str) -> str:
    """A text of somebody else's, harmless to a terminal: control characters are spelled out."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
