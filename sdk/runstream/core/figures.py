"""Metrics that are files: images, and the JSON of confusion matrices and the like."""

import io
import json
import math
import os
import time
from collections.abc import Mapping
from typing import Any, Final

from runstream.core import keeping, pictures, values
from runstream.core.artifact import uri
from runstream.core.logging import RunLogging
from runstream.core.paths import artifact_path, name_from
from runstream.errors import UserError

_HEAD: Final = 1024


class RunFigures(RunLogging):
    """Logs files as values of metrics. `get_metrics` gives their addresses, or with `populate` the files."""

    def log_image(self, name: str, path: Any = None, plot: Any = None, description: str = "") -> None:
        """Log an image: the `path` of a file, or a `plot`, which is a matplotlib figure or pyplot itself, an
        array of pixels or a PIL image. A plot may stand in either place.

        A file keeps its path as its name among the run's files; a plot becomes `<name>_<Unix time>.png`.

        Raises UserError when both or none are given, and for what is no image.
        """
        name = values.metric_name(name)
        if (path is None) == (plot is None):
            raise UserError("log_image takes an image as path or as plot: one of them")
        picture = path if plot is None else plot
        if pictures.is_drawable(picture):
            at = self._new_name(name_from(f"{name}_{int(time.time())}"), ".png")
            done = keeping.keep_stream(self._state, at, io.BytesIO(pictures.drawn(picture)), "image/png")
        else:
            at = _name_of(picture)
            _check_image(picture)
            done = keeping.keep_path(self._state, at, picture)
        if done:  # else there would be an address where nothing is
            self.log(name, uri(self.id, at), description)

    def log_confusion_matrix(self, name: str, value: Any, description: str = "") -> None:
        """Log a confusion matrix: `{"schema_type": "confusion_matrix", "schema_version": "1.0.0", "data":
        {"class_labels": [...], "matrix": [[...], ...]}}`, as a dictionary or as JSON text.

        Raises UserError for what is no such JSON.
        """
        self._log_json(name, value, "confusion_matrix", description)

    def log_accuracy_table(self, name: str, value: Any, description: str = "") -> None:
        """Log an accuracy table: schema_type `accuracy_table`, version 1.0.1, data `probability_tables,
        percentile_tables` (by class and threshold: TP, FP, TN, FN), `probability_thresholds,
        percentile_thresholds, class_labels`. As `log_confusion_matrix`."""
        self._log_json(name, value, "accuracy_table", description)

    def log_residuals(self, name: str, value: Any, description: str = "") -> None:
        """Log a histogram of residuals: schema_type `residuals`, version 1.0.0, data `bin_edges,
        bin_counts`. As `log_confusion_matrix`."""
        self._log_json(name, value, "residuals", description)

    def log_predictions(self, name: str, value: Any, description: str = "") -> None:
        """Log predictions against truth: schema_type `predictions`, version 1.0.0, data `bin_averages,
        bin_errors, bin_counts, bin_edges`. As `log_confusion_matrix`."""
        self._log_json(name, value, "predictions", description)

    def _log_json(self, name: str, value: Any, kind: str, description: str) -> None:
        name = values.metric_name(name)
        if isinstance(value, str | bytes):
            try:
                value = json.loads(value)
            except ValueError as error:
                raise UserError(f"{name!r}: the text is no JSON: {error}") from None
        if not isinstance(value, Mapping):
            raise UserError(f"{name!r}: a {kind} is a dictionary or JSON text, not {type(value).__name__}")
        given = value.get("schema_type", kind)
        if given != kind:
            raise UserError(f"{name!r}: the schema_type is {given!r}, and not {kind!r}")
        try:
            text = json.dumps(_plain(value), ensure_ascii=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise UserError(f"{name!r}: it can't be written as JSON: {error}") from None
        at = name_from(name)
        if keeping.keep_stream(self._state, at, io.BytesIO(text.encode()), "application/json"):
            self.log(name, uri(self.id, at), description)

    def _new_name(self, name: str, ending: str) -> str:
        """A name that this process has not used: two plots within a second are two files."""
        used, count, made = keeping.kept(self._state), 1, name + ending
        while made in used:
            count += 1
            made = f"{name}_{count}{ending}"
        return made


def _name_of(path: Any) -> str:
    """The name of a file that was given by its path here."""
    text = os.fspath(path)
    if not isinstance(text, str):
        raise UserError(f"an image's path is a text, not {text!r:.100}")
    relative = os.path.normpath(text).replace(os.sep, "/")
    if os.path.isabs(text) or relative.startswith("../"):
        relative = os.path.basename(text)
    return artifact_path(relative)


def _check_image(path: Any) -> None:
    try:
        with open(path, "rb") as file:
            head = file.read(_HEAD)
    except OSError as error:
        raise UserError(f"{os.fspath(path)!r:.500} can't be read: {error.strerror or error}") from error
    if not pictures.is_image(head):
        raise UserError(f"{os.fspath(path)!r:.500} is no image: PNG, JPEG, GIF, BMP, TIFF, WebP, AVIF or SVG")


def _plain(value: Any) -> Any:
    """What JSON can hold: arrays as lists, and texts for numbers that it has no word for."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if hasattr(value, "tolist"):  # NumPy's arrays and scalars
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value
