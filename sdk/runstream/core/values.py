"""What may be logged, and as what: values of the caller → float, int, bool, str or None.

NumPy is used only when the caller has loaded it already.
"""

import sys
from collections.abc import Iterable, Mapping, Sequence
from types import GeneratorType
from typing import Any, Final

from runstream.errors import RunstreamError, UserError
from runstream.spool import layout
from runstream.spool.blocks import DECLARATION, Column, Scalar, column

_EXACT: Final = frozenset((float, int, bool, str, type(None)))
MAX_KEY: Final = 1000
"""Characters in the key of a tag, property or parameter."""
_MAX_NAME: Final = 1000
_MAX_DESCRIPTION: Final = 5000
MAX_RUN_NAME: Final = 1000
MAX_RUN_DESCRIPTION: Final = 100_000


class NotScalarError(Exception):
    """The value is none of what an element can be."""


def scalar(value: Any) -> Scalar:
    """The value as one of the five types. Raises NotScalarError."""
    if type(value) in _EXACT:
        return value  # type: ignore[no-any-return]
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):  # an enumeration's member, for example
        return int(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, bytes | bytearray | complex | Mapping):
        raise NotScalarError
    if getattr(getattr(value, "dtype", None), "kind", None) == "M" and getattr(value, "shape", None) == ():
        return str(value)  # NumPy's dates
    if type(value).__name__ == "NAType":  # pandas' missing value
        return None
    item = getattr(value, "item", None)
    if callable(item):  # NumPy's scalars, and whatever else has one element
        try:
            inner = item()
        except Exception:
            raise NotScalarError from None
        if inner is not value and type(inner) is not type(value):
            return scalar(inner)
    if isinstance(value, Sequence):
        raise NotScalarError
    return _number_or_time(value)


def _number_or_time(value: Any) -> Scalar:
    for convert in ("__index__", "__float__", "isoformat"):
        method = getattr(type(value), convert, None)
        if method is not None:
            try:
                found = method(value)
            except Exception:
                continue
            if isinstance(found, int):
                return int(found)
            if isinstance(found, float):
                return float(found)
            if isinstance(found, str):
                return str(found)
    raise NotScalarError


def scalar_or_text(name: str, value: Any) -> Scalar:
    """What `log` stores: a scalar, or the text of any other object. Raises UserError for what is a list."""
    try:
        return scalar(value)
    except NotScalarError:
        pass
    if isinstance(value, list | range | GeneratorType) or hasattr(type(value), "__next__"):
        raise UserError(f"log takes one value, and {name!r} got a {type(value).__name__}: use log_list")
    try:
        text = repr(value)
    except Exception as error:
        raise UserError(f"the value of {name!r} can't be shown as text: {error!r}") from None
    warn(f"{name!r} is logged as text: a {type(value).__name__} is no number")
    return text


def warn(message: str) -> None:
    """Tell the caller of something in his own arguments, through the standard logging."""
    import logging

    logging.getLogger("runstream").warning(message)


# --------------------------------------------------------------------------------- lists, tables


def elements(name: str, values: Any) -> Column:
    """The column that holds an iterable. Raises UserError or RunstreamError when it can't be one."""
    if isinstance(values, str | bytes | bytearray):
        raise UserError(f"{name!r}: a list is needed, and this is a text")
    if isinstance(values, Mapping):
        raise UserError(f"{name!r}: a list is needed, and this is a dictionary; use log_row or log_table")
    found = _array(name, values)
    if found is not None:
        return found
    if not isinstance(values, list | tuple):
        try:
            values = list(values)
        except TypeError:
            raise UserError(f"{name!r}: a list is needed, and this is a {type(values).__name__}") from None
    if _EXACT.issuperset(map(type, values)):
        return column(values)
    return column([_element(name, value) for value in values])


def _element(name: str, value: Any) -> Scalar:
    try:
        return scalar(value)
    except NotScalarError:
        raise RunstreamError(f"{name!r}: an element can't be a {type(value).__name__}") from None


def cell(name: str, column_name: str, value: Any) -> Column:
    """The column that holds one cell of a row."""
    try:
        return column([scalar(value)])
    except NotScalarError:
        raise RunstreamError(
            f"{name!r}: a cell can't be a {type(value).__name__} (column {column_name!r})"
        ) from None


def table_columns(name: str, value: Any) -> dict[str, Column]:
    """The columns of a table: lists of one length, or single values."""
    if not isinstance(value, Mapping) and not (hasattr(value, "items") and hasattr(value, "columns")):
        raise UserError(f"{name!r}: log_table takes a dictionary of columns, not a {type(value).__name__}")
    columns: dict[str, Column] = {}
    for key, values in value.items():
        text = column_name(name, key)
        if text in columns:
            raise UserError(f"{name!r}: two columns are called {text!r}")
        if _is_single(values):
            columns[text] = cell(name, text, values)
        else:
            columns[text] = elements(f"{name}, column {text}", values)
    if len({found.rows for found in columns.values()}) > 1:
        lengths = ", ".join(f"{key}: {found.rows}" for key, found in columns.items())
        raise RunstreamError(f"{name!r}: the columns of a table must have one length ({lengths})")
    return columns


def _is_single(value: Any) -> bool:
    if isinstance(value, str | bytes) or value is None:
        return True
    if getattr(value, "shape", None) == ():
        return True
    return not isinstance(value, Iterable) or isinstance(value, Mapping)


