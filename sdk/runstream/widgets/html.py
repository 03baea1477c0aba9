"""A run as static HTML: everything that comes from the run is escaped, and nothing of it is a script."""

import re
from typing import Any, Final

from runstream.core.display import escape, link
from runstream.widgets.cells import MOST_ROWS, cell_text, shortened
from runstream.widgets.charts import is_numeric, line_chart
from runstream.widgets.data import MOST_CHILDREN
from runstream.widgets.watched import Reduced

_MOST_METRICS: Final = 60
_MOST_LINES: Final = 100
_ERROR_LINES: Final = 15  # as many as are seen without scrolling
_MOST_LOG: Final = 20_000  # characters of them
_TERMINAL: Final = "margin:0;font-family:monospace;white-space:pre-wrap;overflow-wrap:anywhere"
_AT_ITS_END: Final = (
    "max-height:24em;overflow:auto;display:flex;flex-direction:column-reverse"  # scrolled there
)
_CONTROLS: Final = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f]")
_CELL: Final = 'style="text-align:left;vertical-align:top;min-width:4em;overflow-wrap:anywhere"'


def page(data: dict[str, Any], notice: str = "") -> str:
    """All of `widget_data`, below a notice when there is one."""
    said = f'<p role="status"><b>{_text(notice)}</b></p>' if notice else ""
    parts = [
        said,
        _properties(data["run_properties"]),
        _metrics(data["run_metrics"]),
        _children(data["child_runs"]),
        _log(data["run_logs"]),
    ]
    return f'<div class="runstream-run">{"".join(parts)}</div>'


def notice_page(run_id: str, url: str, notice: str) -> str:
    """What is shown of a run of which nothing could be read yet."""
    said = f'<p role="status"><b>{_text(notice)}</b></p>'
    return f'<div class="runstream-run">{said}<p>Run {_text(run_id)}: {link(url, "Details Page")}</p></div>'


def _text(value: object) -> str:
    """Escaped; long ones are shortened."""
    return escape(shortened(value))


def _value(value: Any) -> str:
    return escape(cell_text(value))


