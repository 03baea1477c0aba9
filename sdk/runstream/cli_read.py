"""`runstream runs` and `runstream metrics`: what the server has, for people, `jq` and spreadsheets."""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from runstream import home
from runstream.cli_numbers import count
from runstream.cli_table import STATUS_COLOURS, print_table, printable
from runstream.errors import (
    AuthenticationError,
    DeadlineError,
    NotFoundError,
    RunstreamError,
    ServiceUnavailableError,
    UserError,
)
from runstream.integers import to_decimal

if TYPE_CHECKING:
    from runstream.client import Client
    from runstream.columns import Series
    from runstream.v1.query_service_pb2 import Run
    from runstream.v1.run_pb2 import RunStatus

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

FAILED = 1
UNREACHABLE = 3
NOT_FOUND = 4
_LOCAL_S = 3.0


class CommandError(Exception):
    """Ends the command with a message and an exit code."""

    def __init__(self, message: str, code: int = FAILED) -> None:
        super().__init__(message)
        self.code = code


def register(commands: Commands) -> None:
    """Add the commands."""
    runs = commands.add_parser("runs", help="list runs, newest start first")
    runs.add_argument(
        "--experiment", metavar="NAME", action="append", default=[], help="only of these experiments"
    )
    runs.add_argument(
        "--status", metavar="STATUS", action="append", default=[], help="only these, as Completed"
    )
    runs.add_argument(
        "--filter", metavar="CONDITION", default="", help="as 'metrics.loss.min < 0.3 and params.lr >= 0.1'"
    )
    runs.add_argument(
        "--sort",
        metavar="FIELD",
        action="append",
        default=[],
        help="as metrics.loss.min; with - before it from the greatest (default: -started)",
    )
    runs.add_argument("--archived", action="store_true", help="archived ones too")
    runs.add_argument("--children-of", metavar="RUN", help="only children of this run")
    runs.add_argument("--limit", metavar="N", type=count, default=100, help="at most so many (default: 100)")
    runs.add_argument("--json", action="store_true", help="a JSON object a line")
    runs.set_defaults(run=_runs)

    metrics = commands.add_parser("metrics", help="what a run has logged")
    metrics.add_argument("id", metavar="RUN", help="id of the run")
    metrics.add_argument("names", metavar="METRIC", nargs="*", default=[], help="only these")
    metrics.add_argument(
        "--attempt", metavar="N", type=count, help="all that this attempt logged; default: what counts"
    )
    form = metrics.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="every element, a JSON object a line")
    form.add_argument("--csv", action="store_true", help="every element, as CSV with a head line")
    metrics.add_argument(
        "--now", action="store_true", help="do not wait for the last elements of a run that has ended"
    )
    metrics.set_defaults(run=_metrics)
    for command, usual in ((runs, "all"), (metrics, "local")):
        command.add_argument(
            "--workspace", metavar="NAME", help=f"default: the configuration's, else {usual}"
        )
        command.add_argument("--server", metavar="HOST:PORT", help="default: as a script would find it")


@contextmanager
def connected(server: str | None) -> Iterator[Client]:
    """The server that a script here would log to. Its errors become CommandErrors that say what to do."""
    from runstream.client import Client

    target = home.resolve_server(server)
    if target is None:
        raise CommandError(
            "no server is known. Start one: runstream up. Or say where it is: RUNSTREAM_SERVER=host:port",
            UNREACHABLE,
        )
    try:
        with Client(target.http, target.token, advice=target.advice()) as client:
            yield client
    except ServiceUnavailableError as error:
        raise CommandError(str(error), UNREACHABLE) from error
    except AuthenticationError as error:
        have = f"; the key from {target.token_source} was used" if target.token else "; there is no key here"
        raise CommandError(f"{error}{have}. Set RUNSTREAM_API_KEY.") from error
    except NotFoundError as error:
        raise CommandError(str(error), NOT_FOUND) from error
    except DeadlineError as error:
        raise CommandError(f"{error}. --now does not wait.") from error
    except UserError as error:
        raise CommandError(str(error), 2) from error
    except UnicodeEncodeError as error:  # bytes on the command line that are no UTF-8
        raise CommandError(f"{error.object!r:.300} is no text, so nothing has that name", 2) from None
    except RunstreamError as error:
        raise CommandError(str(error)) from error


