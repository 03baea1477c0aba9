"""Runs the benchmarks one after the other, each in a process of its own.

python -m benchmarks [name …]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from typing import Final

NAMES: Final = (
    *("log_call", "short_run", "pipeline", "latency", "reads", "idle", "insert", "log_append"),
    "files",
    "capture",
    "kafka",
    "crowd",
    "search",
    "charts",
    "portal",
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", nargs="*", help=f"{', '.join(NAMES)}; all by default")
    names = parser.parse_args().name or NAMES
    unknown = set(names) - set(NAMES)
    if unknown:
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}")
    failed = []
    for name in names:
        print(f"== {name}", flush=True)
        if subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=False).returncode:
            failed.append(name)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
