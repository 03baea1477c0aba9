"""Starts `victim.py`, and kills it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import sys
from collections.abc import AsyncIterator
from pathlib import Path

ROOT = Path(__file__).parents[2]


@contextlib.asynccontextmanager
async def victim(what: str, url: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process that has opened the engine. It is killed at the end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(Path(__file__).with_name("victim.py")),
        what,
        url,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        assert process.stdout is not None
        line = await process.stdout.readline()
        assert line == b"ready\n", "the process did not start; its error output is above"
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


async def acknowledged(what: str, url: str, seed: int) -> list[list[int]]:
    """Lets it run until a random moment and kills it. Returns the numbers in its lines `acked …`."""
    moments = random.Random(seed)
    lines: list[bytes] = []
    async with victim(what, url) as process:
        assert process.stdout is not None
        for _ in range(moments.randrange(1, 60)):
            lines.append(await process.stdout.readline())
        await asyncio.sleep(moments.random() * 0.02)
        process.kill()
        rest = await process.stdout.read()
        lines += [line for line in rest.splitlines(keepends=True) if line.endswith(b"\n")]
    assert all(line.startswith(b"acked ") for line in lines)
    return [[int(part) for part in line.split()[1:]] for line in lines]
