"""Addresses of pages. Stable, and made without asking anything: scripts make the same ones offline."""

from __future__ import annotations

from urllib.parse import quote


def run_path(workspace: str, run: str) -> str:
    """Path of a run's page."""
    return f"/w/{quote(workspace, safe='')}/r/{quote(run, safe='')}"


def experiment_path(workspace: str, experiment: str) -> str:
    """Path of an experiment's page."""
    return f"/w/{quote(workspace, safe='')}/e/{quote(experiment, safe='')}"


def run_url(public_url: str, workspace: str, run: str) -> str:
    """Address of a run's page."""
    return public_url.rstrip("/") + run_path(workspace, run)


def share_url(public_url: str, token: str) -> str:
    """Address of the page of a share."""
    return f"{public_url.rstrip('/')}/s/{quote(token, safe='')}"
