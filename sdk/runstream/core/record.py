"""A run as the server has it, or as the process knows it that began it, in plain values."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

from runstream.core.facts import Facts

if TYPE_CHECKING:
    from runstream.v1.query_service_pb2 import Run

FINAL: Final = ("Completed", "Failed", "Canceled")
"""Statuses that stay."""

# runstream.v1.AttributeKind
_TAG: Final = 1
_PROPERTY: Final = 2
_PARAM: Final = 3
_SYSTEM: Final = 4

Texts = Mapping[str, str | None]


class RunRecord(NamedTuple):
    """Times in Unix nanoseconds, 0 for none."""

    id: str
    experiment: str
    number: int | None
    display_name: str
    description: str
    status: str
    run_type: str
    parent: str
    started_ns: int
    ended_ns: int
    error_message: str
    error_code: str
    archived: bool
    attempts: int
    tags: Texts
    properties: Texts
    params: Texts
    system: Texts
    metrics: Mapping[str, float] = MappingProxyType({})
    """The last number of each metric, where a search asked for them."""


def record_of(run: "Run") -> RunRecord:
    """From the server's message, which has all kinds of attributes."""
    attributes: dict[int, dict[str, str | None]] = {kind: {} for kind in (_TAG, _PROPERTY, _PARAM, _SYSTEM)}
    for attribute in run.attributes:
        value = attribute.value if attribute.HasField("value") else None
        attributes.setdefault(attribute.kind, {})[attribute.key] = value
    return RunRecord(
        id=run.ref.run,
        experiment=run.experiment,
        number=run.number or None,
        display_name=run.display_name,
        description=run.description or attributes[_SYSTEM].get("description") or "",
        status=status_of(run),
        run_type=run.run_type,
        parent=run.parent,
        started_ns=run.started_time_ns,
        ended_ns=run.ended_time_ns,
        error_message=run.error_message,
        error_code=run.error_code,
        archived=run.archived,
        attempts=run.attempts,
        tags=attributes[_TAG],
        properties=attributes[_PROPERTY],
        params=attributes[_PARAM],
        system=attributes[_SYSTEM],
        metrics={one.metric: one.last for one in run.metrics if one.HasField("last") and not one.column},
    )


def record_of_facts(run_id: str, experiment: str, facts: Facts) -> RunRecord:
    """From what this process has said itself."""
    return RunRecord(
        id=run_id,
        experiment=experiment,
        number=None,
        display_name=facts.display_name,
        description=facts.description,
        status=facts.status or "NotStarted",
        run_type=facts.run_type,
        parent=facts.parent,
        started_ns=facts.started_ns,
        ended_ns=facts.ended_ns,
        error_message=facts.error_message,
        error_code=facts.error_code,
        archived=False,
        attempts=1,
        tags=dict(facts.tags),
        properties=dict(facts.properties),
        params=dict(facts.params),
        system={},
    )


def status_of(run: "Run") -> str:
    """RUN_STATUS_NOT_RESPONDING → NotResponding; NotStarted when nothing is known of a start."""
    enum = run.DESCRIPTOR.fields_by_name["status"].enum_type
    name = enum.values_by_number[run.status].name if enum and run.status in enum.values_by_number else ""
    words = name.removeprefix("RUN_STATUS_").split("_")
    return "".join(word.capitalize() for word in words) if run.status and name else "NotStarted"


def iso_time(time_ns: int) -> str | None:
    """UTC with microseconds, as the compatible API has it; None for none."""
    from datetime import UTC, datetime

    if not time_ns:
        return None
    return f"{datetime.fromtimestamp(time_ns / 1e9, UTC):%Y-%m-%dT%H:%M:%S.%f}Z"
