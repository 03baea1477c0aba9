"""What can be logged as an image: files, figures, arrays, PIL's images → the bytes of an image file.

PNG is written here: it is zlib and a few headers, and no library need be there for it.
"""

import io
import struct
import zlib
from typing import Any, Final

from runstream.errors import UserError

_MAGIC: Final = (
    (0, b"\x89PNG\r\n\x1a\n"),
    (0, b"\xff\xd8\xff"),  # JPEG
    (0, b"GIF87a"),
    (0, b"GIF89a"),
    (0, b"BM"),
    (0, b"II*\0"),  # TIFF
    (0, b"MM\0*"),
    (8, b"WEBP"),
    (4, b"ftypavif"),
)
_COLORS: Final = {1: 0, 2: 4, 3: 2, 4: 6}  # channels → color type


def is_image(head: bytes) -> bool:
    """Whether a file that begins so is an image; SVG counts too."""
    if any(head[at : at + len(magic)] == magic for at, magic in _MAGIC):
        return True
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    return text.startswith(b"<svg") or (text.startswith(b"<?xml") and b"<svg" in text)


def drawn(picture: Any) -> bytes:
    """PNG of a figure, pyplot, an array or a PIL image. Raises UserError for anything else."""
    save = getattr(picture, "savefig", None)
    if callable(save):
        buffer = io.BytesIO()
        save(buffer, format="png")
        return buffer.getvalue()
    if hasattr(picture, "get_figure") and callable(picture.get_figure):  # axes, or what seaborn returns
        return drawn(picture.get_figure())
    if hasattr(picture, "mode") and callable(getattr(picture, "save", None)):
        buffer = io.BytesIO()
        picture.save(buffer, format="PNG")
        return buffer.getvalue()
    array = _array(picture)
    if array is None:
        raise UserError(
            "an image is a file's path, a matplotlib figure or pyplot, an array of pixels or a PIL image, "
            f"not {type(picture).__name__}"
        )
    return _png(array)


def is_drawable(value: Any) -> bool:
    """Whether `drawn` may take it: anything but a path."""
    return not isinstance(value, str | bytes) and not hasattr(value, "__fspath__")


def _array(picture: Any) -> Any:
    if hasattr(picture, "detach"):  # torch, perhaps on a device
        picture = picture.detach().cpu().numpy()
    if not hasattr(picture, "__array__"):
        return None
    import numpy as np

    return np.asarray(picture)


def _png(array: Any) -> bytes:
    import numpy as np

    if array.ndim == 3 and array.shape[2] not in _COLORS and array.shape[0] in (1, 3, 4):
        array = np.moveaxis(array, 0, 2)  # channels first, as in torch
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.shape[2] not in _COLORS or 0 in array.shape:
        raise UserError(
            f"an array of shape {array.shape} is no image: (height, width) or (height, width, 1–4)"
        )
    pixels = np.ascontiguousarray(_bytes(array))
    height, width, channels = pixels.shape
    rows = np.zeros((height, 1 + width * channels), np.uint8)  # each begins with its filter: none
    rows[:, 1:] = pixels.reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 8, _COLORS[channels], 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        _block(kind, data)
        for kind, data in ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 6)), (b"IEND", b""))
    )


def _bytes(array: Any) -> Any:
    """Pixels from 0 to 255: of floats from 0 to 1, of booleans, of integers as they are."""
    import numpy as np

    if array.dtype == np.bool_:
        return array.astype(np.uint8) * 255
    if array.dtype.kind == "f":
        return (np.nan_to_num(array, nan=0.0, posinf=1.0, neginf=0.0).clip(0, 1) * 255 + 0.5).astype(np.uint8)
    if array.dtype.kind in "iu":
        return array.clip(0, 255).astype(np.uint8)
    raise UserError(f"an array of {array.dtype} is no image: numbers or booleans are")


def _block(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
