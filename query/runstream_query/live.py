"""What the leases of the moment make of the summaries of runs.

A stored status supposes that no lease is renewed. Only of runs with an open writer whose lease is, the status
of now is computed from the events: these are the ones that are going on.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from runstream_query.filter_sql import ENDED, STARTED, STATUS
from runstream_query.runs import RunReader, these
from runstream_query.sql import Clause, ask

Key = tuple[str, str]

_OPEN: Final = """
SELECT toString(r.workspace) AS workspace, r.run AS run, arrayJoin(r.open) AS writer
FROM run_summaries AS r FINAL WHERE {scope} AND notEmpty(r.open)
"""


_LIVE_JOIN: Final = """
LEFT JOIN (
    SELECT t.1 AS workspace, t.2 AS run, t.3 AS status, t.4 AS started, t.5 AS ended
    FROM (SELECT arrayJoin({live:Array(Tuple(String, String, UInt8, Int64, Int64))}) AS t)
) AS l ON r.workspace = l.workspace AND r.run = l.run
"""
_AS_LIVE: Final = (
    f"if(l.run != '', l.status, r.status) AS {STATUS},"
    f" if(l.run != '', l.started, r.started) AS {STARTED}, if(l.run != '', l.ended, r.ended) AS {ENDED}"
)
_AS_STORED: Final = f"r.status AS {STATUS}, r.started AS {STARTED}, r.ended AS {ENDED}"


@dataclass(frozen=True, slots=True)
class Live:
    """States of the runs that are going on."""

    states: Mapping[Key, Mapping[str, Any]] = field(default_factory=dict)
    """Rows of `runs_sql`."""

    @property
    def params(self) -> dict[str, object]:
        """As bound values."""
        return {
            "live": [
                (*key, state["status"], state["started"], state["ended"])
                for key, state in self.states.items()
            ]
        }


def as_live(live: Live) -> str:
    """The columns STATUS, STARTED and ENDED of `run_summaries AS r`, with `join_live`."""
    return _AS_LIVE if live.states else _AS_STORED


def join_live(live: Live) -> str:
    """What is joined for them; the values are `Live.params`."""
    return _LIVE_JOIN if live.states else ""


class LiveStates:
    """Reads the states of runs that are going on.

    What was read last is remembered: as long as no event came and the same leases are renewed it is the same.
    """

    def __init__(self, runs: RunReader) -> None:
        self.runs = runs
        self._known: tuple[object, Live] | None = None

    async def read(self, scope: Clause) -> Live:
        """Those within a scope, a condition on `run_summaries AS r`."""
        settings = self.runs.settings
        applied = await self.runs.hot.applied_positions("runs")  # before it is read
        sql = _OPEN.replace("{scope}", scope.sql)
        found = await ask(self.runs.tables, sql, scope.params, settings.query_timeout_s)
        if not found.num_rows:
            return Live()
        writers = found["writer"].to_pylist()
        distinct = list(dict.fromkeys(writers))
        lives = await self.runs.hot.lease_alive(distinct, time.time_ns())
        alive = {writer for writer, lease in zip(distinct, lives, strict=True) if lease}
        if not alive:
            return Live()
        workspaces, runs = found["workspace"].to_pylist(), found["run"].to_pylist()
        keys = sorted(
            {
                (workspace, run)
                for workspace, run, writer in zip(workspaces, runs, writers, strict=True)
                if writer in alive
            }
        )
        basis = (keys, alive, applied)
        if applied and self._known is not None and self._known[0] == basis:
            return self._known[1]
        states: dict[Key, Mapping[str, Any]] = {}
        for low in range(0, len(keys), settings.plan_runs):
            part = keys[low : low + settings.plan_runs]
            for state in await self.runs.states(these(part, "e."), alive):
                states[state["workspace"], state["run"]] = state
        live = Live(states)
        self._known = (basis, live)
        return live
