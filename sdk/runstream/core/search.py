"""Finding runs: of an experiment, of a workspace, of a family."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

from runstream.core import reads
from runstream.core.facts import Facts
from runstream.core.record import RunRecord, record_of, record_of_facts
from runstream.core.state import RunState
from runstream.core.values import text_of
from runstream.core.workspace import Workspace
from runstream.errors import ServiceUnavailableError, UserError
from runstream.spool.layout import clean

if TYPE_CHECKING:
    from runstream.core.run import Run

Wanted = str | Mapping[str, object] | None
"""A key that a run must have, or keys and values that it must all have. None: whatever."""

_COLUMNS: Final = ("tags.*", "properties.*", "params.*", "system.*")
STATUSES: Final = (
    "NotStarted", "Queued", "Preparing", "Provisioning", "Starting", "Running", "CancelRequested", "Canceled",
    "Finalizing", "Completed", "Failed", "Unapproved", "NotResponding", "Pausing", "Paused",
)  # fmt: skip


_ASKED: Final = frozenset(STATUSES) - {"Provisioning", "Unapproved", "Pausing", "Paused"}  # the server's


class Family(NamedTuple):
    """Which relatives."""

    of: str
    """Id of the parent."""
    recursive: bool
    """Their children too, and so on."""


class Query(NamedTuple):
    """Which runs. All conditions must hold."""

    tags: Wanted = None
    properties: Wanted = None
    run_type: str | None = None
    status: str | None = None
    experiment: str | None = None
    family: Family | None = None
    """None: any run."""
    top_level: bool = False
    """Without those that have a parent."""
    filter: str | None = ""
    """In the filter language (docs/search.md)."""
    archived: bool = False
    """Archived ones too."""
    metrics: bool = False
    """With the last number of each metric."""
    most: int | None = None
    """The newest of those that the server finds, at most so many."""

    def check(self) -> None:
        """Raises UserError for conditions that can't be met because they are malformed."""
        for what, wanted in (("tags", self.tags), ("properties", self.properties)):
            if wanted is not None and not isinstance(wanted, str | Mapping):
                raise UserError(f"{what} is a key or a dictionary, not {wanted!r:.100}")
            if isinstance(wanted, Mapping) and not all(isinstance(key, str) for key in wanted):
                raise UserError(f"{what} has keys that are texts, not {wanted!r:.100}")
        given: dict[str, object] = {"type": self.run_type, "filter": self.filter}
        for what, text in given.items():
            if text is not None and not isinstance(text, str):
                raise UserError(f"{what} is a text, not {text!r:.100}")
        if self.status is not None and self.status not in STATUSES:
            raise UserError(f"{self.status!r} is no status; they are {', '.join(STATUSES)}")

    def condition(self) -> str:
        """All that the filter language can say of it. `takes` is asked as well: it knows more exactly."""
        parts = [f"({self.filter})"] if self.filter and self.filter.strip() else []
        for group, wanted in (("tags", self.tags), ("properties", self.properties)):
            if isinstance(wanted, str):
                parts.append(f"{group}.{_quoted(wanted, '`')}")
            elif wanted is not None:
                for key, value in wanted.items():
                    field = f"{group}.{_quoted(key, '`')}"
                    text = text_of(value)
                    parts.append(field if text is None else f"{field} == {_quoted(text, chr(34))}")
        if self.run_type is not None:
            parts.append(f"type == {_quoted(self.run_type, chr(34))}")
        if self.status in _ASKED:
            parts.append(f"status == {_quoted(self.status, chr(34))}")
        return clean(" and ".join(parts))

    def takes(self, run: RunRecord) -> bool:
        """Whether a run is wanted, as far as its record tells."""
        return (
            has_all(run.tags, self.tags)
            and has_all(run.properties, self.properties)
            and (self.run_type is None or run.run_type == self.run_type)
            and (self.status is None or run.status == self.status)
            and not (self.top_level and run.parent)
            and (self.family is None or self.family.recursive or run.parent == self.family.of)
        )


def _quoted(text: str, quote: str) -> str:
    """A name in backticks or a text in quotes, so that nothing in it ends it."""
    if quote == '"':
        text = text.replace("\\", "\\\\")
    return f"{quote}{text.replace(quote, 2 * quote)}{quote}"


def has_all(found: Mapping[str, str | None], wanted: Wanted) -> bool:
    """Whether keys and values are there."""
    if wanted is None:
        return True
    if isinstance(wanted, str):
        return clean(wanted) in found
    return all(clean(key) in found and found[clean(key)] == text_of(value) for key, value in wanted.items())


def runs_of(workspace: Workspace, query: Query, asking: RunState | None = None) -> "Iterator[Run]":
    """The runs, newest start first. Raises UserError at once for a malformed query.

    :param asking: the parent that asks: without a server the children that it began itself are found.
    """
    query.check()
    return _found(workspace, query, asking)


def _found(workspace: Workspace, query: Query, asking: RunState | None) -> "Iterator[Run]":
    from runstream.core.run import Run

    for found in records_of(workspace, query, asking):
        yield Run._of(workspace, found)


def records_of(workspace: Workspace, query: Query, asking: RunState | None = None) -> Iterator[RunRecord]:
    """The same as records."""
    try:
        yield from _asked(workspace, query)
        return
    except ServiceUnavailableError:
        if asking is None or query.family is None or query.filter or not asking.facts.whole:
            raise
    for found in _known_family(asking.facts, asking.experiment, query.family.recursive):
        if query.takes(found):
            yield found


def _asked(workspace: Workspace, query: Query) -> Iterator[RunRecord]:
    """From the server."""
    positions, http = reads.arrived(workspace)
    family = query.family
    for run in reads.client(workspace, http).search_runs(
        workspace.name,
        [query.experiment] if query.experiment else [],
        filter=query.condition(),
        children_of=family.of if family and not family.recursive else None,
        descendants_of=family.of if family and family.recursive else None,
        top_level=query.top_level,
        archive="all" if query.archived else "active",
        columns=(*_COLUMNS, "metrics.*") if query.metrics else _COLUMNS,
        limit=query.most,
        positions=positions,
        all_events=True,
    ):
        found = record_of(run)
        if query.takes(found):
            yield found


def _known_family(facts: Facts, experiment: str, recursive: bool) -> Iterator[RunRecord]:
    """Children that this process has started itself: all that there are, when no server has any."""
    for run_id, child in reversed(list(facts.children.items())):
        yield record_of_facts(run_id, experiment, child)
        if recursive:
            yield from _known_family(child, experiment, recursive)