def wait_for_local(server: str | None, *, files: bool = False) -> None:
    """Let what scripts on this machine have logged to a server arrive; also the files, if that is wished."""
    from runstream.sender.wait import wait_arrived

    target = home.resolve_server(server)
    if target is not None and not wait_arrived(target.grpc, _LOCAL_S, files=files):
        print("runstream: not all that was logged on this machine is delivered yet", file=sys.stderr)


def chosen_workspace(arguments: argparse.Namespace) -> str | None:
    """The workspace that was named, or is configured here."""
    named = arguments.workspace or os.environ.get("RUNSTREAM_WORKSPACE")
    if named:
        return str(named)
    path = home.find_config()
    try:
        return home.load_config(path).workspace_name if path else None
    except (OSError, ValueError) as error:
        raise CommandError(str(error), 2) from None


# ------------------------------------------------------------------------------------------ runs


def _runs(arguments: argparse.Namespace) -> int:
    from runstream.v1.run_pb2 import RunStatus

    known = {status_name(number): number for number in RunStatus.values() if number}
    statuses = []
    for given in arguments.status:
        if given not in known:
            raise CommandError(f"--status {given}: there are {', '.join(known)}", 2)
        statuses.append(known[given])
    with connected(arguments.server) as client:
        wait_for_local(arguments.server)
        found = client.search_runs(
            chosen_workspace(arguments) or "",
            arguments.experiment,
            statuses,
            filter=arguments.filter,
            order_by=[(field.removeprefix("-"), field.startswith("-")) for field in arguments.sort],
            children_of=arguments.children_of,
            archive="all" if arguments.archived else "active",
            columns=("tags.*", "system.*", "params.*") if arguments.json else (),
            limit=arguments.limit,
            all_events=True,
        )
        if arguments.json:
            for run in found:
                print(json.dumps(_described(run), ensure_ascii=False))
            return 0
        rows = [
            (
                run.ref.run,
                run.experiment,
                status_name(run.status) + (" …" if run.settling else ""),
                _local(run.started_time_ns),
                _duration(run),
                run.display_name,
            )
            for run in found
        ]
    if rows:
        head = ("RUN", "EXPERIMENT", "STATUS", "STARTED", "TOOK", "NAME")
        print_table(head, rows, colours={2: STATUS_COLOURS})
    else:
        print("There are no such runs.", file=sys.stderr)
    return 0


def status_name(number: RunStatus.ValueType) -> str:
    """A status as people see it: Completed, NotResponding."""
    from runstream.v1.run_pb2 import RunStatus

    name = RunStatus.Name(number)
    return "".join(word.capitalize() for word in name.removeprefix("RUN_STATUS_").split("_"))


def _described(run: Run) -> dict[str, Any]:
    from runstream.v1.run_pb2 import ATTRIBUTE_KIND_PARAM, ATTRIBUTE_KIND_TAG

    kinds: dict[int, dict[str, str | None]] = {ATTRIBUTE_KIND_TAG: {}, ATTRIBUTE_KIND_PARAM: {}}
    for attribute in run.attributes:
        value = attribute.value if attribute.HasField("value") else None
        kinds.setdefault(attribute.kind, {})[attribute.key] = value
    return {
        "id": run.ref.run,
        "workspace": run.ref.workspace,
        "experiment": run.experiment,
        "number": run.number,
        "name": run.display_name,
        "status": status_name(run.status),
        "settling": run.settling,
        "attempts": run.attempts,
        "started": _iso(run.started_time_ns),
        "ended": _iso(run.ended_time_ns),
        "error": run.error_message or None,
        "parent": run.parent or None,
        "tags": kinds[ATTRIBUTE_KIND_TAG],
        "params": kinds[ATTRIBUTE_KIND_PARAM],
    }


def _iso(time_ns: int) -> str | None:
    """Exact, in UTC; None for 0."""
    if not time_ns:
        return None
    seconds, rest = divmod(time_ns, 10**9)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09}Z"


