"""Settings of the query service."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class QuerySettings:
    """What the query service is told at its start."""

    public_url: str = "http://127.0.0.1:7301"
    """Base of the links that are given out: how people reach the HTTP port. Its host may be asked for."""
    hosts: tuple[str, ...] = ()
    """More host names, without a port, by which the HTTP port may be asked for; loopback names always may."""
    barrier_timeout_ms: int = 30_000
    """How long a read waits when it does not say."""
    batch_elements: int = 250_000
    """Small metrics are read together, in queries of about this many elements."""
    page_elements: int = 500_000
    """Large metrics are read in pages of about this many elements: what a read holds in memory, twice."""
    chunk_elements: int = 65_536
    """Most elements in one message: with all columns it stays below the 4 MiB that gRPC takes by default."""
    chunk_text_bytes: int = 1 << 20
    """Most text in one message, unless a single text is longer."""
    plan_runs: int = 2_000
    """So many runs are looked up in one query."""
    query_timeout_s: float = 120.0
    """Longest time of one query."""
