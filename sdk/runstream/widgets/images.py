"""Images among the metrics of a run: which there are, and the bytes of one."""

from __future__ import annotations

from os.path import splitext
from typing import TYPE_CHECKING, Any, Final

from runstream.columns import NO_STEP
from runstream.core.artifact import Artifact, parse_uri
from runstream.errors import UserError

if TYPE_CHECKING:
    from runstream.columns import Series
    from runstream.core.run import Run

MEDIA_TYPES: Final = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".gif": "image/gif",
    ".webp": "image/webp",
    ".bmp": "image/bmp",
    ".avif": "image/avif",
}
"""By the ending of the name. What may hold scripts is not shown."""


def images_of(run_id: str, series: Series) -> list[dict[str, Any]]:
    """Path and step of the images in a series of a run, in its order."""
    found = []
    for value, step in zip(series.values(), series.step.tolist(), strict=True):
        at = parse_uri(value)
        if at is not None and at[0] == run_id and _media_type(at[1]):
            found.append({"path": at[1], "step": None if step == NO_STEP else step})
    return found


def image(run: Run, path: str) -> dict[str, Any]:
    """An image's bytes, and their media type. Raises as `Artifact.content`."""
    media = _media_type(path)
    if not media:
        raise UserError(f"{path!r} is no image that can be shown here")
    return {"media": media, "data": Artifact(run.experiment.workspace, run.id, path).content}


def _media_type(path: str) -> str:
    return MEDIA_TYPES.get(splitext(path)[1].lower(), "")
