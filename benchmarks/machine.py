"""What a figure was measured on."""

from __future__ import annotations

import os
import platform
from importlib import metadata

PACKAGES = ("runstream", "chdb", "clickhouse-connect", "pyarrow", "numpy", "grpcio", "protobuf")


def describe() -> str:
    """Versions, cores and load, in a line or two."""
    versions = []
    for package in PACKAGES:
        try:
            versions.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            versions.append(f"no {package}")
    load = " ".join(f"{value:.2f}" for value in os.getloadavg())
    system = f"Python {platform.python_version()}, {platform.system()} {platform.release()}"
    return f"{system}, {os.cpu_count()} cores, load {load}\n{', '.join(versions)}"
