"""Values as texts: what is no line is a table."""

from __future__ import annotations

from typing import Any, Final

from runstream.core.artifact import parse_uri

MOST_ROWS: Final = 50
MOST_TEXT: Final = 500  # characters of a value


def shortened(value: object) -> str:
    """As text that can be sent, not longer than is looked at."""
    text = str(value).encode("utf-8", "replace").decode()
    return text if len(text) <= MOST_TEXT else text[:MOST_TEXT] + "…"


def cell_text(value: Any) -> str:
    """A value of a metric; of a file its name, of a missing one nothing."""
    file = parse_uri(value)
    if file is not None:
        return f"file {shortened(file[1])}"
    return "" if value is None else shortened(f"{value:.6g}" if isinstance(value, float) else value)


def cells_message(value: Any) -> dict[str, Any]:
    """For the front end, of a metric as `widget_data` has it: `texts`, its first values, where they are no
    numbers, and `table`, its first rows."""
    table = {name: column for name, column in value.items() if name} if isinstance(value, dict) else {}
    values = value.get("", []) if isinstance(value, dict) else value
    found: dict[str, Any] = {}
    if any(isinstance(one, str) for one in values):
        found["texts"] = [cell_text(one) for one in values[:MOST_ROWS]]
    if table:
        cells = [[cell_text(cell) for cell in column[:MOST_ROWS]] for column in table.values()]
        found["table"] = {"heads": [shortened(name) for name in table], "columns": cells}
    return found
