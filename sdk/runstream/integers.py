"""Integers of any size as decimal text, and back.

The interpreter refuses to convert more digits than `sys.get_int_max_str_digits()` at once, and that limit
belongs to the program that runs us: so it is done by pieces.
"""

from typing import Final

_DIGITS: Final = 600  # the least limit that a program can set is 640
_PIECE: Final = 10**_DIGITS


def to_decimal(value: int) -> str:
    """Decimal text of an integer."""
    if -_PIECE < value < _PIECE:
        return str(value)
    pieces = []
    rest = abs(value)
    while rest >= _PIECE:
        rest, piece = divmod(rest, _PIECE)
        pieces.append(f"{piece:0{_DIGITS}d}")
    pieces.append(str(rest))
    return ("-" if value < 0 else "") + "".join(reversed(pieces))


def from_decimal(text: str) -> int:
    """The integer of a decimal text. Raises ValueError when it is none."""
    if len(text) <= _DIGITS:
        return int(text)
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit()):
        raise ValueError(f"{text[:40]!r}… is no integer")
    head = len(digits) % _DIGITS or _DIGITS
    value = int(digits[:head])
    for at in range(head, len(digits), _DIGITS):
        value = value * _PIECE + int(digits[at : at + _DIGITS])
    return -value if text.startswith("-") else value