def _table(heads: list[str], rows: list[list[str]]) -> str:
    """Heads and cells are HTML already."""
    head = "".join(f"<th {_CELL}>{name}</th>" for name in heads)
    body = "".join("<tr>" + "".join(f"<td {_CELL}>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    table = f"<table>{f'<tr>{head}</tr>' if heads else ''}{body}</table>"
    return f'<div style="overflow-x:auto">{table}</div>'


def _pairs(pairs: dict[str, Any]) -> str:
    shown = [
        _text(key) if value is None else f"{_text(key)}: {_text(value)}"
        for key, value in list(pairs.items())[:MOST_ROWS]
    ]
    more = len(pairs) - len(shown)
    return "<br>".join([*shown, f"… {more:,} more"] if more else shown)


def _properties(found: dict[str, Any]) -> str:
    arguments = found["arguments"]
    rows = {
        "Run": link(found["portal_url"], found["run_id"]),
        "Name": _text(found["name"]),
        "Experiment": _text(found["experiment"]),
        "Status": f"<b>{_text(found['status'])}</b>",
        "Error": _pre(found["error"], _ERROR_LINES) if found["error"] else "",
        "Started": _time(found["created_utc"]),
        "Ended": _time(found["end_time_utc"]),
        "Script": _text(found["script_name"] or ""),
        "Arguments": _text(" ".join(map(str, arguments)) if isinstance(arguments, list) else arguments or ""),
        "Parameters": _pairs(found["parameters"]),
        "Tags": _pairs(found["tags"]),
        "Properties": _pairs(found["properties"]),
        "Logs": "<br>".join(link(url, path) for path, url in list(found["log_files"].items())[:MOST_ROWS]),
    }
    return _table([], [[_whole(f"<b>{name}</b>"), cell] for name, cell in rows.items() if cell])


def _metrics(metrics: dict[str, Any]) -> str:
    """Single values as one table, then a chart or a table for each of the others."""
    single, others = [], []
    for name, value in list(metrics.items())[:_MOST_METRICS]:
        if isinstance(value, dict):
            others.append(_columns(name, value))
        elif isinstance(value, Reduced):
            others.append(_reduced(name, value))
        elif len(value) == 1:
            single.append([_text(name), _value(value[0])])
        else:
            others.append(_list(name, value))
    more = len(metrics) - _MOST_METRICS
    if more > 0:
        others.append(f"<p>{more:,} more metrics are on the details page.</p>")
    return (_table(["Metric", "Value"], single) if single else "") + "".join(others)


def _reduced(name: str, value: Reduced) -> str:
    """The least and greatest of each stretch, over the step or the place in the list."""
    if value.line is None:
        return f"<p><b>{_text(name)}</b> <small>{value.size:,} values, see the details page</small></p>"
    line = value.line
    ys = [y for pair in zip(line.low.tolist(), line.high.tolist(), strict=True) for y in pair]
    xs = [x for x in line.x.tolist() for _ in range(2)]
    xs[:1] = [line.begin] if xs else []
    return line_chart(name, ys, xs, "by step" if line.by_step else "", value.size)


def _list(name: str, values: list[Any]) -> str:
    if is_numeric(values):
        return line_chart(name, values)
    return _titled(name, "", [[_value(value)] for value in values])


def _columns(name: str, columns: dict[str, Any]) -> str:
    """Two columns of numbers are a line, the second over the first. Values beside rows are on their own."""
    table = {key: column for key, column in columns.items() if key}
    beside = _list(name, columns[""]) if "" in columns else ""
    if len(table) == 2 and all(map(is_numeric, table.values())):
        (x, xs), (y, ys) = table.items()
        return beside + line_chart(name, ys, xs, f"{y} over {x}")
    rows = [[_value(cell) for cell in row] for row in zip(*table.values(), strict=False)]
    return beside + (_titled(name, "", rows, [_text(key) for key in table]) if table or not beside else "")


def _titled(name: str, about: str, rows: list[list[str]], heads: list[str] | None = None) -> str:
    """The first rows, and how many there are."""
    if not rows:
        about = "empty"
    elif len(rows) > MOST_ROWS:
        about = f"the first {MOST_ROWS} of {len(rows):,} rows"
    return f"<p><b>{_text(name)}</b> <small>{about}</small></p>{_table(heads or [], rows[:MOST_ROWS])}"


def _children(children: list[dict[str, Any]]) -> str:
    if not children:
        return ""
    rows = [
        [
            _text(child["run_id"]),
            _text(child["name"]),
            _whole(_text(child["status"])),
            _time(child["created_utc"]),
            _time(child["end_time_utc"]),
            _pairs({**child["parameters"], **child["tags"]}),
        ]
        for child in children
    ]
    title = f"Children, the newest {MOST_CHILDREN}" if len(children) == MOST_CHILDREN else "Children"
    heads = ["Run", "Name", "Status", "Started", "Ended", "Parameters, tags"]
    return f"<p><b>{title}</b></p>{_table(heads, rows)}"


def _log(log: str) -> str:
    return f"<p><b>Log</b></p>{_pre(log, _MOST_LINES)}" if log.strip() else ""


def _pre(text: str, most: int) -> str:
    """The last lines of a text, as a terminal would leave them: a carriage return begins a line again."""
    lines = [line.rstrip("\r").rpartition("\r")[2] for line in text.rstrip("\n").split("\n")[-most:]]
    left = escape(_CONTROLS.sub("", "\n".join(lines)[-_MOST_LOG:]).encode("utf-8", "replace").decode())
    return f'<div style="{_AT_ITS_END}"><pre style="{_TERMINAL}">{left}</pre></div>'


def _whole(cell: str) -> str:
    """HTML that is not broken into lines."""
    return f'<span style="white-space:nowrap">{cell}</span>'


def _time(iso: str | None) -> str:
    """To the second: nobody reads more."""
    return _whole(_text(f"{iso[:19].replace('T', ' ')} UTC")) if iso else ""
