"""A process with ingest and writers, to be killed: `python -m tests.ingest_process FOLDER`.

Prints its address when it listens, and ends when its standard input does.
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace
from pathlib import Path

from tests.pipeline import Pipeline, pipeline


def _change(made: Pipeline) -> None:
    made.settings = replace(made.settings, trim=True, trim_interval_s=0.2, applied_interval_s=0.1)


async def _serve(folder: Path) -> None:
    async with pipeline(folder, _change) as made:
        print(made.address, flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1])))
