"""Workspaces, experiments and runs as the last line of a notebook's cell, and as text."""

from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from runstream.core import reads

if TYPE_CHECKING:
    from runstream.core.experiment import Experiment
    from runstream.core.run import Run
    from runstream.core.workspace import Workspace

_LINKED: Final = ("http://", "https://")


def escape(text: str) -> str:
    """As `html.escape`, whose table of entities takes milliseconds to load in every script."""
    import html

    return html.escape(text)


def workspace_html(workspace: "Workspace") -> str:
    """A table of one row."""
    return table(
        {
            "Name": name(workspace.name),
            "Location": escape(workspace.location),
            "Report Page": link(reads.portal_base(workspace), "Link to runstream"),
            "Docs Page": link(docs_url(workspace), "Link to Documentation"),
        }
    )


def experiment_url(experiment: "Experiment") -> str:
    """Address of the experiment's page."""
    place = quote(experiment.workspace.name, safe=""), quote(experiment.name, safe="")
    return f"{reads.portal_base(experiment.workspace)}/w/{place[0]}/e/{place[1]}"


def experiment_html(experiment: "Experiment") -> str:
    """A table of one row."""
    return table(
        {
            "Name": name(experiment.name),
            "Workspace": name(experiment.workspace.name),
            "Report Page": link(experiment_url(experiment), "Link to runstream"),
            "Docs Page": link(docs_url(experiment.workspace), "Link to Documentation"),
        }
    )


def experiment_text(experiment: "Experiment") -> str:
    """As `str` gives it."""
    return f"Experiment(Name: {experiment.name},\nWorkspace: {experiment.workspace.name})"


def run_html(run: "Run") -> str:
    """A table of one row."""
    experiment, kind, status = _state(run)
    return table(
        {
            "Experiment": name(experiment),
            "Id": name(run.id),
            "Type": escape(kind or ""),
            "Status": escape(status),
            "Details Page": link(run.get_portal_url(), "Link to runstream"),
            "Docs Page": link(docs_url(run.experiment.workspace), "Link to Documentation"),
        }
    )


def run_text(run: "Run") -> str:
    """As `str` gives it."""
    experiment, kind, status = _state(run)
    return f"Run(Experiment: {experiment},\nId: {run.id},\nType: {kind},\nStatus: {status})"


def _state(run: "Run") -> tuple[str, str | None, str]:
    """Experiment, type and status. Never raises; for a run of this process no server is asked."""
    state, given = run._state, run.experiment.name
    if state.status is not None and state.facts.started_ns:
        return given, state.facts.run_type or None, state.status
    found, _ = run._glance()
    if found is None:
        return given, None, state.status or "unknown"
    return found.experiment or given, found.run_type or None, found.status


def docs_url(workspace: "Workspace") -> str:
    """Address of the documentation that the workspace's server has."""
    return f"{reads.portal_base(workspace)}/docs"


def name(text: str) -> str:
    """A name, which may be broken anywhere: it can be long."""
    return f'<span style="overflow-wrap:anywhere">{escape(text)}</span>'


def link(url: str, text: str) -> str:
    """An anchor that opens a page of its own. An address that is none of the web's is only shown."""
    if not url.startswith(_LINKED):
        return escape(url)
    return f'<a href="{escape(url)}" target="_blank" rel="noopener noreferrer">{escape(text)}</a>'


def table(cells: dict[str, str]) -> str:
    """Heads and cells, which are HTML already."""
    left = "text-align:left"  # a notebook's own style is for numbers
    head = "".join(f'<th style="{left};white-space:nowrap">{name}</th>' for name in cells)
    row = "".join(f'<td style="{left}">{cell}</td>' for cell in cells.values())
    return f'<table style="width:100%;table-layout:auto"><tr>{head}</tr><tr>{row}</tr></table>'
