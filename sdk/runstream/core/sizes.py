"""Sizes as people write them: bytes, or with a suffix K, M, G, T."""

from runstream.core.notices import say


def size_in_bytes(text: str, default: int, name: str) -> int:
    """The size that the setting `name` gives; the default, and a line, when it is none."""
    number = text.strip().upper().removesuffix("IB").removesuffix("B")
    factor = 1
    if number and number[-1] in "KMGT":
        number, factor = number[:-1], 1024 ** ("KMGT".index(number[-1]) + 1)
    try:
        size = int(float(number) * factor)
    except (ValueError, OverflowError):
        if text:
            say(f"{name} is no size: {text}", once=name)
        return default
    return size if size > 0 else default