def _local(time_ns: int) -> str:
    """To the second, in this place's time."""
    return f"{datetime.fromtimestamp(time_ns // 10**9):%Y-%m-%d %H:%M:%S}" if time_ns else ""


def _duration(run: Run) -> str:
    if not run.started_time_ns or not run.ended_time_ns:
        return ""
    seconds = (run.ended_time_ns - run.started_time_ns) / 1e9
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {seconds:02} s"


# --------------------------------------------------------------------------------------- metrics


def _metrics(arguments: argparse.Namespace) -> int:
    from runstream.client import Selection

    workspace = chosen_workspace(arguments) or "local"
    with connected(arguments.server) as client:
        wait_for_local(arguments.server)
        run = client.get_run(workspace, arguments.id)  # an error when there is none
        _tell_rejections(run)
        _check_attempt(run, arguments.attempt)
        if not arguments.json and not arguments.csv:
            return _summary(client, workspace, arguments)
        found = client.get_metrics(
            workspace,
            [arguments.id],
            Selection(arguments.names, attempt=arguments.attempt or 0),
            allow_settling=arguments.now,
        ).series
    _known_names(arguments, {series.metric for series in found})
    if arguments.json:
        for element in _elements(found):
            element["value"] = _json_value(element["value"])
            print(json.dumps(element, ensure_ascii=False))
    else:
        writer = csv.DictWriter(sys.stdout, ("metric", "column", "row", "step", "time", "value"))
        writer.writeheader()
        writer.writerows(_elements(found))
    return 0


def _tell_rejections(run: Run) -> None:
    from runstream.v1.error_pb2 import ErrorCode

    for rejection in run.rejections:
        elements = f"{rejection.elements:,} elements in " if rejection.elements else ""
        code = ErrorCode.Name(rejection.code).removeprefix("ERROR_CODE_")
        print(
            f"runstream: not stored: {elements}{rejection.records:,} records: "
            f"{printable(rejection.reason)} ({code})",
            file=sys.stderr,
        )


def _check_attempt(run: Run, attempt: int | None) -> None:
    from runstream.core.attempts import attempts_of, no_attempt

    attempts = attempts_of(run)
    if attempt is not None and all(attempt != one.number for one in attempts):
        raise CommandError(no_attempt(run.ref.run, attempt, attempts), NOT_FOUND)


def _summary(client: Client, workspace: str, arguments: argparse.Namespace) -> int:
    listed = client.list_series(
        workspace, arguments.id, attempt=arguments.attempt or 0, allow_settling=arguments.now
    )
    _known_names(arguments, {info.series.metric for info in listed})
    rows = [
        (
            info.series.metric,
            info.series.column,
            f"{info.count:,}",
            f"{info.last:.6g}" if info.HasField("last") else "",
            info.series.description,
        )
        for info in listed
        if not arguments.names or info.series.metric in arguments.names
    ]
    if rows:
        print_table(("METRIC", "COLUMN", "COUNT", "LAST", "DESCRIPTION"), rows, right=(2, 3))
    else:
        who = "run" if arguments.attempt is None else "attempt"
        print(f"The {who} has logged nothing.", file=sys.stderr)
    return 0


def _known_names(arguments: argparse.Namespace, known: set[str]) -> None:
    unknown = [name for name in arguments.names if name not in known]
    if unknown:
        who = "run" if arguments.attempt is None else "attempt"
        raise CommandError(f"the {who} has no metric {', '.join(unknown)}", NOT_FOUND)


def _elements(found: Iterable[Series]) -> Iterator[dict[str, Any]]:
    from runstream.columns import NO_STEP

    for series in found:
        columns = (series.row.tolist(), series.step.tolist(), series.logged_time_ns.tolist(), series.values())
        for row, step, time_ns, value in zip(*columns, strict=True):
            yield {
                "metric": series.metric,
                "column": series.column,
                "row": row,
                "step": None if step == NO_STEP else step,
                "time": _iso(time_ns),
                "value": value,
            }


def _json_value(value: Any) -> Any:
    """JSON has no word for these numbers; protobuf's JSON uses the same texts."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, int) and value.bit_length() > 2000:  # more than an interpreter may convert at once
        return to_decimal(value)
    return value
