"""Runs an engine until it is told to end: `python -m deploy.engines kafka|redis|clickhouse|s3 [options]`."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from pathlib import Path

from deploy.engines.clickhouse import ClickHouse
from deploy.engines.kafka import Kafka
from deploy.engines.process import EngineFailed, EngineMissing
from deploy.engines.redis import Redis
from deploy.engines.s3 import S3


def main() -> int:
    """Starts what was asked for, prints its address, and stops it at SIGINT or SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m deploy.engines", description=main.__doc__)
    parser.add_argument("engine", choices=["kafka", "redis", "clickhouse", "s3"])
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="data and logs")
    parser.add_argument("--brokers", type=int, choices=[1, 3], default=1, help="of Kafka (1)")
    parser.add_argument("--port", type=int, action="append", default=[], help="one for each; else free ones")
    arguments = parser.parse_args()
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    engine: Kafka | Redis | ClickHouse | S3
    try:
        if arguments.engine == "kafka":
            if arguments.port and len(arguments.port) != arguments.brokers:
                parser.error(f"--port is needed {arguments.brokers} times, or not at all")
            engine = Kafka(arguments.data, brokers=arguments.brokers, ports=tuple(arguments.port))
        elif arguments.engine == "s3":
            engine = S3(arguments.data, port=(arguments.port or [0])[0])
        elif arguments.engine == "clickhouse":
            engine = ClickHouse(arguments.data, port=(arguments.port or [0])[0])
        else:
            engine = Redis(arguments.data, port=(arguments.port or [0])[0], install=True)
        engine.start()
    except (EngineMissing, EngineFailed) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{engine.version()}: {engine.url}, logs in {arguments.data}", flush=True)
    try:
        ended.wait()
    finally:
        engine.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
