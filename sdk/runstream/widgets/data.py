"""What is shown of a run, read once: plain dictionaries, lists, texts and numbers."""

from itertools import islice
from typing import Any, Final

from runstream.core.logs import choose
from runstream.core.record import RunRecord, iso_time
from runstream.core.run import Run
from runstream.core.search import Family, Query, records_of

MOST_CHILDREN: Final = 100
_TAIL_BYTES: Final = 16 << 10


def widget_data(run: Run) -> dict[str, Any]:
    """State, metrics, children and the end of the log of a run.

        run_properties  run_id, experiment, name, status, created_utc, end_time_utc, tags, properties, …
        run_metrics     by name: a list of values, or a dictionary of columns, which are lists
        child_runs      its newest children, at most 100, as run_properties without log_files
        run_logs        the last 16 KiB of the log that people mean when they name none

    What this process has logged is included. Times are UTC in ISO 8601, None for none.

    Raises NotFoundError for a run that the server doesn't know, ServiceError when the server can't be asked
    and this process doesn't know the answer.
    """
    record = run._record(fresh=True)
    logs = run._log_files()
    return {
        "run_properties": properties_of(run, record, logs),
        "run_metrics": {name: as_lists(value) for name, value in run.get_metrics().items()},
        "child_runs": [state_of(child) for child in children_of(run)],
        "run_logs": tail_of(run, list(logs)),
    }


def properties_of(run: Run, record: RunRecord, logs: dict[str, str]) -> dict[str, Any]:
    """`run_properties`."""
    definition = run._definition(record)
    submitted = definition if isinstance(definition, dict) else {}
    return {
        **state_of(record),
        "target": record.system.get("target") or "local",
        "script_name": submitted.get("script"),
        "arguments": submitted.get("arguments"),
        "error": record.error_message or None,
        "log_files": logs,
        "portal_url": run.get_portal_url(),
    }


def as_lists(value: Any) -> Any:
    """A metric of one value like one of several: lists, or a dictionary of lists."""
    if isinstance(value, dict):
        return {name: as_lists(column) for name, column in value.items()}
    return value if isinstance(value, list) else [value]


def state_of(record: RunRecord) -> dict[str, Any]:
    """What of `run_properties` is said of children too."""
    return {
        "run_id": record.id,
        "experiment": record.experiment,
        "run_number": record.number,
        "name": record.display_name,
        "run_type": record.run_type or None,
        "status": record.status,
        "created_utc": iso_time(record.started_ns),
        "end_time_utc": iso_time(record.ended_ns),
        "tags": dict(record.tags),
        "properties": dict(record.properties),
        "parameters": dict(record.params),
    }


def children_of(run: Run, *, metrics: bool = False) -> list[RunRecord]:
    """The newest children; if wished, with the last number of each metric."""
    if run._state.silent:
        return []
    wanted = Query(family=Family(run.id, False), metrics=metrics, most=MOST_CHILDREN)
    return list(islice(records_of(run.experiment.workspace, wanted, run._state), MOST_CHILDREN))


def tail_of(run: Run, paths: list[str]) -> str:
    """`run_logs`, of the logs with these paths."""
    path = choose(paths)
    if not path:
        return ""
    parts = run._client().read_log(run.experiment.workspace.name, run.id, path, tail_bytes=_TAIL_BYTES)
    return b"".join(part.data for part in parts).decode("utf-8", "replace")