def _array(name: str, values: Any) -> Column | None:
    """The column of an array, without a look at its elements; None for what is no array of numbers."""
    numpy = sys.modules.get("numpy")
    if numpy is None or not hasattr(values, "__array__"):
        return None
    try:
        found = numpy.asanyarray(values)
    except Exception:  # a tensor on another device, for example
        return elements(name, values.tolist()) if hasattr(values, "tolist") else None
    if found.ndim > 1:
        raise RunstreamError(f"{name!r}: an array of {found.ndim} dimensions is no list")
    if found.ndim == 0:
        return column([_element(name, values)])
    if not found.size:
        return DECLARATION
    kind = found.dtype.kind
    if kind == "M":  # tolist() would give bare integers for nanoseconds
        return column(numpy.datetime_as_string(found).tolist())
    if kind == "m":
        return column([_element(name, value) for value in found])
    if isinstance(found, numpy.ma.MaskedArray) or kind not in "fiub":
        return column([_element(name, value) for value in found.tolist()])
    if kind == "b":
        code, wanted = layout.LAYOUT_BOOL, "u1"
    elif kind == "f":
        code, wanted = layout.LAYOUT_DOUBLE, "<f8"
    elif kind == "u" and found.dtype.itemsize == 8 and int(found.max()) >= 2**63:
        return column(found.tolist())
    else:
        code, wanted = layout.LAYOUT_INT64, "<i8"
    plain = numpy.ascontiguousarray(found, dtype=wanted)
    return Column(code, len(plain), memoryview(plain).cast("B"))


# -------------------------------------------------------------------------------- names and steps


def metric_name(name: Any) -> str:
    """The name of a metric, as a plain text."""
    if not isinstance(name, str):
        raise UserError(f"a metric's name must be a text, not {name!r}")
    if not name:
        raise UserError("a metric's name can't be empty")
    if len(name) > _MAX_NAME:
        raise UserError(f"a metric's name can't be longer than {_MAX_NAME} characters: {name[:50]!r}…")
    return layout.clean(str.__str__(name))


def column_name(metric: str, name: Any) -> str:
    """The name of a table's column."""
    text = name if isinstance(name, str) else str(name)
    if not text:
        raise UserError(f"{metric!r}: a column's name can't be empty")
    if len(text) > _MAX_NAME:
        raise UserError(f"{metric!r}: a column's name can't be longer than {_MAX_NAME} characters")
    return layout.clean(str.__str__(text))


def is_text(value: Any, longest: int) -> bool:
    """Whether the value is a text of 1 to so many characters."""
    return isinstance(value, str) and 1 <= len(value) <= longest


def is_id(value: Any, longest: int) -> bool:
    """The same for what names something that exists: without lone surrogates, which are no characters."""
    return is_text(value, longest) and layout.clean(value) == value


def text_of(value: object) -> str | None:
    """The value of an attribute: a text, or None for none."""
    return None if value is None else layout.clean(value if isinstance(value, str) else str(value))


def keys_of(tags: Any) -> list[str]:
    """Keys of tags that are to be removed. Raises UserError for what is no key and no list of them."""
    keys = [tags] if isinstance(tags, str) else list(tags) if isinstance(tags, Iterable) else []
    if not isinstance(tags, Iterable) or not all(is_text(key, MAX_KEY) for key in keys):
        raise UserError(f"tags to remove are a key or a list of keys, not {tags!r:.100}")
    return [layout.clean(key) for key in keys]


def texts_by_key(what: str, given: Any) -> dict[str, str | None]:
    """Attributes as they are stored. Raises UserError for what is no dictionary of them."""
    if not isinstance(given, Mapping):
        raise UserError(f"{what} are a dictionary of texts, not {given!r:.100}")
    for key in given:
        if not is_text(key, MAX_KEY):
            raise UserError(
                f"{what} have keys of 1 to {MAX_KEY:,} characters, not {key!r:.100}; nothing was set"
            )
    return {layout.clean(key): text_of(value) for key, value in given.items()}


def description_text(description: Any) -> str:
    """A description of a metric; None is an empty one."""
    return layout.clean(str(description)[:_MAX_DESCRIPTION]) if description else ""


def run_name(name: Any) -> str:
    """A run's name for people; None is an empty one. Raises UserError."""
    if name is not None and (not isinstance(name, str) or len(name) > MAX_RUN_NAME):
        shown = f"this one has {len(name):,}" if isinstance(name, str) else f"not {name!r:.100}"
        raise UserError(f"a display name is a text of at most {MAX_RUN_NAME:,} characters; {shown}")
    return layout.clean(name or "")


def run_description(text: Any) -> str:
    """What a run is about; None is an empty text. Raises UserError."""
    if text is not None and not isinstance(text, str):
        raise UserError(f"a description is a text, not {text!r:.100}")
    if text and len(text) > MAX_RUN_DESCRIPTION:
        raise UserError(
            f"a description has at most {MAX_RUN_DESCRIPTION:,} characters; this one has {len(text):,}"
        )
    return layout.clean(text or "")


def step_number(step: Any) -> int:
    """The step as stored. Raises UserError when it is no integer of 64 bits."""
    if step is None:
        return layout.NO_STEP
    try:
        number = scalar(step)
    except NotScalarError:
        number = None
    if isinstance(number, float) and number.is_integer():
        number = int(number)
    if not isinstance(number, int) or not layout.NO_STEP < number < 2**63:
        raise UserError(f"step must be an integer of 64 bits, not {step!r}")
    return int(number)
